"""Metrics as a table for the terminal."""

from typing import Any

from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from mace_gaunt.evaluation.equivariance import FORCES
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
        rows: From `ErrorSums`, maybe with `equivariance_errors`.
        published: Whether the published 3BPA errors follow each split they belong to.

    Returns:
        The table; "-" stands where there are no labels.
    """
    # Without vertical lines it fits 80 columns, spreads included.
    table = Table(box=SIMPLE_HEAD, caption="RMSE and MAE over all frames; forces per component", padding=(0, 1, 0, 0))
    for name, heading in HEADINGS.items():
        name_column = name == "split"
        table.add_column(heading, justify="left" if name_column else "right", overflow="fold", no_wrap=not name_column)
    # Beside the spreads of published rows 80 columns have no room for it.
    measured = not published and any(row.get(FORCES) is not None for row in rows)
    if measured:
        table.add_column("equiv.\nmeV/Å", justify="right", no_wrap=True)
    for row in rows:
        equivariance = ["-" if row.get(FORCES) is None else f"{row[FORCES]:.0e}"] if measured else []
        table.add_row(*(_text(row[name]) for name in HEADINGS), *equivariance)
        if published:
            _add_published(table, row["split"])
    return table


def _add_published(table: Table, split: str) -> None:
    found = published_rows(split)
    if not found:
        return
    table.add_row(f"papers: {found[0].split}", style="dim")
    for row in found:
        table.add_row(f"  {row.method}", "", _spread(row.energy), "", "", _spread(row.forces), "", style="dim")
    table.add_section()


def _text(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.2f}" if isinstance(value, float) else escape(str(value))


def _spread(numbers: tuple[float, ...]) -> str:
    return "±".join(str(number) for number in numbers)
