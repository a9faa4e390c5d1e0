"""Options that MACE models need: kinds of interaction, radial functions, readouts, heads, isolated atoms."""

import json

import numpy as np
import pytest
import torch
from ase import Atoms
from small_models import build, graph, molecule

from mace_gaunt.model.checkpoint import DESCRIPTION, load_model, save_model
from mace_gaunt.model.elements import COVALENT_RADII
from mace_gaunt.model.gradients import predict
from mace_gaunt.model.package import check_metadata, describe_package
from mace_gaunt.model.radial import polynomial_cutoff
from mace_gaunt.model.radial_features import RadialFeatures

LENGTHS = torch.linspace(0.3, 3.9, 25, dtype=torch.float64)[:, None]
EDGES = torch.tensor([[0] * 25, [1] * 25])
OPTIONS = {
    "agnostic": {"interaction": "agnostic"},
    "density": {"interaction": ["density", "density_residual"]},
    "gaussian agnesi": {"radial": {"basis": "gaussian", "transform": "agnesi", "gate": "tanh"}},
    "soft, envelope on weights": {"radial": {"transform": "soft", "envelope": "weights"}, "interaction": "density"},
    "orders": {"correlation": [3, 1], "readouts": ["none", "linear"]},
    "mace's energies": {"isolated_atoms": "predicted", "zbl": {"scaled": True, "power": 0.3}, "gate": "abs"},
    "heads": {"heads": ["a", "Default"], "E0s": [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]], "scale": [0.5, 2.0]},
}


def features(settings):
    return RadialFeatures(4.0, 3, 5, [1, 8], settings).double()


@pytest.mark.parametrize("choice", ["gaunt", "clebsch_gordan", "vector_gaunt"])
@pytest.mark.parametrize("option", OPTIONS)
def test_forces_are_derivatives_with_every_option(option, choice):
    model = build(choice, **OPTIONS[option])
    atoms, step = molecule(), 1e-4
    forces = predict(model, graph(atoms, model))["forces"].detach().numpy()
    for atom, axis in ((0, 0), (4, 2)):
        energies = []
        for sign in (1, -1):
            moved = atoms.copy()
            moved.positions[atom, axis] += sign * step
            energies.append(predict(model, graph(moved, model))["energy"].item())
        assert forces[atom, axis] == pytest.approx(-(energies[0] - energies[1]) / (2 * step), abs=2e-5)


@pytest.mark.parametrize("option", [name for name in OPTIONS if name != "mace's energies"])
def test_isolated_atoms_have_their_e0_with_every_option(option):
    model = build("gaunt", **OPTIONS[option])
    for number, energy in zip(model.atomic_numbers, model.E0s.tolist(), strict=True):
        assert predict(model, graph(Atoms([number]), model))["energy"].item() == energy


@pytest.mark.parametrize("option", OPTIONS)
def test_model_folder_keeps_every_option(option, tmp_path):
    model = build("gaunt", **OPTIONS[option])
    loaded = load_model(save_model(model, tmp_path))
    assert loaded.hyperparameters == model.hyperparameters
    data = graph(molecule(), model)
    assert torch.equal(predict(loaded, data)["forces"], predict(model, data)["forces"])


def test_models_without_options_are_written_as_before(tmp_path):
    save_model(build("gaunt"), tmp_path)
    written = json.loads((tmp_path / DESCRIPTION).read_text())["hyperparameters"]
    assert not {"interaction", "radial", "readouts", "isolated_atoms", "heads"} & set(written)
    assert written["correlation"] == 3 and written["E0s"] == [-13.6, -1029.5, -2041.9] and written["zbl"] is False


def test_predicted_energies_leave_isolated_atoms_as_they_are_read():
    model = build("gaunt", isolated_atoms="predicted", shift=-0.3)
    energy = predict(model, graph(Atoms("C"), model))["interaction_energy"].item()
    assert abs(energy + 0.3) > 1e-3, "the skip connection reaches the readouts"
    shifted = build("gaunt", isolated_atoms="predicted", shift=0.7)
    assert predict(shifted, graph(Atoms("C"), shifted))["interaction_energy"].item() == pytest.approx(energy + 1.0)


def test_scaled_zbl_is_multiplied_by_the_scale():
    atoms = Atoms("C2", [[0, 0, 0], [0, 0, 0.7]])
    energies = []
    for zbl in (False, {}, {"scaled": True}):
        model = build(
            "gaunt", isolated_atoms="predicted", scale=0.5, zbl=zbl if zbl is False else {"coulomb": 10.0, **zbl}
        )
        energies.append(predict(model, graph(atoms, model))["energy"].item())
    assert energies[2] - energies[0] == pytest.approx(0.5 * (energies[1] - energies[0]))


def test_gaussian_basis():
    found, envelope = features({"basis": "gaussian"})(LENGTHS, torch.tensor([0, 1]), EDGES)
    expected = torch.exp(-0.5 * (LENGTHS - torch.tensor([0.0, 2.0, 4.0])).square() / 4.0)
    torch.testing.assert_close(found, expected * polynomial_cutoff(LENGTHS, 4.0, 5))
    assert envelope is None
    with pytest.raises(ValueError, match="at least 2"):
        RadialFeatures(4.0, 1, 5, [1], {"basis": "gaussian"})


def test_agnesi_transform():
    transform = features({"transform": "agnesi"}).transform
    x = LENGTHS / (0.5 * (COVALENT_RADII[1] + COVALENT_RADII[8]))
    expected = 1 / (1 + 1.0805 * x**0.9183 / (1 + x ** (0.9183 - 4.5791)))
    torch.testing.assert_close(transform(LENGTHS, EDGES), expected)
    near = transform(torch.full((1, 1), 1e-3, dtype=torch.float64), EDGES[:, :1])
    assert near.item() == pytest.approx(1.0, abs=1e-6)


def test_soft_transform_leaves_long_lengths_and_flattens_short_ones():
    transform = features({"transform": {"name": "soft", "radii": [0.5, 0.5], "alpha": 6.0}}).transform
    found = transform(LENGTHS, EDGES)[:, 0]
    torch.testing.assert_close(found[LENGTHS[:, 0] > 2.5], LENGTHS[LENGTHS > 2.5], atol=1e-6, rtol=0)
    assert found[0].item() == pytest.approx(0.75, abs=1e-4)


def test_constants_replace_the_exact_ones():
    given = features({"basis": {"name": "bessel", "frequencies": [1.0, 2.0, 3.0], "prefactor": 2.0}})
    expected = 2.0 * torch.sin(torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64) * LENGTHS) / LENGTHS
    torch.testing.assert_close(given.basis.values(LENGTHS), expected)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"interaction": "dense"}, "unknown interaction 'dense'. Did you mean 'density'"),
        ({"interaction": ["density"]}, "interaction has 1 entries, and there are 2 layers"),
        ({"correlation": [1, 2, 3]}, "correlation has 3 entries"),
        ({"readouts": ["none", "none"]}, "one layer at least"),
        ({"readouts": ["none", "mpl"]}, "unknown readout 'mpl'. Did you mean 'mlp'"),
        ({"isolated_atoms": "free"}, "'E0' or 'predicted'"),
        ({"radial": {"basis": "bassel"}}, "radial.basis: unknown 'bassel'. Did you mean 'bessel'"),
        ({"radial": {"bases": "bessel"}}, "no key 'bases'. Did you mean 'basis'"),
        ({"radial": {"basis": {"name": "bessel", "frequency": [1]}}}, "has no constant 'frequency'"),
        ({"radial": {"basis": {"name": "bessel", "frequencies": [1]}}}, "as many frequencies"),
        ({"radial": {"transform": "agnes"}}, "radial.transform: unknown 'agnes'"),
        ({"radial": {"transform": {"name": "soft", "radii": [1.0]}}}, "radii must be 3 finite numbers"),
        ({"radial": {"envelope": "both"}}, "'features' or 'weights'"),
        ({"heads": ["a", "a"]}, "different names"),
        ({"heads": ["a", "b"], "scale": [1.0]}, "scale has 1 entries, and there are 2 heads"),
        ({"heads": ["a", "b"], "E0s": [[1.0, 2.0, 3.0]]}, "E0s has 1 entries"),
        ({"heads": ["a", "b"], "E0s": [[1.0], [2.0]]}, "E0s needs one energy per element"),
    ],
)
def test_impossible_options_are_named(changes, message):
    with pytest.raises(ValueError) as error:
        build("gaunt", **changes)
    assert message in str(error.value)


def test_heads_share_the_trunk_and_differ_in_the_rest():
    model = build("gaunt", **OPTIONS["heads"], shift=[0.1, 0.2])
    assert (model.head, model.scale, model.shift, model.E0s.tolist()) == ("Default", 2.0, 0.2, [4.0, 5.0, 6.0])
    data = graph(molecule(), model)
    default = predict(model, data)["forces"]
    other = predict(model.choose_head("a"), data)["forces"]
    assert (model.head, model.scale, model.E0s.tolist()) == ("a", 0.5, [1.0, 2.0, 3.0])
    assert not np.allclose(default.detach(), other.detach())
    assert torch.equal(predict(model.choose_head("Default"), data)["forces"], default)
    assert model.float().E0s.dtype == torch.float64
    with pytest.raises(ValueError, match="no head 'b'"):
        model.choose_head("b")
    with pytest.raises(ValueError, match="one head without a name"):
        build("gaunt").choose_head("a")


def test_a_package_is_of_one_head(tmp_path):
    model = build("gaunt", **OPTIONS["heads"])
    info = describe_package(model, ["aten"], "hash")
    assert info["head"] == "Default"
    check_metadata(info, tmp_path, model, "hash")
    with pytest.raises(ValueError, match="is for head 'Default', and here it is 'a'"):
        check_metadata(info, tmp_path, model.choose_head("a"), "hash")
