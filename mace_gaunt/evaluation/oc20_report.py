"""OC20's metrics of splits: a table, and oc20.csv."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from mace_gaunt.evaluation.oc20_metrics import OC20Metrics, as_numbers, with_mean
from mace_gaunt.evaluation.published_oc20 import published_s2ef
from mace_gaunt.files import write_csv

FILE = "oc20.csv"
FOUR_SPLITS = "mean of the four splits"
HEADINGS = {
    "split": "split",
    "n_frames": "frames",
    "energy_mae_eV": "E MAE\neV",
    "ewt_percent": "EwT\n%",
    "forces_mae_eV_A": "F MAE\neV/Å",
    "forces_cosine": "F cosine",
    "efwt_percent": "EFwT\n%",
}


def oc20_rows(found: Mapping[str, tuple[int, OC20Metrics]]) -> list[dict[str, Any]]:
    """OC20's metrics of every split, and their mean where there are several; see docs/oc20.md.

    Args:
        found: Number of frames and metrics by split; the forces of fixed atoms are left out where their labels are
            (forces_mask=free).
    """
    rows = [
        {"split": name, "n_frames": n_frames, **as_numbers(metrics.compute())}
        for name, (n_frames, metrics) in found.items()
    ]
    return with_mean(rows)


def write_oc20_csv(rows: list[dict[str, Any]], path: Path) -> None:
    """Write the rows; a cell is empty where there are no labels."""
    write_csv(path, rows, list(HEADINGS), floats="")


def oc20_table(rows: list[dict[str, Any]]) -> Table:
    """Set out OC20's metrics; "-" stands where there are no labels.

    Below the mean of the four official splits stand the published ones.
    """
    table = Table(box=SIMPLE_HEAD, caption="OC20: forces of free atoms, E within 0.02 eV, F within 0.03 eV/Å")
    for name, heading in HEADINGS.items():
        table.add_column(heading, justify="left" if name == "split" else "right", overflow="fold")
    for row in rows:
        table.add_row(*(_text(row.get(name)) for name in HEADINGS))
    if rows and rows[-1]["split"] == FOUR_SPLITS and "forces_mae_eV_A" in rows[-1]:
        table.add_row("papers: the same mean, trained on 2M", style="dim")
        for row in published_s2ef():
            table.add_row(*(_text(row.get(name)) for name in HEADINGS), style="dim")
    return table


def _text(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.4f}" if isinstance(value, float) else escape(str(value))
