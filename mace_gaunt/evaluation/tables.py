"""Metrics as a table for the terminal."""

from typing import Any

from rich.markup import escape
from rich.table import Table

from mace_gaunt.evaluation.published import published_rows

HEADINGS = {
    "split": "split",
    "n_frames": "frames",
    "energy_rmse_meV": "E RMSE\nmeV",
    "energy_mae_meV": "E MAE\nmeV",
    "energy_rmse_meV_per_atom": "E RMSE\nmeV/atom",
    "forces_rmse_meV_A": "F RMSE\nmeV/Å",
    "forces_mae_meV_A": "F MAE\nmeV/Å",
}


def metrics_table(rows: list[dict[str, Any]], published: bool = False) -> Table:
    """Set out the errors of every split.

    Args:
        rows: From `metrics_row`.
        published: Whether the published 3BPA errors follow each split they belong to.

    Returns:
        The table; "-" stands where there are no labels.
    """
    table = Table(caption="RMSE and MAE over all frames; forces per component")
    for name, heading in HEADINGS.items():
        table.add_column(heading, justify="left" if name == "split" else "right", no_wrap=name != "split")
    for row in rows:
        table.add_row(*(_text(row[name]) for name in HEADINGS), end_section=not published)
        if published:
            _add_published(table, row["split"])
    return table


def _add_published(table: Table, split: str) -> None:
    for found in published_rows(split):
        label = f"  {found.method}, published" + ("" if found.split == split else f" on {found.split}")
        cells = [label, "", _spread(found.energy), "", "", _spread(found.forces), ""]
        table.add_row(*cells, style="dim")
    table.add_section()


def _text(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.3f}" if isinstance(value, float) else escape(str(value))


def _spread(numbers: tuple[float, ...]) -> str:
    return " ± ".join(str(number) for number in numbers)
