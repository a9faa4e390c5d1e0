"""Statistics from sums equal those of a pass over the frames."""

import json

import ase
import numpy as np
import pytest
from slabs import make_slab
from waters import make_atom, make_water

from mace_gaunt.data.atomic_data import AtomicData
from mace_gaunt.data.labels import LabelKeys
from mace_gaunt.data.reference_energies import isolated_energies, resolve_reference_energies
from mace_gaunt.data.statistics import compute_statistics
from mace_gaunt.data.store.linear_sums import Moments
from mace_gaunt.data.store.sums import Sums
from mace_gaunt.errors import UserError

METALS = [1, 8, 29, 79]


def frames_of(atoms_list, elements):
    return [AtomicData.from_atoms(atoms, 4.0, elements, LabelKeys()) for atoms in atoms_list]


def summed(frames, parts=1) -> Sums:
    """Sums of some frames, merged from parts, through JSON."""
    total = Sums()
    for part in np.array_split(np.arange(len(frames)), parts):
        sums = Sums()
        for index in part:
            sums.add(frames[index])
        total.merge(Sums.from_json(json.loads(json.dumps(sums.to_json()))))
    return total


@pytest.mark.parametrize("parts", [1, 4])
def test_statistics_of_slabs(parts):
    frames = frames_of([make_slab(i) for i in range(20)], METALS)
    sums = summed(frames, parts)
    E0s = [-1.0, -2.5, -3.0, 0.5]
    expected = compute_statistics(frames, METALS, E0s)
    found = sums.statistics(E0s)
    assert found.atomic_numbers == expected.atomic_numbers
    assert found.E0s == E0s
    for name in ("avg_num_neighbors", "scale", "shift"):
        assert getattr(found, name) == pytest.approx(getattr(expected, name), rel=1e-12)
    free = np.concatenate([frame.forces[~frame.fixed].numpy() for frame in frames])
    assert sums.statistics(E0s, "free").scale == pytest.approx(np.sqrt((free**2).mean()), rel=1e-12)
    energies = np.array([frame.energy.item() for frame in frames])
    assert sums.energy.mean == pytest.approx(energies.mean(), rel=1e-13)
    assert sums.energy.spread == pytest.approx(energies.std(), rel=1e-12)
    assert (sums.energy.least, sums.energy.most) == (energies.min(), energies.max())
    assert sums.max_atoms == 6
    assert sums.max_pairs == max(frame.pair_index.shape[1] for frame in frames)


def test_regression_and_isolated_atoms():
    frames = frames_of([make_atom("H"), make_atom("O"), *(make_water(i, energy=-2070.0 - i) for i in range(4))], [1, 8])
    dimers = frames_of([ase.Atoms("H2", [[0, 0, 0], [0, 0, 0.74]])], [1, 8])
    dimers[0].energy[0] = -30.0
    sums = summed(frames + dimers, 3)
    assert sums.isolated_energies() == isolated_energies(frames)
    trained_on = frames[2:] + dimers
    expected = resolve_reference_energies("regress", trained_on, [1, 8], {})
    assert sums.regress() == pytest.approx(expected, rel=1e-11)
    residuals = [f.energy.item() - sum(expected[t] for t in f.node_types) for f in trained_on]
    assert sums.residual(expected) == pytest.approx((np.mean(residuals), np.std(residuals)), abs=1e-6)
    assert sums.frames == 7
    assert sums.atoms == 14


def test_without_forces_the_scale_is_the_spread_of_energies():
    frames = frames_of([make_water(i, energy=-2070.0 - i, forces=False) for i in range(5)], [1, 8])
    expected = compute_statistics(frames, [1, 8], [-13.5, -2041.25])
    found = summed(frames).statistics([-13.5, -2041.25])
    assert found.scale == pytest.approx(expected.scale, rel=1e-6)
    assert found.shift == pytest.approx(expected.shift, rel=1e-9)


def test_what_has_no_spread_becomes_one():
    frames = frames_of([make_water(0, energy=-2070.1, forces=False)] * 3, [1, 8])
    assert summed(frames).statistics([-13.0, -2041.0]).scale == 1.0
    far = frames_of([make_water(0, energy=None, forces=False)], [1, 8])
    far[0].pair_index, far[0].shifts = far[0].pair_index[:, :0], far[0].shifts[:0]
    assert summed(far).statistics([0.0, 0.0]).avg_num_neighbors == 1.0


def test_what_cannot_be_told_is_refused():
    sums = summed(frames_of([make_water(0), make_water(1)], [1, 8]))
    with pytest.raises(UserError, match="cannot determine H, O"):
        sums.regress()
    with pytest.raises(UserError, match="3 energies for 2 elements"):
        sums.statistics([1.0, 2.0, 3.0])
    with pytest.raises(UserError, match="no training frames"):
        summed(frames_of([make_atom("H")], [1])).statistics([0.0])
    with pytest.raises(UserError, match="isolated H atoms have different energies"):
        summed(frames_of([make_atom("H"), make_atom("H", -13.0)], [1])).isolated_energies()
    with pytest.raises(UserError, match="cannot determine"):
        Sums().regress()


def test_moments_keep_digits():
    values = 1e9 + np.random.default_rng(0).normal(size=300)
    parts = []
    for part in np.array_split(values, 5):
        parts.append(Moments())
        for value in part:
            parts[-1].add(value)
    total = Moments()
    for moments in [Moments(), *parts]:
        total.merge(moments)
    assert total.spread == pytest.approx(values.std(), rel=1e-6)
    assert total.mean == pytest.approx(values.mean(), rel=1e-15)
