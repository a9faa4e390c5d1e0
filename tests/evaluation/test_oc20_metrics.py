"""OC20's metrics against plain numpy, frame by frame, as their definitions read."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from predicted import predicted

from mace_gaunt.evaluation.oc20_metrics import (
    OC20Metrics,
    PositionMetrics,
    add_predictions,
    as_numbers,
    split_name,
    with_mean,
)

NAN = np.nan


def random_split(n_frames=40, seed=0):
    """Frames of 1 to 6 atoms; errors about as large as the thresholds, every third atom fixed, some labels missing."""
    rng = np.random.default_rng(seed)
    frames = []
    for index in range(n_frames):
        n = int(rng.integers(1, 7))
        label = rng.normal(size=(n, 3))
        found = label + rng.normal(scale=0.01, size=(n, 3))
        energy = rng.normal()
        frame = {
            "energy": energy + rng.normal(scale=0.02),
            "energy_label": NAN if index == 5 else energy,
            "forces": found,
            "forces_label": label,
        }
        label[rng.integers(3) :: 3] = NAN
        if index == 7:
            label[:] = NAN
        if index == 9:
            label[0] = 0.0
        frames.append(frame)
    return frames


def expected_metrics(frames):
    """Every definition written out in loops."""
    energy, near, components, cosines, hits = [], [], [], [], []
    for frame in frames:
        error = abs(frame["energy"] - frame["energy_label"])
        free = [atom for atom in range(len(frame["forces"])) if np.isfinite(frame["forces_label"][atom]).all()]
        largest = 0.0
        for atom in free:
            f, g = frame["forces"][atom], frame["forces_label"][atom]
            components += list(abs(f - g))
            largest = max(largest, max(abs(f - g)))
            lengths = np.linalg.norm(f) * np.linalg.norm(g)
            cosines.append(f @ g / lengths if lengths > 0 else 0.0)
        if np.isfinite(frame["energy_label"]):
            energy.append(error)
            near.append(error < 0.02)
            if free:
                hits.append(error < 0.02 and largest < 0.03)
    return {
        "energy_mae_eV": np.mean(energy),
        "ewt_percent": 100 * np.mean(near),
        "forces_mae_eV_A": np.mean(components),
        "forces_cosine": np.mean(cosines),
        "efwt_percent": 100 * np.mean(hits),
    }


def as_batch(frames):
    """Prediction and batch as a model and a loader give them."""
    sizes = torch.tensor([len(frame["forces"]) for frame in frames])
    joined = {
        name: torch.from_numpy(np.concatenate([np.atleast_1d(frame[name]) for frame in frames]))
        for name in ("energy", "energy_label", "forces", "forces_label")
    }
    index = torch.arange(len(frames)).repeat_interleave(sizes)
    labels = SimpleNamespace(
        batch=index, node_types=index, energy=joined["energy_label"], forces=joined["forces_label"]
    )
    return {"energy": joined["energy"], "forces": joined["forces"]}, labels


def measured(*groups):
    metrics = OC20Metrics()
    for frames in groups:
        metrics.update(*as_batch(frames))
    return metrics


def test_against_the_definitions():
    frames = random_split()
    expected = expected_metrics(frames)
    assert 5 < expected["efwt_percent"] < expected["ewt_percent"] < 95
    assert as_numbers(measured(frames).compute()) == pytest.approx(expected, rel=1e-13)


@pytest.mark.parametrize("cuts", [[1], [13, 14], list(range(1, 40))])
def test_batches_do_not_matter(cuts):
    frames = random_split()
    parts = [part.tolist() for part in np.split(np.array(frames, dtype=object), cuts)]
    assert as_numbers(measured(*parts).compute()) == pytest.approx(expected_metrics(frames), rel=1e-12)


def test_processes_add_up_and_one_without_data_is_legal():
    frames = random_split(11)
    first, second, idle = measured(frames[:4]), measured(frames[4:]), OC20Metrics()
    for other in (second, idle):
        # What torch.distributed does between processes: the states are summed.
        for name, reduce in first._reductions.items():
            setattr(first, name, reduce(torch.stack([getattr(first, name), getattr(other, name)])))
    assert as_numbers(first.compute()) == pytest.approx(expected_metrics(frames), rel=1e-12)


def test_thresholds_are_open_and_of_components():
    """A force error of (0.029, 0.029, 0.029) passes, although it is 0.05 long; one component of 0.031 does not."""

    def efwt(energy_error, force_error):
        frame = {
            "energy": energy_error,
            "energy_label": 0.0,
            "forces": np.array([force_error]),
            "forces_label": np.zeros((1, 3)),
        }
        return as_numbers(measured([frame]).compute())["efwt_percent"]

    assert efwt(0.0199, [0.029, 0.029, -0.029]) == 100
    assert efwt(0.0199, [0.0, 0.031, 0.0]) == 0
    assert efwt(0.0201, [0.0, 0.0, 0.0]) == 0


def test_predictions_that_are_no_numbers_are_misses_and_show():
    frames = random_split(3)
    frames[0]["forces"][:] = NAN
    frames[1]["energy"] = NAN
    values = as_numbers(measured(frames[:2]).compute())
    assert values["efwt_percent"] == 0
    assert np.isnan(values["energy_mae_eV"]) and np.isnan(values["forces_mae_eV_A"])


def test_quantities_without_labels_have_no_entry():
    frames = random_split(4)
    for frame in frames:
        frame["forces_label"][:] = NAN
    assert set(as_numbers(measured(frames).compute())) == {"energy_mae_eV", "ewt_percent"}
    for frame in frames:
        frame["energy_label"] = NAN
    assert measured(frames).compute() == {}


def test_predictions_of_a_whole_split():
    frames = random_split()
    prediction, labels = as_batch(frames)
    part = predicted(
        [len(frame["forces"]) for frame in frames],
        energy=prediction["energy"].numpy(),
        energy_label=labels.energy.numpy(),
        forces=prediction["forces"].numpy(),
        forces_label=labels.forces.numpy(),
    )
    metrics = OC20Metrics()
    add_predictions(metrics, part)
    assert as_numbers(metrics.compute()) == pytest.approx(expected_metrics(frames), rel=1e-13)


def test_splits_and_their_mean():
    names = ["val_id", "val_ood_ads", "val_ood_cat", "val_ood_both"]
    rows = [{"split": name, "n_frames": 10 * k, "energy_mae_eV": 0.1 * k} for k, name in enumerate(names, start=1)]
    rows[0]["efwt_percent"] = 1.0
    mean = with_mean(rows)[-1]
    assert mean == {"split": "mean of the four splits", "n_frames": 100, "energy_mae_eV": pytest.approx(0.25)}
    assert with_mean(rows[:2])[-1]["split"] == "mean of 2 splits"
    assert with_mean(rows[:1]) == rows[:1]
    assert [split_name(name) for name in ("test_ood_cat", "id", "val_idd")] == ["ood_cat", "id", None]


def adwt_by_hand(mean_distances):
    hits = [distance < threshold for distance in mean_distances for threshold in np.arange(0.01, 0.5, 0.001)]
    return 100 * np.mean(hits)


def test_adwt_counts_thresholds_above_the_mean_distance():
    rng = np.random.default_rng(0)
    metrics, distances = PositionMetrics(), []
    cell, pbc = np.diag([8.0, 9.0, 20.0]), np.array([True, True, True])
    for scale in (0.001, 0.05, 0.1, 0.4):
        expected, moves = rng.uniform(0, 8, size=(6, 3)), rng.normal(scale=scale, size=(6, 3))
        free = np.array([False, True, True, True, False, True])
        distances.append(np.mean(np.linalg.norm(moves[free], axis=1)))
        # Whole cell vectors do not count, and neither do fixed atoms.
        moved = expected + moves + rng.integers(-2, 3, size=(6, 3)) @ cell
        metrics.update(moved + np.where(free, 0.0, 3.0)[:, None], expected, free, cell, pbc)
    values = as_numbers(metrics.compute())
    assert values["adwt_percent"] == pytest.approx(adwt_by_hand(distances), rel=1e-12)
    assert values["distance_A"] == pytest.approx(np.mean(distances), rel=1e-12)


def test_adwt_without_periods_and_without_free_atoms():
    metrics, one = PositionMetrics(), np.zeros((1, 3))
    metrics.update(
        one + np.array([0.0, 0.0, 7.0]), one, np.array([True]), np.diag([7.0, 7.0, 7.0]), np.array([True, True, False])
    )
    assert as_numbers(metrics.compute()) == {"distance_A": pytest.approx(7.0), "adwt_percent": 0.0}
    empty = PositionMetrics()
    empty.update(one, one, np.array([False]), np.eye(3), np.ones(3, dtype=bool))
    assert empty.compute() == {}


def test_distances_are_those_of_fairchem_in_skewed_cells():
    """min_diff of fairchem-core 1.10, written out: fractional differences between -1/2 and 1/2, and not above."""
    rng = np.random.default_rng(1)
    cell = np.array([[7.0, 0.0, 0.0], [3.0, 6.0, 0.0], [-1.0, 2.0, 20.0]])
    metrics, distances = PositionMetrics(), []
    for scale in (0.01, 0.1, 0.5):
        expected = rng.uniform(0, 8, size=(9, 3))
        positions = expected + rng.normal(scale=scale, size=(9, 3)) + rng.integers(-1, 2, size=(9, 3)) @ cell
        fractional = np.linalg.solve(cell.T, (positions - expected).T).T % 1.0 % 1.0
        fractional[fractional > 0.5] -= 1
        distances.append(np.mean(np.linalg.norm(fractional @ cell, axis=1)))
        metrics.update(positions, expected, np.ones(9, dtype=bool), cell, np.ones(3, dtype=bool))
    values = as_numbers(metrics.compute())
    assert values["distance_A"] == pytest.approx(np.mean(distances), rel=1e-12)
    assert values["adwt_percent"] == pytest.approx(adwt_by_hand(distances), rel=1e-12)
