"""The skin list against lists built anew."""

import numpy as np
import pytest

from mace_gaunt.data.neighbors import neighbor_pairs
from mace_gaunt.simulation.neighbors import SkinNeighborList

R_MAX = 3.0


def pair_set(positions, pair_index, shifts):
    vectors = positions[pair_index[1]] - positions[pair_index[0]] + shifts
    return sorted(map(tuple, np.column_stack([pair_index.T, vectors.round(7) + 0.0])))


def check(skin_list, positions, cell, pbc, numbers):
    pairs = skin_list.pairs(positions, cell, pbc, numbers)
    assert pair_set(positions, pairs.pair_index, pairs.shifts) == pair_set(
        positions, *neighbor_pairs(positions, cell, pbc, R_MAX)
    )
    assert np.all(np.diff(pairs.pair_index[1]) >= 0)
    assert np.all(pairs.lengths < R_MAX)


@pytest.fixture
def system():
    rng = np.random.default_rng(0)
    cell = np.array([[4.0, 0.0, 0.0], [1.5, 4.2, 0.0], [-0.5, 0.8, 3.8]])
    return rng.random((8, 3)) @ cell, cell, np.array([True, True, True]), np.arange(1, 9)


@pytest.mark.parametrize("pbc", [(True, True, True), (True, False, True), (False, False, False)])
def test_exact_along_a_random_walk_that_leaves_the_cell(system, pbc):
    positions, cell, _, numbers = system
    rng = np.random.default_rng(1)
    skin_list = SkinNeighborList(R_MAX, 1.0)
    drift = np.array([0.12, -0.07, 0.05])
    for _ in range(150):
        positions = positions + drift + rng.normal(scale=0.02, size=positions.shape)
        check(skin_list, positions, cell, np.array(pbc), numbers)
    assert np.abs(positions - system[0]).max() > 15  # several cells away
    assert 10 < skin_list.num_builds < 75


def test_wrapping_an_atom_builds_anew(system):
    positions, cell, pbc, numbers = system
    skin_list = SkinNeighborList(R_MAX, 1.0)
    skin_list.pairs(positions, cell, pbc, numbers)
    wrapped = positions.copy()
    wrapped[3] += cell[0]
    check(skin_list, wrapped, cell, pbc, numbers)
    assert skin_list.num_builds == 2


def test_built_only_when_an_atom_moved_half_the_skin(system):
    positions, cell, pbc, numbers = system
    skin_list = SkinNeighborList(R_MAX, 1.0)
    for shift, builds in ((0.0, 1), (0.49, 1), (-0.49, 1), (0.51, 2), (0.51, 2)):
        moved = positions.copy()
        moved[5, 1] += shift
        check(skin_list, moved, cell, pbc, numbers)
        assert skin_list.num_builds == builds


def test_any_other_change_builds_anew(system):
    positions, cell, pbc, numbers = system
    skin_list = SkinNeighborList(R_MAX, 1.0)
    swapped = numbers[::-1].copy()
    open_z = np.array([True, True, False])
    changes = [
        (positions, cell, pbc, numbers),
        (positions, cell * 1.001, pbc, numbers),
        (positions, cell * 1.001, open_z, numbers),
        (positions, cell * 1.001, open_z, swapped),
        (positions[:5], cell * 1.001, open_z, swapped[:5]),
    ]
    for builds, change in enumerate(changes, start=1):
        check(skin_list, *change)
        assert skin_list.num_builds == builds


def test_input_changed_in_place_is_noticed(system):
    positions, cell, pbc, numbers = system
    skin_list = SkinNeighborList(R_MAX, 0.5)
    skin_list.pairs(positions, cell, pbc, numbers)
    positions[0] += 1.0
    check(skin_list, positions, cell, pbc, numbers)
    cell *= 1.1
    check(skin_list, positions, cell, pbc, numbers)


def test_no_skin_and_no_edges(system):
    positions, cell, pbc, numbers = system
    skin_list = SkinNeighborList(R_MAX, 0.0)
    check(skin_list, positions, cell, pbc, numbers)
    check(skin_list, positions + 1e-6, cell, pbc, numbers)
    assert skin_list.num_builds == 2
    lone = SkinNeighborList(R_MAX, 1.0).pairs(np.zeros((1, 3)), np.zeros((3, 3)), np.zeros(3, bool), np.ones(1))
    assert lone.pair_index.shape == (2, 0) and lone.closest is None
