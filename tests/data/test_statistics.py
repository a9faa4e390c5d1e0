"""Statistics against hand computation, overrides and the cache."""

import json
import math
from dataclasses import asdict

import ase
import numpy as np
import pytest
from ase.calculators.singlepoint import SinglePointCalculator
from waters import make_atom, make_water

from mace_gaunt.data.atomic_data import AtomicData
from mace_gaunt.data.labels import LabelKeys
from mace_gaunt.data.statistics import Statistics, cached, compute_statistics, override
from mace_gaunt.errors import UserError


def graph(atoms):
    return AtomicData.from_atoms(atoms, 1.2, [1, 8], LabelKeys())


def pair(energy, forces, distance=1.0):
    atoms = ase.Atoms("H2", [[0, 0, 0], [distance, 0, 0]])
    atoms.calc = SinglePointCalculator(
        atoms, **{k: v for k, v in {"energy": energy, "forces": forces}.items() if v is not None}
    )
    return graph(atoms)


def test_against_hand_computation():
    forces = np.array([[3.0, 0, 0], [-3.0, 0, 0]])
    frames = [pair(-1003.0, forces), pair(-1001.0, 0 * forces, distance=5.0), pair(None, None)]
    statistics = compute_statistics(frames, [1, 8], [-500.0, -1.0])
    assert statistics.avg_num_neighbors == pytest.approx(4 / 6)
    assert statistics.scale == pytest.approx(math.sqrt(18 / 12))
    assert statistics.shift == pytest.approx((-3 / 2 - 1 / 2) / 2)
    assert statistics.atomic_numbers == [1, 8] and statistics.E0s == [-500.0, -1.0]
    assert "H -500.000000" in str(statistics)


def test_small_interaction_energies_survive_large_totals():
    frames = [pair(-17660.461737861464 + i * 1e-6, None) for i in range(2)]
    statistics = compute_statistics(frames, [1, 8], [-17660.461737861464 / 2, 0.0])
    assert statistics.shift == pytest.approx(0.25e-6, rel=1e-4)


def test_without_forces_the_scale_is_the_spread_of_energies(caplog):
    statistics = compute_statistics([pair(-2.0, None), pair(-4.0, None)], [1, 8], [0.0, 0.0])
    assert statistics.scale == pytest.approx(0.5)
    assert "no training frame has forces" in caplog.text


def test_nothing_to_divide_by_becomes_one(caplog):
    statistics = compute_statistics([graph(make_atom("H"))], [1, 8], [0.0, 0.0])
    assert (statistics.avg_num_neighbors, statistics.scale) == (1.0, 1.0)
    assert "no frame has edges" in caplog.text
    assert compute_statistics([graph(make_water(energy=None))], [1, 8], [0.0, 0.0]).shift == 0.0
    with pytest.raises(UserError, match="no training frames"):
        compute_statistics([], [1], [0.0])
    with pytest.raises(UserError, match=r"1 E0s for 2 elements \(H, O\)"):
        compute_statistics([graph(make_water())], [1, 8], [0.0])


COMPUTED = Statistics([1, 8], [-1.0, -2.0], 3.0, 4.0, 5.0)


def test_overrides():
    assert override(lambda: COMPUTED, None) == COMPUTED
    changed = override(lambda: COMPUTED, {"avg_num_neighbors": 7, "shift": 0})
    assert changed == Statistics([1, 8], [-1.0, -2.0], 7.0, 4.0, 0.0)


def test_nothing_is_computed_when_all_is_given():
    def explode():
        raise AssertionError("computed")

    assert override(explode, asdict(COMPUTED)) == COMPUTED


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"avg_num_neighbours": 7}, "Did you mean 'avg_num_neighbors'"),
        ({"scale": "big"}, "expected numbers"),
        ({"E0s": [1.0]}, "2 atomic_numbers, but 1 E0s"),
        ({"atomic_numbers": [8, 1]}, "goes up"),
    ],
)
def test_bad_overrides(given, message):
    with pytest.raises(UserError, match=message):
        override(lambda: COMPUTED, given)


def test_cache(tmp_path):
    calls = []

    def compute():
        calls.append(1)
        return COMPUTED

    for _ in range(2):
        assert cached(tmp_path / "cache", {"file": "abc", "r_max": 5.0}, compute) == COMPUTED
    assert len(calls) == 1
    cached(tmp_path / "cache", {"file": "abc", "r_max": 4.0}, compute)
    assert len(calls) == 2
    files = sorted((tmp_path / "cache").iterdir())
    assert len(files) == 2 and all(json.loads(file.read_text())["inputs"]["file"] == "abc" for file in files)
    cached(None, {"file": "abc"}, compute)
    assert len(calls) == 3
