"""Metrics against numbers computed by hand."""

import csv
import math

import numpy as np
import pytest
from predicted import predicted

from mace_gaunt.evaluation.metrics import COLUMNS, ErrorSums, missing_labels, write_metrics_csv

NAN = math.nan


def predictions(**changes):
    """Two frames of one and three atoms. Energy errors 3 and -4 meV, one force component off by 12 meV/Å."""
    forces = np.zeros((4, 3))
    forces[2, 1] = 0.012
    fields = {
        "energy": np.array([-17660.0 + 0.003, -17661.0 - 0.004]),
        "energy_label": np.array([-17660.0, -17661.0]),
        "forces": forces,
        "forces_label": np.zeros((4, 3)),
    }
    return predicted([1, 3], **(fields | changes))


def metrics_row(split, *parts):
    sums = ErrorSums()
    for part in parts:
        sums.add(part)
    return sums.row(split)


def test_all_frames_and_components_count_alike():
    row = metrics_row("test", predictions())
    assert row["split"] == "test" and row["n_frames"] == 2
    assert row["energy_rmse_meV"] == pytest.approx(math.sqrt((9 + 16) / 2), rel=1e-8)
    assert row["energy_mae_meV"] == pytest.approx(3.5, rel=1e-8)
    assert row["energy_rmse_meV_per_atom"] == pytest.approx(math.sqrt((9 + 16 / 9) / 2), rel=1e-8)
    assert row["forces_rmse_meV_A"] == pytest.approx(12 / math.sqrt(12))
    assert row["forces_mae_meV_A"] == pytest.approx(1.0)
    assert missing_labels(row) == []


def test_frames_without_a_label_are_left_out_of_that_metric_only():
    forces_label = np.zeros((4, 3))
    forces_label[0] = NAN
    row = metrics_row("x", predictions(energy_label=np.array([-17660.0, NAN]), forces_label=forces_label))
    assert row["n_frames"] == 2 and row["n_frames_with_energy"] == 1 and row["n_frames_with_forces"] == 1
    assert row["energy_rmse_meV"] == pytest.approx(3.0, rel=1e-8)
    assert row["forces_rmse_meV_A"] == pytest.approx(12 / math.sqrt(9))
    assert missing_labels(row) == [
        "x: 1 of 2 frames have no energy; they do not count in its errors.",
        "x: 1 of 2 frames have no forces; they do not count in its errors.",
    ]


def test_no_labels_give_empty_cells(tmp_path):
    row = metrics_row("x", predictions(forces_label=np.full((4, 3), NAN)))
    assert row["forces_rmse_meV_A"] is None and row["forces_mae_meV_A"] is None
    assert missing_labels(row) == ["x: 2 of 2 frames have no forces; its errors are left empty."]
    write_metrics_csv([row, metrics_row("y[3:]", predictions())], tmp_path / "metrics.csv")
    header = (tmp_path / "metrics.csv").read_text().splitlines()[0]
    assert header == (
        "split,n_frames,energy_rmse_meV,energy_mae_meV,energy_rmse_meV_per_atom,forces_rmse_meV_A,forces_mae_meV_A"
    )
    assert header.split(",") == COLUMNS
    with (tmp_path / "metrics.csv").open() as file:
        first, second = csv.DictReader(file)
    assert first["forces_rmse_meV_A"] == "" and float(first["energy_mae_meV"]) == 3.5
    assert second["split"] == "y[3:]" and float(second["forces_mae_meV_A"]) == 1.0 and second["n_frames"] == "2"


def test_predictions_that_are_not_numbers_are_not_hidden():
    row = metrics_row("x", predictions(energy=np.array([NAN, -17661.0])))
    assert math.isnan(row["energy_rmse_meV"])


def test_parts_add_up():
    whole = predicted(
        [1, 3, 2],
        energy=np.array([0.003, -0.004, 0.1]),
        forces=np.arange(18.0).reshape(6, 3) / 1000,
        forces_label=np.where(np.arange(6)[:, None] == 4, NAN, np.zeros((6, 3))),
    )
    parts = [
        predicted([1], energy=whole.energy[:1], forces=whole.forces[:1], forces_label=whole.forces_label[:1]),
        predicted([]),
        predicted([3, 2], energy=whole.energy[1:], forces=whole.forces[1:], forces_label=whole.forces_label[1:]),
    ]
    found, expected = metrics_row("x", *parts), metrics_row("x", whole)
    assert found.pop("split") == expected.pop("split") and found == pytest.approx(expected, rel=1e-14)
