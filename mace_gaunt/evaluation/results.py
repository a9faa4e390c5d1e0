"""From what was found of every split to the files of a report, its page included."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console

from mace_gaunt.errors import UserError
from mace_gaunt.evaluation.breakdown import BY_ELEMENT, BY_SIZE
from mace_gaunt.evaluation.breakdown_plots import plot_by_element, plot_by_size
from mace_gaunt.evaluation.dihedrals import plot_slice
from mace_gaunt.evaluation.equivariance import FORCES
from mace_gaunt.evaluation.learning_curves import plot_training
from mace_gaunt.evaluation.metrics import missing_labels, write_metrics_csv
from mace_gaunt.evaluation.oc20_report import FILE, oc20_rows, oc20_table, write_oc20_csv
from mace_gaunt.evaluation.prediction_files import read_predictions
from mace_gaunt.evaluation.published import published_rows, sources
from mace_gaunt.evaluation.report_page import Drawn, Found, write_report_page
from mace_gaunt.evaluation.run_facts import read_run
from mace_gaunt.evaluation.split_report import SplitSummary, file_name
from mace_gaunt.evaluation.tables import metrics_table
from mace_gaunt.files import write_csv, write_whole

JSON = "report.json"


@dataclass(frozen=True)
class Extras:
    """What a report says beside the errors.

    Attributes:
        published: Whether the published 3BPA errors are shown.
        oc20: Whether OC20's own metrics are.
        equivariance: Of `equivariance_errors`, by split.
        metrics_csv: A run's metrics.csv.
        about: With what and on what was evaluated.
    """

    published: bool = False
    oc20: bool = False
    equivariance: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    metrics_csv: str | Path | None = None
    about: Mapping[str, Any] = field(default_factory=dict)


def write_results(
    folder: Path, summaries: Mapping[str, SplitSummary], extras: Extras, console: Console
) -> list[dict[str, Any]]:
    """Write metrics.csv, by_element.csv, by_force_size.csv, oc20.csv, the plots, report.json and report.html; print
    the table.

    Args:
        folder: It exists; files of these names are replaced.
        summaries: By split, complete.
        extras: What stands beside the errors.
        console: Where the table goes.

    Returns:
        One row per split.
    """
    rows = [found.row() | dict(extras.equivariance.get(split, {})) for split, found in summaries.items()]
    write_metrics_csv(rows, folder / "metrics.csv")
    by_element = [row for split, found in summaries.items() for row in found.breakdown.by_element(split)]
    by_size = [row for split, found in summaries.items() for row in found.breakdown.by_size(split)]
    write_csv(folder / "by_element.csv", by_element, BY_ELEMENT)
    write_csv(folder / "by_force_size.csv", by_size, BY_SIZE)
    own: list[dict[str, Any]] = []
    if extras.oc20:
        own = oc20_rows({split: (found.errors.n_frames, found.oc20) for split, found in summaries.items()})
        write_oc20_csv(own, folder / FILE)
    run = read_run(extras.metrics_csv)
    drawn = Drawn(
        parity={split: found.draw(folder) for split, found in summaries.items()},
        by_element=plot_by_element(by_element, folder / "by_element.png"),
        by_size=plot_by_size(by_size, folder / "by_force_size.png"),
        dihedrals=draw_dihedrals(folder, list(summaries)),
        training=plot_training(run.metrics_csv, folder / "training_curve.png") if run.metrics_csv else None,
    )
    found = Found(rows, by_element, by_size, own, extras.published, extras.about, run)
    write_json(folder / JSON, found, extras)
    write_report_page(folder, found, drawn)
    show(console, rows, extras.published)
    if extras.oc20:
        console.print(oc20_table(own))
    return rows


def rebuild(
    folder: str | Path, splits: Sequence[str], extras: Extras, out: Path, console: Console
) -> list[dict[str, Any]]:
    """Make a report again from the predictions that it keeps; nothing is predicted.

    Args:
        folder: A report with `predictions/SPLIT.npz`.
        splits: Names of its splits.
        extras: What stands beside the errors.
        out: Folder of the new files; may be the same.
        console: Where the table goes.

    Returns:
        One row per split.

    Raises:
        UserError: If predictions are missing or cannot be read.
    """
    folder = Path(folder)
    files = {split: folder / "predictions" / f"{file_name(split)}.npz" for split in splits}
    absent = [str(file) for file in files.values() if not file.is_file()]
    if absent:
        raise UserError(f"there are no predictions {', '.join(absent)}: evaluate the model again.")
    summaries = {split: summarise(split, read_predictions(file)) for split, file in files.items()}
    out.mkdir(parents=True, exist_ok=True)
    if out.resolve() != folder.resolve():
        for path in folder.glob("dihedral_*.csv"):
            (out / path.name).write_bytes(path.read_bytes())
    return write_results(out, summaries, extras, console)


def summarise(split: str, parts: Iterable[Any]) -> SplitSummary:
    """What a report keeps of predictions.

    Args:
        split: Its name.
        parts: `Predictions`, read once.
    """
    summary = SplitSummary(split)
    for part in parts:
        summary.add(part)
    return summary


def draw_dihedrals(folder: Path, splits: Sequence[str]) -> dict[str, Path]:
    """Draw dihedral_SPLIT.png for every dihedral_SPLIT.csv.

    Args:
        folder: Of the report.
        splits: Names of its splits.

    Returns:
        Split -> CSV file.
    """
    files = {split: folder / f"dihedral_{file_name(split)}.csv" for split in splits}
    present = {split: file for split, file in files.items() if file.is_file()}
    for file in present.values():
        plot_slice(file, file.with_suffix(".png"))
    return present


def write_json(path: Path, found: Found, extras: Extras) -> None:
    """Write what the page shows as JSON: it appears when it is complete.

    Args:
        path: The file.
        found: The figures.
        extras: What stands beside them.
    """
    content = {
        "rows": found.rows,
        "by_element": found.by_element,
        "by_force_size": found.by_size,
        "oc20": found.oc20,
        "published": extras.published,
        "equivariance": {split: dict(errors) for split, errors in extras.equivariance.items()},
        "about": dict(extras.about),
    }
    write_whole(path, json.dumps(content, indent=2, default=str) + "\n")


def show(console: Console, rows: list[dict[str, Any]], published: bool) -> None:
    """Print the table, what labels are missing, and where published rows are from.

    Args:
        console: Where it goes.
        rows: One per split.
        published: Whether the published 3BPA errors are shown.
    """
    console.print(metrics_table(rows, published))
    for row in rows:
        for sentence in missing_labels(row):
            console.print(sentence, style="yellow", markup=False)
    equivariance = [row[FORCES] for row in rows if row.get(FORCES) is not None]
    if equivariance:
        console.print(f"equivariance: rotated, forces differ by {max(equivariance):.0e} meV/Å at most", markup=False)
    if published and any(published_rows(row["split"]) for row in rows):
        for source in sources():
            console.print(f"Published: {source}", style="dim", markup=False)
