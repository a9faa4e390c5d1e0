"""The fixed description of frames."""

import ase
import numpy as np
import pytest
from ase.build import bulk, molecule
from scipy.spatial.transform import Rotation

from mace_gaunt.data.descriptors import RadialAngularDescriptor, element_features
from mace_gaunt.errors import UserError

describe = RadialAngularDescriptor()


def moved(atoms, seed=0):
    """Rotated, translated and reordered."""
    rng = np.random.default_rng(seed)
    rotation = Rotation.random(random_state=seed).as_matrix()
    copy = atoms.copy()
    copy.set_cell(atoms.cell.array @ rotation.T)
    copy.positions = atoms.positions @ rotation.T + rng.normal(size=3)
    return copy[rng.permutation(len(copy))]


def slab():
    atoms = bulk("Cu", cubic=True) * (2, 2, 1)
    atoms.numbers[:3] = [8, 6, 1]
    atoms.positions += np.random.default_rng(1).normal(0, 0.1, atoms.positions.shape)
    return atoms


@pytest.mark.parametrize("atoms", [molecule("CH3CH2OH"), molecule("C60"), slab()], ids=["ethanol", "C60", "slab"])
def test_moving_turning_and_reordering_change_nothing(atoms):
    first, second = describe(atoms), describe(moved(atoms))
    assert first.shape == (4 + 16 * 8 + 10 * 4 * 4,)
    np.testing.assert_allclose(second, first, rtol=1e-10, atol=1e-10)


def test_supercells_are_the_same_frame():
    np.testing.assert_allclose(describe(slab() * (1, 2, 1)), describe(slab()), rtol=1e-10, atol=1e-10)


def test_what_differs_is_seen():
    water = molecule("H2O")
    bent, swapped = water.copy(), water.copy()
    bent.set_angle(1, 0, 2, 100)
    swapped.numbers[0] = 16
    for other in (bent, swapped, molecule("H2O2")):
        assert np.abs(describe(other) - describe(water)).max() > 1e-3


def test_angles_are_seen_where_all_distances_to_the_centre_agree():
    """Two neighbours out of each other's sight, in line and at a right angle."""
    wide = RadialAngularDescriptor(r_max=2.5)
    line = ase.Atoms("CHH", [[0, 0, 0], [2, 0, 0], [-2, 0, 0]])
    corner = ase.Atoms("CHH", [[0, 0, 0], [2, 0, 0], [0, 2, 0]])
    difference = np.abs(wide(line) - wide(corner))
    n_radial = 4 + 16 * 8
    assert difference[:n_radial].max() < 1e-12 and difference[n_radial:].max() > 1e-3


def test_atoms_come_and_go_smoothly():
    def at(distance):
        return describe(ase.Atoms("OH", [[0, 0, 0], [0, 0, distance]]))

    np.testing.assert_allclose(at(4.9999), at(5.0001), atol=1e-8)
    np.testing.assert_allclose(at(9.0), describe(ase.Atoms("OH", [[0, 0, 0], [0, 0, 30]])), atol=0)


def test_every_element_has_a_place_of_its_own():
    places = element_features(np.arange(1, 119))
    distances = np.linalg.norm(places[:, None] - places[None], axis=-1) + 10 * np.eye(118)
    assert distances.min() > 0.1


def test_a_frame_without_a_neighbour_list_is_refused():
    with pytest.raises(UserError, match="same place"):
        describe(ase.Atoms("HH", [[0, 0, 0], [0, 0, 0]]))
    far = slab()
    far.positions[2, 1] = 4e20
    with pytest.raises(UserError, match=r"4e\+20 Å away"):
        describe(far)
