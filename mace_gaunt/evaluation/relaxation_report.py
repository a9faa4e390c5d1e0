"""The report of relaxations: IS2RE and IS2RS of every split."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import ase
from ase.calculators.calculator import Calculator
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from mace_gaunt.evaluation.html import FILE as PAGE
from mace_gaunt.evaluation.html import Section, facts, table_of, write_page
from mace_gaunt.evaluation.leaderboard import Submission
from mace_gaunt.evaluation.oc20_metrics import with_mean
from mace_gaunt.evaluation.relaxations import Settings, relax_split
from mace_gaunt.evaluation.split_report import file_name
from mace_gaunt.files import write_csv

FILE = "relaxations.csv"
CAPTION = "IS2RE and IS2RS by relaxation: E within 0.02 eV, distances of free atoms"
HEADINGS = {
    "split": "split",
    "n_frames": "systems",
    "n_converged": "converged",
    "n_failed": "failed",
    "mean_steps": "steps",
    "energy_mae_eV": "E MAE\neV",
    "ewt_percent": "EwT\n%",
    "distance_A": "distance\nÅ",
    "adwt_percent": "ADwT\n%",
}


def relaxation_report(
    splits: Mapping[str, tuple[int, Iterable[ase.Atoms]]],
    calculator: Calculator,
    energy_reference: str,
    settings: Settings,
    out: Path,
    *,
    submissions: Sequence[Submission] = (),
    progress: bool = True,
    console: Console | None = None,
) -> list[dict[str, Any]]:
    """Relax the systems of every split; write `relaxed_SPLIT.extxyz` as they end.

    After each split `relaxations.csv` and `report.html` have those that are done.

    Args:
        splits: By name how many first structures there are, and the structures.
        calculator: The model.
        energy_reference: What its energies are: "total", "adsorption" or "linear".
        settings: How structures are relaxed.
        out: Folder of the files; it is made.
        submissions: Files for the leaderboard; not written here.
        progress: Whether a progress line goes to stderr.
        console: Where the table goes; standard output by default.

    Returns:
        Rows of the splits, see `relax_split`, and their mean where there are several.

    Raises:
        UserError: If a first structure cannot be computed; names it.
    """
    out.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    told = rows
    for split, (count, records) in splits.items():
        with (out / f"relaxed_{file_name(split)}.extxyz").open("w") as structures:
            rows.append(
                relax_split(
                    split,
                    records,
                    count,
                    calculator,
                    energy_reference,
                    settings,
                    submissions=submissions,
                    structures=structures,
                    progress=progress,
                )
            )
        # Relaxing takes hours: what is done stays when the next split cannot be finished.
        told = with_mean(rows)
        write_csv(out / FILE, told, list(HEADINGS), floats="")
        write_relaxation_page(out, told, settings)
    (console or Console()).print(relaxation_table(told))
    return told


def write_relaxation_page(out: Path, rows: list[dict[str, Any]], settings: Settings) -> Path:
    """Write report.html: the table and how was relaxed, in one file.

    Args:
        out: Its folder.
        rows: Of `relaxation_report`.
        settings: How structures were relaxed.
    """
    table = table_of(rows, HEADINGS, CAPTION)
    sections = [Section("IS2RE and IS2RS", [table]), Section("How was relaxed", facts(asdict(settings)))]
    return write_page(out / PAGE, "Relaxations", f"{rows[-1]['n_frames']} systems", sections)


def relaxation_table(rows: list[dict[str, Any]]) -> Table:
    """Set out rows of `relaxation_report`; "-" stands where there are no labels."""
    table = Table(box=SIMPLE_HEAD, caption=CAPTION, padding=(0, 1, 0, 0))
    for name, heading in HEADINGS.items():
        table.add_column(heading, justify="left" if name == "split" else "right", overflow="fold")
    for row in rows:
        table.add_row(*(_text(row.get(name)) for name in HEADINGS))
    return table


def _text(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else escape(str(value))
