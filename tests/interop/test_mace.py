"""Models of mace-torch: the same numbers by every way in which this program computes."""

import copy
import json

import numpy as np
import pytest
import torch
from mace_cases import CASES, ROOT, converted, files, reference, structures

from mace_gaunt.data.atomic_data import AtomicData
from mace_gaunt.data.collate import collate
from mace_gaunt.errors import UserError
from mace_gaunt.interop.mace import from_state_dict
from mace_gaunt.interop.mace_files import read_files
from mace_gaunt.interop.mace_paths import mace_paths, polynomials_of
from mace_gaunt.interop.mace_probe import largest_differences
from mace_gaunt.interop.mace_weights import constant
from mace_gaunt.model.checkpoint import load_model, save_model
from mace_gaunt.model.compiled import trace_gradient
from mace_gaunt.model.descriptors import node_scalars
from mace_gaunt.model.gradients import edge_gradient, edge_vectors, pair_vectors, predict
from mace_gaunt.model.kernels import use_kernels
from mace_gaunt.simulation.calculator import MaceGauntCalculator
from mace_gaunt.simulation.loading import open_model

SHARED = ["mace_reference/dev1_small_l1", "mace_reference/dev2_pbc_l0_corr3", "mace_trained/3bpa_l0_ell3_corr3"]
SHARED += ["mace_trained/gst_l1_ell3_corr2_pbc", "mace_trained/solvent_l0_corr2"]


def graph(model, index=0):
    return AtomicData.from_atoms(structures()[index], model.r_max, model.atomic_numbers)


def agree(found, expected, tolerance=1e-11):
    for name in ("energy", "node_energy", "forces", "stress"):
        torch.testing.assert_close(found[name], expected[name], atol=tolerance, rtol=0, equal_nan=True, msg=name)


@pytest.mark.parametrize("name", CASES)
def test_equals_mace_torch(name):
    differences = largest_differences(converted(name), ROOT / name, ROOT)
    assert max(differences.values()) < 1e-10, differences


@pytest.mark.parametrize("name", CASES)
def test_cases_are_sensitive_to_every_order(name):
    settings, _ = files(name)
    changes = json.loads((ROOT / name / "config.json").read_text())["force_change_without"]
    orders = settings["correlation"]
    assert len(changes) == (sum(orders) if isinstance(orders, list) else orders * settings["num_interactions"])
    assert min(changes.values()) > 0.1


@pytest.mark.parametrize("name", SHARED)
def test_equals_mace_torch_for_other_peoples_models(name, shared_data):
    folder = shared_data / name
    if not folder.is_dir():
        pytest.skip(f"needs {folder}")
    differences = largest_differences(from_state_dict(*read_files(folder)), folder)
    assert differences["energy"] < 1e-8 and differences["node_energy"] < 1e-8 and differences["forces"] < 1e-8
    assert not differences["stress"] > 1e-8


@pytest.mark.parametrize("kernel", ["sparse", "aligned", "fused", "e3nn"])
@pytest.mark.parametrize("name", ["agnostic_later", "order_4"])
def test_every_kernel_gives_the_same(name, kernel):
    model = converted(name)
    expected = predict(model, graph(model, 1), stress=True)
    try:
        use_kernels(model, kernel)
    except UserError as error:
        pytest.skip(str(error))
    agree(predict(model, graph(model, 1), stress=True), expected)


@pytest.mark.parametrize("name", ["density_agnesi_heads", "cutoff_on_weights", "agnostic_later"])
def test_edges_one_by_one_or_in_pairs(name):
    model = converted(name)
    data = graph(model, 1)
    by_pairs = model(pair_vectors(data), data.node_types, data.pair_index, mirrored=True)
    one_by_one = model(edge_vectors(data), data.node_types, data.edge_index)
    torch.testing.assert_close(one_by_one, by_pairs, atol=1e-12, rtol=0)


SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in ("cutoff_on_weights", "plain_one_layer")]


@pytest.mark.parametrize("name", ["density_agnesi_heads", *SLOW])
def test_traced_equals_eager(name):
    model = converted(name)
    data = graph(model)
    inputs = pair_vectors(data), data.node_types, data.pair_index
    found = trace_gradient(model, training=False)(list(model.parameters()), *inputs)
    for ours, expected in zip(found, edge_gradient(model, *inputs, training=False), strict=True):
        torch.testing.assert_close(ours, expected, atol=1e-11, rtol=0)


def test_batch_equals_single():
    model = converted("density_agnesi_heads")
    graphs = [graph(model, index) for index in range(3)]
    batch = predict(model, collate(graphs), stress=True)
    single = [predict(model, one, stress=True) for one in graphs]
    agree(batch, {name: torch.cat([one[name] for one in single]) for name in batch})


def test_single_precision():
    model = converted("soft_gaussian_gap", head="a").float()
    forces = predict(model, graph(model))["forces"]
    expected = reference("soft_gaussian_gap", "forces", "a")[: len(forces)]
    np.testing.assert_allclose(forces.detach().numpy(), expected, atol=1e-5)


@pytest.mark.parametrize("name", CASES)
def test_model_folder_keeps_everything(name, tmp_path):
    model = converted(name)
    loaded = load_model(save_model(model, tmp_path / "model"))
    assert loaded.hyperparameters == model.hyperparameters and loaded.metadata == model.metadata
    assert (loaded.heads, loaded.head) == (model.heads, model.head)
    for head in model.heads:
        found, expected = (predict(one.choose_head(head), graph(one, 1), stress=True) for one in (loaded, model))
        agree(found, expected, 0.0)


def test_calculator_and_descriptors():
    model = converted("order_4")
    atoms = structures()[1]
    atoms.calc = MaceGauntCalculator(model, device="cpu")
    assert atoms.get_potential_energy() == pytest.approx(reference("order_4", "energy")[1], abs=1e-10)
    np.testing.assert_allclose(atoms.get_forces(), reference("order_4", "forces")[9:12], atol=1e-10)
    np.testing.assert_allclose(atoms.get_stress(voigt=False), reference("order_4", "stress")[1], atol=1e-10)
    data = graph(model, 1)
    assert node_scalars(model, pair_vectors(data), data.node_types, data.pair_index).shape == (3, 4)


def test_trains():
    """Second derivatives exist, and every weight that is used has a gradient."""
    model = converted("density_agnesi_heads", head="pbe")
    result = predict(model, graph(model), training=True)
    result["forces"].square().sum().backward()
    without = {name for name, parameter in model.named_parameters() if parameter.grad is None}
    assert not without


def test_tables_are_made_again_where_they_are_missing():
    settings, tensors = files("agnostic_later")
    bare = {name: value for name, value in tensors.items() if "U_matrix" not in name}
    assert len(bare) < len(tensors)
    found, expected = from_state_dict(settings, bare), from_state_dict(settings, tensors)
    for name, value in expected.state_dict().items():
        torch.testing.assert_close(found.state_dict()[name], value, atol=1e-10, rtol=1e-10)


@pytest.mark.parametrize("degree", [0, 1])
@pytest.mark.parametrize("order", [2, 3, 4])
def test_paths_are_those_of_mace_torch(order, degree):
    _, tensors = files("order_4")
    stored = tensors[f"products.0.symmetric_contractions.contractions.{degree}.U_matrix_{order}"]
    np.testing.assert_allclose(
        mace_paths(1, degree, order, stored.shape[-1]), polynomials_of(stored, 1, order), atol=1e-12
    )
    with pytest.raises(NotImplementedError, match="reduced basis of cuequivariance"):
        mace_paths(1, degree, order, stored.shape[-1] - 1)


def test_constants_of_activations_are_e3nn_s():
    assert constant("silu") == pytest.approx(1.6791767923989418, abs=1e-15)
    assert constant("tanh") == pytest.approx(1.5937334472592695, abs=1e-15)
    assert constant("abs") == pytest.approx(1.001110600838467, abs=1e-15)


def test_settings_may_be_written_in_several_ways():
    settings, tensors = files("max_ell_4")
    expected = from_state_dict(settings, tensors).state_dict()
    changes = [
        {
            "hidden_irreps": "2x0e + 2x1o + 2x2e",
            "distance_transform": None,
            "heads": ["Default"],
            "correlation": [2, 2],
        },
        {"hidden_irreps": ["2x0e", "2x1o", "2x2e"], "num_polynomial_cutoff": 5.0, "apply_cutoff": True},
        {"hidden_irreps": [[2, "0e"], [2, "1o"], [2, "2e"]], "cls": "ScaleShiftMACE", "edge_irreps": None},
        {"atomic_energies": [settings["atomic_energies"]], "atomic_inter_scale": [0.8], "cueq_config": None, "seed": 3},
    ]
    for change in changes:
        found = from_state_dict(settings | change, {name: np.asarray(value) for name, value in tensors.items()})
        for name, value in found.state_dict().items():
            assert torch.equal(value, expected[name])


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"cls": "AtomicDipolesMACE"}, "AtomicDipolesMACE"),
        ({"interaction_cls": "RealAgnosticAttResidualInteractionBlock"}, "RealAgnosticAttResidualInteractionBlock"),
        ({"interaction_cls_first": "RealAgnosticResidualNonLinearInteractionBlock"}, "ResidualNonLinear"),
        ({"readout_cls": "NonLinearBiasReadoutBlock"}, "NonLinearBiasReadoutBlock"),
        ({"radial_type": "chebyshev"}, "radial_type=chebyshev"),
        ({"distance_transform": "Other"}, "distance_transform=Other"),
        ({"gate": "relu"}, "gate=relu"),
        ({"use_so3": True}, "use_so3"),
        ({"edge_irreps": "4x0e"}, "edge_irreps"),
        ({"embedding_specs": {"charge": {}}}, "embedding_specs"),
        ({"keep_last_layer_irreps": True}, "keep_last_layer_irreps"),
        ({"cueq_config": {"enabled": True}}, "cueq_config"),
        ({"something_new": True}, "something_new"),
        ({"hidden_irreps": "2x0e+4x1o"}, "2x0e"),
        ({"hidden_irreps": "2x0e+2x1e"}, "1e"),
        ({"hidden_irreps": "2x1o"}, "1o"),
        ({"hidden_irreps": "2x0e+2x5o", "correlation": 1}, "degree 5"),
        ({"MLP_irreps": "4x0e+4x1o"}, "MLP_irreps"),
    ],
)
def test_what_is_not_supported_is_refused_by_name(change, name):
    settings, tensors = files("max_ell_4")
    with pytest.raises(NotImplementedError, match=name):
        from_state_dict(settings | change, tensors)


def test_unknown_tensors_are_refused_by_name():
    settings, tensors = files("max_ell_4")
    with pytest.raises(NotImplementedError, match=r"joint_embedding\.weight"):
        from_state_dict(settings, {**tensors, "joint_embedding.weight": torch.ones(2)})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"correlation": [2, 2, 2]}, "correlation"),
        ({"avg_num_neighbors": None}, "avg_num_neighbors"),
        ({"radial_MLP": [5]}, "conv_tp_weights"),
        ({"hidden_irreps": "2x0e+2x1o"}, "contradicts|has .* values"),
        ({"hidden_irreps": "two scalars"}, "two scalars"),
        ({"heads": ["a", "b"]}, "values"),
    ],
)
def test_contradictions_are_named(change, message):
    settings, tensors = files("max_ell_4")
    with pytest.raises(ValueError, match=message):
        from_state_dict(settings | change, tensors)
    with pytest.raises(ValueError, match=r"lacks 'node_embedding\.linear\.weight'"):
        from_state_dict(settings, {name: value for name, value in tensors.items() if "node_embedding" not in name})


def test_a_contraction_that_is_not_equivariant_is_refused():
    settings, tensors = files("order_4")
    broken = {name: copy.deepcopy(value) for name, value in tensors.items()}
    name = "products.0.symmetric_contractions.contractions.0.U_matrix_3"
    broken[name][1, 2, 3] += 0.1
    with pytest.raises(ValueError, match="U_matrix_3 is not equivariant"):
        from_state_dict(settings, broken)


def test_heads():
    model = converted("density_agnesi_heads")
    assert model.heads == ["pbe", "Default"] and model.head == "Default"
    atoms = structures()[1]
    for head in ("pbe", None, "Default"):
        calculator = MaceGauntCalculator(open_model(model, device="cpu", head=head), device="cpu")
        atoms.calc = calculator
        expected = reference("density_agnesi_heads", "energy", head or "Default")[1]
        assert atoms.get_potential_energy() == pytest.approx(expected, abs=1e-10)
    assert model.head == "Default", "a model that is handed in stays as it is"
    with pytest.raises(UserError, match=r"no head 'pbb'.* Did you mean 'pbe'"):
        open_model(model, device="cpu", head="pbb")


def test_a_head_must_be_chosen_where_none_is_named_default(tmp_path):
    model = converted("soft_gaussian_gap")
    folder = save_model(model, tmp_path / "model")
    for one in (model, folder):
        with pytest.raises(UserError, match=r"heads a, b: choose one with head="):
            open_model(one, device="cpu")
        opened = open_model(one, device="cpu", head="b")
        expected = reference("soft_gaussian_gap", "energy", "b")[1]
        assert predict(opened, graph(opened, 1))["energy"].item() == pytest.approx(expected, abs=1e-10)
    assert model.head is None
    with pytest.raises(ValueError, match="several heads"):
        predict(model, graph(model))


def test_one_head_of_several():
    one = converted("soft_gaussian_gap", head="b")
    assert one.heads == ["b"] and one.head == "b"
    energy = predict(one, graph(one, 1))["energy"].item()
    assert energy == pytest.approx(reference("soft_gaussian_gap", "energy", "b")[1], abs=1e-10)
    with pytest.raises(UserError, match="no head 'a'"):
        open_model(one, device="cpu", head="a")
    with pytest.raises(ValueError, match="no head 'c'"):
        converted("soft_gaussian_gap", head="c")
