"""The report of a model: metrics, predictions, plots, table."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from mace_gaunt.data.atomic_data import AtomicData
from mace_gaunt.errors import UserError
from mace_gaunt.evaluation.evaluate import predict_splits
from mace_gaunt.evaluation.metrics import Predictions, metrics_row, missing_labels, write_metrics_csv
from mace_gaunt.evaluation.oc20_report import FILE, oc20_rows, oc20_table, write_oc20_csv
from mace_gaunt.evaluation.plots import plot_parity, plot_training_curve
from mace_gaunt.evaluation.published import published_rows, sources
from mace_gaunt.evaluation.tables import metrics_table
from mace_gaunt.model.gradients import EdgeGradient
from mace_gaunt.model.mace import MACE
from mace_gaunt.simulation.batching import MAX_EDGES_PER_BATCH
from mace_gaunt.simulation.output import check_output


def report(
    model: MACE,
    frames_by_split: Mapping[str, Sequence[AtomicData]],
    out: str | Path,
    *,
    max_edges_per_batch: int = MAX_EDGES_PER_BATCH,
    gradient: EdgeGradient | None = None,
    published: bool = False,
    oc20: bool = False,
    metrics_csv: str | Path | None = None,
    overwrite: bool = False,
    progress: bool = True,
    console: Console | None = None,
) -> list[dict[str, Any]]:
    """Evaluate a model and write `metrics.csv`, `predictions/SPLIT.npz` and `parity_SPLIT.png`; print the table.

    Args:
        model: The model, on the device where it is to run.
        frames_by_split: Frames built with the model's r_max and atomic_numbers.
        out: Folder for the files. Nothing is written before every split has been predicted.
        max_edges_per_batch: How much is computed at once.
        gradient: Of `compile_inference`; None computes eagerly.
        published: Whether the published 3BPA errors are shown: only for the real 3BPA data.
        oc20: Whether OC20's own metrics are shown too, and written to oc20.csv.
        metrics_csv: A run's metrics.csv; then `training_curve.png` is drawn too.
        overwrite: Whether a report in `out` may be replaced.
        progress: Whether a progress line goes to stderr.
        console: Where the table goes; standard output by default.

    Returns:
        One row per split; see `metrics_row`.

    Raises:
        UserError: If there are no splits, `out` is a file, or it holds a report that may not be replaced.
    """
    if not frames_by_split:
        raise UserError("There is no split to evaluate.")
    folder = check_output(out, ["metrics.csv"], overwrite)
    predictions = predict_splits(
        model, frames_by_split, max_edges_per_batch=max_edges_per_batch, gradient=gradient, progress=progress
    )
    rows = [metrics_row(split, found) for split, found in predictions.items()]
    _write(folder, predictions, rows)
    if metrics_csv is not None:
        plot_training_curve(metrics_csv, folder / "training_curve.png")
    console = console or Console()
    _show(console, rows, published)
    if oc20:
        own = oc20_rows(predictions)
        write_oc20_csv(own, folder / FILE)
        console.print(oc20_table(own))
    return rows


def save_predictions(predictions: Predictions, path: str | Path) -> Path:
    """Write predictions and labels as compressed numpy arrays under the names of `Predictions`.

    Args:
        predictions: What to write.
        path: The npz file.

    Returns:
        The file as a path.
    """
    path = Path(path)
    np.savez_compressed(path, **asdict(predictions))
    return path


def file_name(split: str) -> str:
    """A split's name with what file systems dislike replaced: `train_mixedT[334:]` gives `train_mixedT_334-`.

    Args:
        split: Name of the split.

    Returns:
        Letters, digits, `_`, `.` and `-` only.
    """
    return re.sub(r"[^\w.\-]", "_", split.replace("]", "").replace(":", "-"))


def _write(folder: Path, predictions: dict[str, Predictions], rows: list[dict[str, Any]]) -> None:
    (folder / "predictions").mkdir(parents=True, exist_ok=True)
    write_metrics_csv(rows, folder / "metrics.csv")
    for split, found in predictions.items():
        save_predictions(found, folder / "predictions" / f"{file_name(split)}.npz")
        plot_parity(split, found, folder / f"parity_{file_name(split)}.png")


def _show(console: Console, rows: list[dict[str, Any]], published: bool) -> None:
    console.print(metrics_table(rows, published))
    for row in rows:
        for sentence in missing_labels(row):
            console.print(sentence, style="yellow", markup=False)
    if published and any(published_rows(row["split"]) for row in rows):
        for source in sources():
            console.print(f"Published: {source}", style="dim", markup=False)
