"""The sample of points for plots."""

import numpy as np
import pytest
from predicted import predicted

from mace_gaunt.evaluation.parity_points import ParityPoints, Sample


def test_a_small_set_is_kept_whole_and_in_order():
    sample = Sample(2, size=50)
    rows = np.random.default_rng(0).normal(size=(50, 2))
    for part in np.split(rows, [7, 7, 30]):
        sample.add(part)
    assert np.array_equal(sample.rows, rows) and sample.seen == 50


def test_a_large_set_is_sampled_evenly():
    counts = np.zeros(1000)
    for seed in range(40):
        sample = Sample(1, size=100, seed=seed)
        for part in np.split(np.arange(1000.0)[:, None], range(37, 1000, 37)):
            sample.add(part)
        found = sample.rows[:, 0]
        assert len(found) == len(set(found)) == 100 and (np.diff(found) > 0).all() and sample.seen == 1000
        counts[found.astype(int)] += 1
    # 800 of 4000 in each fifth, with a standard deviation of 25 and less.
    fifths = counts.reshape(5, 200).sum(axis=1)
    assert np.abs(fifths - 800).max() < 150


def test_the_same_stream_gives_the_same_sample():
    one, other = Sample(1, size=10), Sample(1, size=10)
    for sample in (one, other):
        sample.add(np.arange(100.0)[:, None])
    assert np.array_equal(one.rows, other.rows)


def test_unlabelled_frames_and_atoms_are_left_out():
    points = ParityPoints()
    label = np.zeros((3, 3))
    label[1] = np.nan
    points.add(predicted([2, 1], energy=np.array([1.0, 2.0]), energy_label=np.array([np.nan, 0.5]), forces_label=label))
    assert points.energies.rows.tolist() == [[0.5, 2.0, 1.0]]
    assert points.forces.rows.shape == (6, 2) and points.are_all
    points.forces.size = 5
    assert not points.are_all and points.forces.rows.shape == (5, 2)
    assert points.forces.rows == pytest.approx(0.0)
