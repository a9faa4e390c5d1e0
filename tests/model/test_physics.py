"""What every potential must do: symmetries, derivatives, locality, isolated atoms. All in float64."""

import numpy as np
import pytest
import torch
from ase import Atoms
from rotations import random_rotation
from small_models import build, crystal, graph, molecule
from torch_geometric.data import Batch

from mace_gaunt.model.gradients import predict


def energy_and_forces(model, atoms):
    result = predict(model, graph(atoms, model))
    return result["energy"].item(), result["forces"].numpy()


@pytest.mark.parametrize("inversion", [False, True])
def test_rotation_and_inversion(model, inversion):
    atoms = molecule()
    matrix = random_rotation(inversion=inversion).numpy()
    turned = atoms.copy()
    turned.positions = atoms.positions @ matrix.T
    energy, forces = energy_and_forces(model, atoms)
    turned_energy, turned_forces = energy_and_forces(model, turned)
    assert np.abs(forces).max() > 1e-2
    assert abs(energy - turned_energy) < 1e-10
    assert np.abs(forces @ matrix.T - turned_forces).max() < 1e-10


def test_rotation_turns_the_stress(model):
    atoms = crystal()
    matrix = random_rotation(inversion=True).numpy()
    turned = atoms.copy()
    turned.set_cell(atoms.cell.array @ matrix.T)
    turned.positions = atoms.positions @ matrix.T
    stress = predict(model, graph(atoms, model), stress=True)["stress"][0].numpy()
    turned_stress = predict(model, graph(turned, model), stress=True)["stress"][0].numpy()
    assert np.abs(stress).max() > 1e-4
    assert np.abs(matrix @ stress @ matrix.T - turned_stress).max() < 1e-10


def test_translation_permutation_and_lattice_vectors(model):
    atoms = crystal()
    energy, forces = energy_and_forces(model, atoms)
    order = np.random.default_rng(1).permutation(len(atoms))
    moved = atoms[order]
    shifts = np.random.default_rng(2).integers(-3, 4, size=(len(atoms), 3))
    moved.positions += np.array([3.3, -1.7, 0.4]) + shifts @ atoms.cell.array
    moved_energy, moved_forces = energy_and_forces(model, moved)
    assert abs(energy - moved_energy) < 1e-10
    assert np.abs(forces[order] - moved_forces).max() < 1e-10


@pytest.mark.parametrize("structure", [molecule, crystal])
@pytest.mark.parametrize("zbl", [False, True])
def test_forces_are_the_derivative_of_the_energy(structure, zbl):
    model, atoms, step = build("gaunt", zbl=zbl), structure(), 1e-4
    _, forces = energy_and_forces(model, atoms)
    for index, axis in [(0, 0), (2, 1), (len(atoms) - 1, 2)]:
        values = []
        for sign in (1, -1):
            moved = atoms.copy()
            moved.positions[index, axis] += sign * step
            values.append(energy_and_forces(model, moved)[0])
        assert -(values[0] - values[1]) / (2 * step) == pytest.approx(forces[index, axis], abs=1e-6, rel=1e-6)


def test_stress_is_the_derivative_with_respect_to_strain(model):
    atoms, step = crystal(), 1e-5
    result = predict(model, graph(atoms, model), stress=True)
    stress = result["stress"][0].numpy()
    for a, b in [(0, 0), (1, 1), (0, 1), (1, 2)]:
        values = []
        for sign in (1, -1):
            strain = np.eye(3)
            strain[a, b] += sign * step / 2
            strain[b, a] += sign * step / 2
            strained = atoms.copy()
            strained.set_cell(atoms.cell.array @ strain, scale_atoms=True)
            values.append(energy_and_forces(model, strained)[0])
        derivative = (values[0] - values[1]) / (2 * step) / atoms.get_volume()
        assert derivative == pytest.approx(stress[a, b], abs=1e-6)
    np.testing.assert_allclose(result["virials"][0].numpy(), -stress * atoms.get_volume(), atol=1e-10)


def test_a_batch_equals_its_members(model):
    structures = [molecule(), crystal(), Atoms("O"), molecule(3)]
    graphs = [graph(atoms, model) for atoms in structures]
    together = predict(model, Batch.from_data_list(graphs), stress=True)
    alone = [predict(model, one, stress=True) for one in graphs]
    for name in ("energy", "forces", "stress", "node_energy"):
        expected = torch.cat([one[name] for one in alone])
        torch.testing.assert_close(together[name], expected, atol=1e-10, rtol=0, equal_nan=True)


def test_isolated_atoms_have_their_e0_and_no_force(model):
    for symbol, energy in (("H", -13.6), ("C", -1029.5), ("O", -2041.9)):
        found, forces = energy_and_forces(model, Atoms(symbol))
        assert found == energy
        assert not forces.any()
    far = Atoms("CO", positions=[[0, 0, 0], [0, 0, model.r_max + 1e-6]])
    energy, forces = energy_and_forces(model, far)
    assert energy == pytest.approx(-1029.5 - 2041.9, abs=1e-12)
    assert not forces.any()


def test_energy_and_forces_are_smooth_through_the_cutoff(model):
    """Across r_max energy and force vanish to second order; a third atom keeps the environment asymmetric."""
    gaps = (1e-3, 1e-4)
    base = Atoms("CH", positions=[[0, 0, 0], [0.7, 0.8, 0]])
    reference, _ = energy_and_forces(model, base)
    jumps, pulls = [], []
    for gap in gaps:
        # The oxygen is within r_max of the carbon alone.
        atoms = base + Atoms("O", positions=[[-(model.r_max - gap), 0, 0]])
        energy, forces = energy_and_forces(model, atoms)
        jumps.append(abs(energy - reference + 2041.9))
        pulls.append(np.abs(forces[2]).max())
    assert jumps[0] < 1e-6
    assert pulls[0] < 1e-3
    # Each vanishes at least as fast as its power of the gap: third and second.
    assert jumps[1] < 1e-2 * jumps[0] + 1e-11
    assert pulls[1] < 2e-2 * pulls[0] + 1e-9


def test_no_force_leaks_between_frames(model):
    graphs = [graph(molecule(), model), graph(molecule(5), model)]
    batch = Batch.from_data_list(graphs)
    before = predict(model, batch)["forces"][: graphs[0].num_nodes]
    batch.positions[graphs[0].num_nodes :] += 0.05 * torch.randn_like(batch.positions[graphs[0].num_nodes :])
    after = predict(model, batch)["forces"][: graphs[0].num_nodes]
    assert (before - after).abs().max() < 1e-12


def test_far_fragments_add(model):
    first, second = molecule(), molecule(7)
    second.positions += 50.0
    both, _ = energy_and_forces(model, first + second)
    separate = energy_and_forces(model, first)[0] + energy_and_forces(model, second)[0]
    assert both == pytest.approx(separate, abs=1e-9)


def test_a_supercell_is_extensive(model):
    atoms = crystal()
    energy, _ = energy_and_forces(model, atoms)
    assert energy_and_forces(model, atoms * (2, 1, 2))[0] == pytest.approx(4 * energy, abs=1e-8)


def test_float32_keeps_the_total_in_float64():
    model = build("gaunt")
    exact, _ = energy_and_forces(model, molecule())
    single = model.float()
    result = predict(single, graph(molecule(), single))
    assert result["energy"].dtype == torch.float64
    assert result["forces"].dtype == torch.float32
    assert single.E0s.dtype == torch.float64
    assert abs(result["energy"].item() - exact) < 1e-4


def test_training_differentiates_energy_and_forces(model):
    """Parameter gradient of a loss on energy and forces against a finite difference in one weight of each kind."""
    data = graph(molecule(), model)

    def loss():
        result = predict(model, data, training=True)
        return result["interaction_energy"].square().sum() + result["forces"].square().sum()

    model.zero_grad()
    loss().backward()
    for name, parameter in model.named_parameters():
        if parameter.grad is None or not parameter.grad.any():
            continue
        flat, step = parameter.data.view(-1), 1e-5
        index = int(parameter.grad.view(-1).abs().argmax())
        values = []
        for sign in (1, -1):
            flat[index] += sign * step
            values.append(loss().item())
            flat[index] -= sign * step
        derivative = (values[0] - values[1]) / (2 * step)
        assert derivative == pytest.approx(parameter.grad.view(-1)[index].item(), rel=1e-5, abs=1e-5), name
