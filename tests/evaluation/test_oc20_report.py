"""The table of OC20's metrics."""

import csv

import numpy as np
from predicted import predicted
from rich.console import Console

from mace_gaunt.evaluation.oc20_metrics import OC20Metrics, add_predictions
from mace_gaunt.evaluation.oc20_report import oc20_rows, oc20_table, write_oc20_csv


def measured(energy_error: float, forces: bool = True) -> tuple[int, OC20Metrics]:
    """Two frames of two atoms; the first atom of each is fixed."""
    label = np.full((4, 3), 0.1)
    label[::2] = np.nan
    part = predicted(
        [2, 2],
        energy=np.array([1.0 + energy_error, 2.0]),
        energy_label=np.array([1.0, 2.0]),
        forces=np.full((4, 3), 0.12),
        forces_label=label if forces else np.full((4, 3), np.nan),
    )
    metrics = OC20Metrics()
    add_predictions(metrics, part)
    return 2, metrics


def test_rows_table_and_file(tmp_path):
    rows = oc20_rows({"val_id": measured(0.1), "val_ood_ads": measured(0.0)})
    assert [row["split"] for row in rows] == ["val_id", "val_ood_ads", "mean of 2 splits"]
    assert [round(row["energy_mae_eV"], 9) for row in rows] == [0.05, 0.0, 0.025]
    assert [row["efwt_percent"] for row in rows] == [50.0, 100.0, 75.0]
    assert all(abs(row["forces_mae_eV_A"] - 0.02) < 1e-12 for row in rows)
    console = Console(width=100, record=True)
    console.print(oc20_table(rows))
    text = console.export_text()
    assert "mean of 2 splits" in text and "0.0250" in text
    write_oc20_csv(rows, tmp_path / "oc20.csv")
    with (tmp_path / "oc20.csv").open(newline="") as file:
        found = list(csv.DictReader(file))
    assert float(found[2]["energy_mae_eV"]) == rows[2]["energy_mae_eV"]


def test_energies_alone(tmp_path):
    (row,) = oc20_rows({"val_id": measured(0.1, forces=False)})
    assert "forces_mae_eV_A" not in row and row["ewt_percent"] == 50.0
    write_oc20_csv([row], tmp_path / "oc20.csv")
    assert (tmp_path / "oc20.csv").read_text().splitlines()[1].startswith("val_id,2,0.05")


def test_published_rows_stand_below_the_mean_of_the_four_splits():
    splits = {f"val_{name}": measured(0.1) for name in ("id", "ood_ads", "ood_cat", "ood_both")}
    console = Console(width=100, record=True)
    console.print(oc20_table(oc20_rows(splits)))
    text = console.export_text()
    assert "mean of the four splits" in text and "EquiformerV2" in text
