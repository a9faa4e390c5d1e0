"""A cell split into domains with ghosts, as LAMMPS splits it: the shares add up to the whole. No LAMMPS, no MPI."""

import numpy as np
import pytest
from ase import Atoms
from ghosts import images_within, slices
from small_models import build, crystal, molecule

from mace_gaunt.data.atomic_data import node_types
from mace_gaunt.interop.lammps_domain import compute_share, fold, needed_pairs
from mace_gaunt.simulation.calculator import MaceGauntCalculator
from mace_gaunt.simulation.neighbors import SkinNeighborList

R_MAX = 3.0


def add_shares(model, atoms: Atoms, owner: np.ndarray, reach: float):
    """Energies, forces and virial from one domain after the other."""
    energies, forces, virial = np.zeros(len(atoms)), np.zeros((len(atoms), 3)), np.zeros((3, 3))
    types = node_types(atoms.numbers, model.atomic_numbers).numpy()
    for process in range(owner.max() + 1):
        own = np.flatnonzero(owner == process)
        ghosts, places = images_within(atoms, own, reach)
        tags = np.concatenate([own, ghosts]) + 1
        domain = fold(tags, len(own))
        positions = np.concatenate([atoms.positions[own], places])[domain.rows]
        index = domain.tags - 1
        pairs = SkinNeighborList(R_MAX, 0.5).pairs
        share = compute_share(model, domain, positions, types[index], atoms.cell.array, atoms.pbc, pairs)
        energies[own] = share.energies
        forces[index] += share.forces
        virial += share.virial
    return energies, forces, virial


@pytest.mark.parametrize(("layers", "num_domains"), [(1, 2), (2, 2), (2, 3), (3, 2)])
def test_shares_of_a_skewed_cell_add_up(layers, num_domains):
    model = build("clebsch_gordan", r_max=R_MAX, num_interactions=layers, max_ell=2)
    atoms = crystal().repeat((3, 1, 1))
    energies, forces, virial = add_shares(model, atoms, slices(atoms, num_domains), layers * R_MAX)
    whole = MaceGauntCalculator(model, device="cpu")
    np.testing.assert_allclose(energies, whole.get_property("energies", atoms), rtol=0, atol=1e-9)
    np.testing.assert_allclose(forces, whole.get_forces(atoms), atol=1e-9)
    stress = whole.get_stress(atoms)
    expected = -atoms.get_volume() * stress[[0, 5, 4, 5, 1, 3, 4, 3, 2]].reshape(3, 3)
    np.testing.assert_allclose(virial, expected, atol=1e-9)


def test_shares_of_a_converted_model_add_up():
    """Isolated atoms as in MACE, and messages divided by what is learned of the density."""
    changes = {"isolated_atoms": "predicted", "interaction": "density"}
    model = build("clebsch_gordan", r_max=R_MAX, max_ell=2, **changes)
    atoms = crystal().repeat((2, 1, 1))
    energies, forces, _ = add_shares(model, atoms, slices(atoms, 2), 2 * R_MAX)
    whole = MaceGauntCalculator(model, device="cpu")
    np.testing.assert_allclose(energies, whole.get_property("energies", atoms), rtol=0, atol=1e-9)
    np.testing.assert_allclose(forces, whole.get_forces(atoms), atol=1e-9)


def test_shares_of_a_molecule_add_up_and_a_process_may_have_none():
    model = build("gaunt", r_max=2.0)
    atoms = molecule()
    owner = slices(atoms, 2)
    owner[owner == 1] = 2
    energies, forces, _ = add_shares(model, atoms, owner, 4.0)
    whole = MaceGauntCalculator(model, device="cpu")
    np.testing.assert_allclose(energies, whole.get_property("energies", atoms), rtol=0, atol=1e-9)
    np.testing.assert_allclose(forces, whole.get_forces(atoms), atol=1e-9)


def test_a_shell_that_is_too_thin_gives_other_forces():
    """So that the tests above would notice."""
    model = build("gaunt", r_max=R_MAX)
    atoms = crystal().repeat((6, 1, 1))
    expected = MaceGauntCalculator(model, device="cpu").get_forces(atoms)
    owner = slices(atoms, 2)
    thin, enough = (add_shares(model, atoms, owner, reach)[1] for reach in (R_MAX, 2 * R_MAX))
    assert np.abs(thin - expected).max() > 1e-6
    np.testing.assert_allclose(enough, expected, atol=1e-9)


def test_all_images_of_an_atom_are_one_node():
    domain = fold(np.array([7, 3, 3, 9, 7, 9]), 2)
    assert domain.tags.tolist() == [3, 7, 9]
    assert domain.rows.tolist() == [1, 0, 3]
    assert domain.is_own.tolist() == [True, True, False]
    assert domain.own.tolist() == [1, 0]


def test_only_pairs_that_matter_are_kept():
    """A chain 0-1-2-3-4 of which atom 0 is own."""
    chain = np.array([[0, 1, 2, 3], [1, 2, 3, 4]])
    is_own = np.array([True, False, False, False, False])
    assert needed_pairs(chain, is_own, 1).tolist() == [True, False, False, False]
    assert needed_pairs(chain, is_own, 2).tolist() == [True, True, False, False]
    assert needed_pairs(chain[::-1], is_own, 3).tolist() == [True, True, True, False]


def test_isolated_atoms_have_their_own_energy():
    model = build("gaunt", r_max=R_MAX)
    domain = fold(np.array([1, 2]), 2)
    positions = np.array([[0.0, 0, 0], [50.0, 0, 0]])
    pairs = SkinNeighborList(R_MAX, 0.5).pairs
    share = compute_share(model, domain, positions, np.array([0, 1]), np.eye(3), np.zeros(3, bool), pairs)
    np.testing.assert_allclose(share.energies, model.E0s[:2].numpy())
    assert not share.forces.any()
    assert not share.virial.any()
