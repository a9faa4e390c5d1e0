"""What a model sees of frames."""

import numpy as np
import pytest
import torch
from ase.build import molecule
from scipy.spatial.transform import Rotation
from small_models import build, crystal, graph
from small_models import molecule as ethanol

from mace_gaunt.errors import UserError
from mace_gaunt.model.checkpoint import save_model
from mace_gaunt.model.descriptors import node_scalars
from mace_gaunt.model.gradients import pair_vectors
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
