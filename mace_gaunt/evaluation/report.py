"""The report of a model: metrics, predictions, plots, table, page."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from mace_gaunt.data.atomic_data import AtomicData
from mace_gaunt.errors import UserError
from mace_gaunt.evaluation.dihedrals import slice_angles, write_slice
from mace_gaunt.evaluation.equivariance import equivariance_errors
from mace_gaunt.evaluation.evaluate import predict_parts
from mace_gaunt.evaluation.leaderboard import Submission
from mace_gaunt.evaluation.prediction_files import write_predictions
from mace_gaunt.evaluation.results import Extras, write_results
from mace_gaunt.evaluation.split_report import SplitReport, file_name
from mace_gaunt.evaluation.streams import nearest_folder
from mace_gaunt.files import new_folder
from mace_gaunt.model.gradients import EdgeGradient
from mace_gaunt.model.mace import MACE
from mace_gaunt.simulation.batching import MAX_EDGES_PER_BATCH
from mace_gaunt.simulation.output import check_output

EQUIVARIANCE_FRAMES = 4


def report(
    model: MACE,
    frames_by_split: Mapping[str, Sequence[AtomicData]],
    out: str | Path,
    *,
    max_edges_per_batch: int = MAX_EDGES_PER_BATCH,
    gradient: EdgeGradient | None = None,
    published: bool = False,
    oc20: bool = False,
    submission: Submission | None = None,
    metrics_csv: str | Path | None = None,
    about: Mapping[str, Any] | None = None,
    equivariance_frames: int = EQUIVARIANCE_FRAMES,
    predictions: str | Path | None = None,
    overwrite: bool = False,
    progress: bool = True,
    console: Console | None = None,
) -> list[dict[str, Any]]:
    """Evaluate a model; write what `write_results` lists and `predictions/SPLIT.npz`; print the table.

    Predictions wait on disk, in files without names where `out` will be: memory does not grow with their number.

    Args:
        model: The model, on the device where it is to run.
        frames_by_split: Frames built with the model's r_max and atomic_numbers.
        out: Folder for the files. Nothing is written before every split has been predicted.
        max_edges_per_batch: How much is computed at once.
        gradient: Of `compile_inference`; None computes eagerly.
        published: Whether the published 3BPA errors are shown: only for the real 3BPA data.
        oc20: Whether OC20's own metrics are shown too, and written to oc20.csv.
        submission: Gets every prediction; it is not written here.
        metrics_csv: A run's metrics.csv; then its curves are drawn, and config.yaml and run.json beside it are shown.
        about: With what and on what was evaluated, for the page: JSON values by name.
        equivariance_frames: Frames of every split on which the equivariance is measured; 0 leaves it out.
        predictions: A further file for the predictions of all splits; see `write_predictions`.
        overwrite: Whether a report in `out` may be replaced.
        progress: Whether a progress line goes to stderr.
        console: Where the table goes; standard output by default.

    Returns:
        One row per split; see `ErrorSums.row`, and `equivariance_errors`.

    Raises:
        UserError: If there are no splits, `out` is a file, or it holds a report that may not be replaced.
    """
    if not frames_by_split:
        raise UserError("There is no split to evaluate.")
    folder = check_output(out, ["metrics.csv"], overwrite)
    reports = {split: SplitReport(split, nearest_folder(folder)) for split in frames_by_split}
    for split, part in predict_parts(
        model, frames_by_split, max_edges_per_batch=max_edges_per_batch, gradient=gradient, progress=progress
    ):
        reports[split].add(part)
        if submission is not None:
            submission.add_predictions(split, part)
    equivariance: dict[str, dict[str, Any]] = {}
    if equivariance_frames:
        for split, frames in frames_by_split.items():
            equivariance[split] = equivariance_errors(
                model, frames, equivariance_frames, max_edges_per_batch=max_edges_per_batch
            )
    with new_folder(folder / "predictions"):
        for split, found in reports.items():
            found.write(folder)
            write_dihedrals(found, frames_by_split[split], folder)
    if predictions is not None:
        write_predictions(predictions, reports, frames_by_split)
    extras = Extras(published, oc20, equivariance, metrics_csv, dict(about or {}))
    return write_results(folder, reports, extras, console or Console())


def write_dihedrals(report: SplitReport, frames: Sequence[AtomicData], folder: Path) -> Path | None:
    """Write dihedral_SPLIT.csv of a dihedral slice of 3BPA.

    Args:
        report: Of the split, complete.
        frames: Of the split; read once more.
        folder: Of the report.

    Returns:
        The file; None of any other split, where an earlier one is removed.
    """
    path = folder / f"dihedral_{file_name(report.split)}.csv"
    path.unlink(missing_ok=True)
    angles = slice_angles(frames) if "dih" in report.split else None
    return None if angles is None else write_slice(path, angles, *report.energies())
