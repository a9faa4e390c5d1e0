"""What a model sees of frames."""

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import molecule
from e3nn import o3
from scipy.spatial.transform import Rotation
from small_models import build, crystal, graph
from small_models import molecule as ethanol

from mace_gaunt.errors import UserError
from mace_gaunt.model.checkpoint import save_model
from mace_gaunt.model.descriptors import node_scalars
from mace_gaunt.model.gradients import pair_vectors
from mace_gaunt.simulation.calculator import MaceGauntCalculator
from mace_gaunt.simulation.descriptors import ModelDescriptor


@pytest.mark.parametrize("choice", ["gaunt", "clebsch_gordan", "vector_gaunt"])
def test_moving_turning_and_reordering_change_nothing(choice):
    describe = ModelDescriptor(build(choice), device="cpu")
    for atoms in (ethanol(), crystal()):
        copy = atoms.copy()
        rotation = Rotation.random(random_state=3).as_matrix()
        copy.set_cell(atoms.cell.array @ rotation.T)
        copy.positions = atoms.positions @ rotation.T + 1.7
        first, second = describe(atoms), describe(copy[np.random.default_rng(0).permutation(len(copy))])
        assert first.shape == (8,) and np.abs(first).max() > 1e-3
        np.testing.assert_allclose(second, first, rtol=1e-10, atol=1e-10)
        assert np.abs(describe(molecule("H2O")) - first).max() > 1e-3


def test_the_readouts_of_the_scalars_are_the_energy():
    """What `node_scalars` gives is what the readouts read: together they give the interaction energy."""
    model = build("gaunt", shift=0.0)
    frame = graph(ethanol(), model)
    scalars = node_scalars(model, pair_vectors(frame), frame.node_types, frame.pair_index)
    alone = node_scalars(model, torch.zeros(0, 3).double(), torch.arange(3), torch.zeros(2, 0, dtype=torch.long))
    with torch.no_grad():
        energy = model(pair_vectors(frame), frame.node_types, frame.pair_index, mirrored=True)

        def read(rows):
            return sum(
                readout(rows[:, None, 4 * layer : 4 * layer + 4]) for layer, readout in enumerate(model.readouts)
            )

        expected = model.scale * (read(scalars) - read(alone)[frame.node_types])
    torch.testing.assert_close(expected, energy, rtol=1e-10, atol=1e-10)


def test_a_model_folder_and_an_unknown_element(tmp_path):
    save_model(build("gaunt"), tmp_path / "model")
    describe = ModelDescriptor(tmp_path / "model", device="cpu")
    np.testing.assert_allclose(describe(ethanol()), ModelDescriptor(build("gaunt"))(ethanol()), rtol=1e-12)
    assert str(tmp_path) in describe.name
    with pytest.raises(UserError, match="unknown element Cl"):
        describe(molecule("CH3Cl"))


@pytest.mark.parametrize("choice", ["gaunt", "clebsch_gordan", "vector_gaunt"])
def test_features_of_atoms_turn_as_their_irreps_say(choice):
    """Under rotation and inversion; in e3nn's order."""
    calculator = MaceGauntCalculator(build(choice, max_L=2), device="cpu")
    irreps = o3.Irreps(calculator.get_descriptor_irreps(invariants_only=False))
    turn = -torch.from_numpy(Rotation.random(random_state=1).as_matrix())
    for atoms in (ethanol(), crystal()):
        turned = atoms.copy()
        turned.positions = atoms.positions @ turn.numpy().T + 0.3
        turned.set_cell(atoms.cell.array @ turn.numpy().T)
        first = calculator.get_descriptors(atoms, invariants_only=False)
        second = calculator.get_descriptors(turned, invariants_only=False)
        assert first.shape == (len(atoms), irreps.dim) and first.dtype == np.float64
        expected = first @ irreps.D_from_matrix(turn).double().numpy().T
        np.testing.assert_allclose(second, expected, atol=1e-5)  # e3nn's angles are float32 here
        assert np.abs(second - first).max() > 1e-3
        invariants = [calculator.get_descriptors(one) for one in (atoms, turned)]
        np.testing.assert_allclose(invariants[0], invariants[1], atol=1e-10)


def test_layers_and_their_irreps():
    calculator = MaceGauntCalculator(build("gaunt", num_interactions=3), device="cpu")
    everything = calculator.get_descriptors(ethanol())
    assert calculator.get_descriptor_irreps() == "4x0e+4x0e+4x0e" and everything.shape == (9, 12)
    for layers, columns in ((0, [0]), (-1, [2]), ([2, 0], [2, 0]), ([0, 1, 2], [0, 1, 2])):
        expected = np.hstack([everything[:, 4 * column : 4 * column + 4] for column in columns])
        np.testing.assert_allclose(calculator.get_descriptors(ethanol(), layers=layers), expected, atol=1e-12)
    assert calculator.get_descriptor_irreps(0, invariants_only=False) == "4x0e+4x1o"
    assert calculator.get_descriptor_irreps(-1, invariants_only=False) == "4x0e"
    np.testing.assert_allclose(
        calculator.get_descriptors(ethanol(), 0, invariants_only=False)[:, :4], everything[:, :4], atol=1e-12
    )
    with_pseudo = MaceGauntCalculator(build("vector_gaunt"), device="cpu")
    assert with_pseudo.get_descriptor_irreps(0, invariants_only=False) == "4x0e+4x1o+4x0o+4x1e"
    for layers in (3, [0, 3], -4, []):
        with pytest.raises(UserError, match="layers 0 to 2"):
            calculator.get_descriptors(ethanol(), layers=layers)


def test_members_of_a_committee_describe_on_their_own():
    models = [build("gaunt", 0), build("clebsch_gordan", 1, r_max=3.0)]
    committee = MaceGauntCalculator(models, device="cpu")
    for member, model in enumerate(models):
        expected = MaceGauntCalculator(model, device="cpu").get_descriptors(ethanol())
        np.testing.assert_allclose(committee.get_descriptors(ethanol(), member=member), expected, atol=1e-12)
    with pytest.raises(UserError, match="models 0 to 1"):
        committee.get_descriptors(ethanol(), member=2)
    assert committee.get_descriptors(Atoms("H")).shape == (1, 8)
