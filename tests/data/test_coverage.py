"""What geometries a training set holds."""

import json

import numpy as np
import pytest
from ase import Atoms
from ase.neighborlist import neighbor_list

from mace_gaunt.data.atomic_data import AtomicData
from mace_gaunt.data.coverage import Coverage, training_coverage

R_MAX = 2.5


@pytest.fixture
def structures():
    rng = np.random.default_rng(0)
    cell = [[4.0, 0.0, 0.0], [1.0, 4.2, 0.0], [0.0, 0.5, 3.8]]
    periodic = [Atoms("CO2H3", rng.random((6, 3)) * 4, cell=np.array(cell) * size, pbc=True) for size in (1.0, 1.2)]
    return [*periodic, Atoms("CH4", rng.normal(scale=1.5, size=(5, 3))), Atoms("O", [[0, 0, 0]])]


def graphs(structures):
    return [AtomicData.from_atoms(atoms, R_MAX, [1, 6, 8]) for atoms in structures]


def test_against_ases_neighbour_list(structures):
    found = training_coverage(graphs(structures)).to_json()
    distances, counts = {}, {}
    for atoms in structures:
        first, second, lengths = neighbor_list("ijd", atoms, R_MAX)
        for i, j, length in zip(first, second, lengths, strict=True):
            pair = "-".join(atoms[k].symbol for k in sorted((i, j), key=lambda k: atoms.numbers[k]))
            distances[pair] = min(length, distances.get(pair, np.inf))
        for index, atom in enumerate(atoms):
            counts.setdefault(atom.symbol, []).append(int((first == index).sum()))
    assert found["smallest_distance_A"] == pytest.approx(distances, abs=1e-6)
    assert found["neighbors"] == {symbol: [min(seen), max(seen)] for symbol, seen in counts.items()}
    densities = [6 / atoms.get_volume() for atoms in structures[:2]]
    assert found["atoms_per_A3"] == pytest.approx(sorted(densities), rel=1e-5)
    assert (found["frames"], found["open_frames"]) == (4, 2)


def test_parts_merge_and_json_keeps_all(structures):
    whole = training_coverage(graphs(structures))
    parts = Coverage()
    for atoms in structures:
        parts.merge(training_coverage(graphs([atoms])))
    assert parts == whole
    again = Coverage.from_json(json.loads(json.dumps(whole.to_json())))
    assert again.to_json() == whole.to_json()


def test_stored_frames_are_not_read():
    assert training_coverage(range(3)) is None
