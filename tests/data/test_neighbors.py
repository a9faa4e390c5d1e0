"""Neighbour lists against brute force."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mace_gaunt.data.neighbors import neighbor_pairs
from mace_gaunt.errors import UserError

SKEWED = np.array([[3.1, 0.0, 0.0], [2.9, 2.5, 0.0], [-1.3, 2.2, 4.0]])
THIN = np.array([[9.0, 0.0, 0.0], [8.5, 1.1, 0.0], [0.0, 0.0, 7.0]])


def brute_force(positions, cell, pbc, r_max):
    """Every (receiver, sender, vector) nearer than r_max, by trying every image that could be."""
    cell = np.where(np.asarray(pbc)[:, None], cell, 0.0)
    heights = np.array(
        [1 / np.linalg.norm(column) if p else 1 for column, p in zip(np.linalg.pinv(cell).T, pbc, strict=True)]
    )
    spread = np.abs(positions @ np.linalg.pinv(cell)).max() if len(positions) else 0.0
    reach = [int(np.ceil(r_max / h + 2 * spread)) + 1 if p else 0 for h, p in zip(heights, pbc, strict=True)]
    edges = []
    for steps in itertools.product(*(range(-n, n + 1) for n in reach)):
        shift = np.array(steps) @ cell
        vectors = positions[None, :] - positions[:, None] + shift
        near = np.linalg.norm(vectors, axis=-1) < r_max
        if not any(steps):
            near &= ~np.eye(len(positions), dtype=bool)
        edges += [(j, i, *vectors[i, j].round(8)) for i, j in np.argwhere(near)]
    return sorted(edges)


def both_ways(positions, pair_index, shifts):
    """(receiver, sender, vector) of both edges of every pair, sorted."""
    senders, receivers = np.concatenate([pair_index, pair_index[::-1]], axis=1)
    shifts = np.concatenate([shifts, -shifts])
    vectors = (positions[receivers] - positions[senders] + shifts).round(8) + 0.0
    return np.array(sorted((j, i, *v) for i, j, v in zip(senders, receivers, vectors, strict=True))).reshape(-1, 5)


def check(positions, cell, pbc, r_max):
    """Compare with brute force and return the number of pairs."""
    pair_index, shifts = neighbor_pairs(positions, cell, pbc, r_max)
    expected = np.array(brute_force(positions, cell, pbc, r_max)).reshape(-1, 5) + 0.0
    assert len(expected) == 2 * pair_index.shape[1]
    np.testing.assert_allclose(both_ways(positions, pair_index, shifts), expected, atol=1e-7)
    assert pair_index.dtype == np.int64 and shifts.dtype == np.float64 and shifts.shape == (pair_index.shape[1], 3)
    senders, receivers = pair_index
    assert (np.diff(receivers * len(positions) + senders) >= 0).all()
    assert (senders <= receivers).all()
    return pair_index.shape[1]


@pytest.mark.parametrize("pbc", list(itertools.product([True, False], repeat=3)))
@pytest.mark.parametrize("cell", [np.diag([3.0, 4.0, 5.0]), SKEWED, THIN], ids=["orthogonal", "skewed", "thin"])
def test_mixed_periodicity(cell, pbc):
    positions = np.random.default_rng(0).uniform(-2, 4, (7, 3))
    assert check(positions, cell, pbc, 3.3) > 0


def test_cell_much_smaller_than_the_cutoff():
    pair_index, shifts = neighbor_pairs(np.zeros((1, 3)), np.eye(3), True, 3.01)
    assert check(np.zeros((1, 3)), np.eye(3), (True, True, True), 3.01) == 61
    assert (pair_index == 0).all() and (np.linalg.norm(shifts, axis=1) >= 1).all()


def test_atoms_far_outside_the_cell_have_the_edges_of_their_images():
    rng = np.random.default_rng(1)
    positions = rng.uniform(0, 3, (5, 3))
    steps = rng.integers(-50, 50, (5, 3))
    inside, outside = (neighbor_pairs(p, SKEWED, True, 4.0) for p in (positions, positions + steps @ SKEWED))

    def vectors(points, pairs):
        (senders, receivers), shifts = pairs
        v = points[receivers] - points[senders] + shifts
        return np.array(sorted(map(tuple, np.column_stack([receivers, senders, v]).round(7).tolist())))

    np.testing.assert_allclose(vectors(positions, inside), vectors(positions + steps @ SKEWED, outside), atol=1e-6)


def test_which_of_both_directions_and_images_is_listed():
    """Sender below receiver; of an atom's own opposite images the one whose first step is positive."""
    positions = np.random.default_rng(2).uniform(0, 4, (7, 3))
    (senders, receivers), shifts = neighbor_pairs(positions, SKEWED, (True, True, False), 4.0)
    assert (senders <= receivers).all()
    own = (shifts @ np.linalg.inv(SKEWED)).round(6)[senders == receivers]
    assert len(own) > 7
    assert {tuple(step) for step in own} == {(1.0, 0.0, 0.0), (1.0, -1.0, 0.0), (0.0, 1.0, 0.0)}


@pytest.mark.parametrize("n_nodes", [0, 1, 2])
def test_no_edges(n_nodes):
    positions = np.arange(3.0 * n_nodes).reshape(n_nodes, 3) * 10
    pair_index, shifts = neighbor_pairs(positions, np.zeros((3, 3)), False, 5.0)
    assert pair_index.shape == (2, 0) and shifts.shape == (0, 3)
    assert pair_index.dtype == np.int64


def test_pair_on_either_side_of_the_cutoff():
    for gap, n_pairs in [(5.0 - 1e-9, 1), (5.0 + 1e-9, 0)]:
        assert neighbor_pairs(np.array([[0.0, 0, 0], [gap, 0, 0]]), np.zeros((3, 3)), False, 5.0)[0].shape[1] == n_pairs


def test_cell_vectors_of_open_directions_do_not_matter():
    positions = np.random.default_rng(3).uniform(0, 4, (6, 3))
    pbc = (True, False, False)
    first = neighbor_pairs(positions, SKEWED, pbc, 4.0)
    second = neighbor_pairs(positions, np.array([SKEWED[0], [0, 0, 0], [1e-9, 0, 0]]), pbc, 4.0)
    np.testing.assert_array_equal(first[0], second[0])
    np.testing.assert_allclose(first[1], second[1], atol=1e-12)


def test_agrees_with_matscipy():
    matscipy = pytest.importorskip("matscipy.neighbours")
    rng = np.random.default_rng(4)
    positions = rng.uniform(-5, 15, (60, 3))
    i, j, steps = matscipy.neighbour_list("ijS", cutoff=5.0, positions=positions, cell=SKEWED * 3, pbc=[1, 1, 0])
    ours = both_ways(positions, *neighbor_pairs(positions, SKEWED * 3, (True, True, False), 5.0))
    vectors = (positions[j] - positions[i] + steps @ (SKEWED * 3)).round(8) + 0.0
    theirs = sorted(map(tuple, np.column_stack([j, i, vectors]).tolist()))
    np.testing.assert_allclose(ours, np.array(theirs), atol=1e-5)


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 2**20),
    n_nodes=st.integers(1, 5),
    pbc=st.tuples(st.booleans(), st.booleans(), st.booleans()),
    r_max=st.floats(0.5, 3.0),
)
def test_any_structure(seed, n_nodes, pbc, r_max):
    rng = np.random.default_rng(seed)
    cell = np.diag(rng.uniform(1.5, 4, 3)) + rng.uniform(-0.6, 0.6, (3, 3))
    check(rng.uniform(-4, 4, (n_nodes, 3)), cell, pbc, r_max)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**20),
    n_nodes=st.integers(1, 4),
    pbc=st.tuples(st.booleans(), st.booleans(), st.booleans()),
    lengths=st.tuples(*[st.floats(0.8, 6.0)] * 3),
    skew=st.floats(0.0, 1.5),
    order=st.permutations([0, 1, 2]),
)
def test_any_cell(seed, n_nodes, pbc, lengths, skew, order):
    """Small, flat, very skewed and left-handed cells, with atoms that lie outside."""
    rng = np.random.default_rng(seed)
    cell = np.diag(lengths) @ (np.eye(3) + skew * np.tril(rng.uniform(-1, 1, (3, 3)), -1))
    cell = (cell @ np.linalg.qr(rng.normal(size=(3, 3)))[0])[order]
    inside = rng.uniform(0, 1, (n_nodes, 3))
    check((inside + rng.integers(-1, 2, (n_nodes, 3))) @ cell, cell, pbc, 2.2)


@pytest.mark.parametrize(
    ("cell", "pbc"),
    [(np.zeros((3, 3)), True), (np.diag([3.0, 0, 3]), (True, True, False)), (np.ones((3, 3)), True)],
    ids=["none", "one missing", "flat"],
)
def test_periodic_directions_without_volume_are_refused(cell, pbc):
    with pytest.raises(UserError, match="no volume"):
        neighbor_pairs(np.zeros((2, 3)), cell, pbc, 3.0)


def test_bad_positions_are_refused():
    with pytest.raises(UserError, match="atom 1 is not finite"):
        neighbor_pairs(np.array([[0, 0, 0], [np.nan, 0, 0]]), np.eye(3), True, 3.0)
    with pytest.raises(UserError, match="atoms 0 and 1 are at the same place"):
        neighbor_pairs(np.zeros((2, 3)), np.eye(3) * 9, False, 3.0)
    with pytest.raises(UserError, match="r_max"):
        neighbor_pairs(np.zeros((2, 3)), np.eye(3) * 9, False, 0.0)


@pytest.mark.parametrize("pbc", [(False, False, False), (True, True, False), (True, False, False)])
@pytest.mark.parametrize("distance", [40.0, 1e5, 9e6])
def test_atoms_that_have_flown_off(pbc, distance):
    """The others keep their pairs, and so does a group that flies together; no time or memory goes into the gap."""
    rng = np.random.default_rng(5)
    here, there = rng.uniform(0, 4, (8, 3)), rng.uniform(0, 3, (4, 3))
    away = np.where(pbc, 0.0, distance) * np.array([1.0, 1.0, -1.0])
    cell = np.diag([5.0, 6.0, 7.0])
    (near, near_shifts), (alone, alone_shifts) = (neighbor_pairs(group, cell, pbc, 3.3) for group in (here, there))
    pair_index, shifts = neighbor_pairs(np.concatenate([here, there + away]), cell, pbc, 3.3)
    assert np.array_equal(pair_index, np.concatenate([near, alone + 8], axis=1))
    np.testing.assert_allclose(shifts, np.concatenate([near_shifts, alone_shifts]), atol=1e-12)


@pytest.mark.parametrize(
    ("positions", "cell", "message"),
    [
        ([[0, 0, 0], [1e20, 0, 0]], np.eye(3) * 8, r"position of atom 1 is \[1e\+20, 0.0, 0.0\] Å; beyond"),
        ([[0, 0, 0]], np.eye(3) * 1e200, "vectors that are not finite or beyond"),
        ([[0, 0, 0]], np.eye(3) * np.nan, "vectors that are not finite or beyond"),
        ([[0, 0, 0]], np.eye(3) * 0.01, "images within 4 Å. Is it in Å"),
    ],
)
def test_what_would_take_for_ever_or_means_nothing_is_refused(positions, cell, message):
    with pytest.raises(UserError, match=message):
        neighbor_pairs(np.array(positions, dtype=float), cell, True, 4.0)
