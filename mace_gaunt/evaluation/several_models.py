"""Several models on the same splits: one table, one page."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from mace_gaunt.evaluation.breakdown_plots import plot_by_split
from mace_gaunt.evaluation.html import FILE, Code, Image, Part, Section, facts, write_page
from mace_gaunt.evaluation.metrics import COLUMNS
from mace_gaunt.evaluation.report_page import errors_by_split
from mace_gaunt.evaluation.split_report import file_name
from mace_gaunt.evaluation.tables import HEADINGS
from mace_gaunt.files import write_csv

# With the names of models in front, 80 columns have room for these.
SHOWN = ("n_frames", "energy_rmse_meV", "energy_rmse_meV_per_atom", "forces_rmse_meV_A", "forces_mae_meV_A")
BARS = "errors_by_split.png"


def write_comparison(
    folder: Path,
    rows_by_model: Mapping[str, Sequence[Mapping[str, Any]]],
    about_by_model: Mapping[str, Mapping[str, Any]],
    published: bool,
    console: Console | None = None,
) -> list[dict[str, Any]]:
    """Write metrics.csv with a column `model`, errors_by_split.png and report.html; print the table.

    Args:
        folder: Of the comparison; the report of every model is in its folder MODEL.
        rows_by_model: Rows of `report`.
        about_by_model: With what each was evaluated.
        published: Whether the published 3BPA errors are shown.
        console: Where the table goes; standard output by default.

    Returns:
        All rows, split by split, with the model's name under `model`.
    """
    found = [{"model": name, **row} for name, rows in rows_by_model.items() for row in rows]
    splits = list(dict.fromkeys(row["split"] for row in found))
    rows = sorted(found, key=lambda row: splits.index(row["split"]))
    write_csv(folder / "metrics.csv", rows, ("model", *COLUMNS))
    bars = plot_by_split(rows, folder / BARS)
    names = ", ".join(rows_by_model)
    subtitle = f"{len(rows_by_model)} models, {len(splits)} splits"
    sections = [
        Section("Errors by split", errors_by_split(rows, published, {"model": "model"})),
        Section("Side by side", [] if bars is None else [Image(bars, "Energy and force RMSE of every model by split")]),
        *(
            Section(f"Model {name}", _model_parts(folder / name, splits, about_by_model[name]))
            for name in rows_by_model
        ),
    ]
    write_page(folder / FILE, f"Errors of {names}", subtitle, sections)
    (console or Console()).print(comparison_table(rows))
    return rows


def comparison_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """Set out the errors of several models, split by split.

    Args:
        rows: Of `write_comparison`.

    Returns:
        The table; "-" stands where there are no labels.
    """
    table = Table(box=SIMPLE_HEAD, caption="RMSE and MAE over all frames; forces per component", padding=(0, 1, 0, 0))
    headings = {"split": "split", "model": "model", **{name: HEADINGS[name] for name in SHOWN}}
    for name, heading in headings.items():
        named = name in ("split", "model")
        table.add_column(heading, justify="left" if named else "right", overflow="fold", no_wrap=named)
    for index, row in enumerate(rows):
        if index and row["split"] != rows[index - 1]["split"]:
            table.add_section()
        table.add_row(*(_text(row[name]) for name in headings))
    return table


def _model_parts(folder: Path, splits: Sequence[str], about: Mapping[str, Any]) -> list[Part]:
    """Plots of one model's own report, and its origin."""
    files = {f"Parity of {split}": folder / f"parity_{file_name(split)}.png" for split in splits}
    files |= {"Force RMSE by element": folder / "by_element.png", "Force RMSE by size": folder / "by_force_size.png"}
    files |= {f"Energies of {split} over α and γ": folder / f"dihedral_{file_name(split)}.png" for split in splits}
    images = [Image(file, f"{folder.name}: {what}") for what, file in files.items() if file.is_file()]
    said = {name: value for name, value in about.items() if name != "configuration"}
    configuration = [Code("Configuration", str(about["configuration"]))] if about.get("configuration") else []
    return [*images, *facts(said), *configuration]


def _text(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.2f}" if isinstance(value, float) else escape(str(value))
