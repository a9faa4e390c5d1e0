"""Curves of a training: losses, errors, time per epoch."""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter, StrMethodFormatter

from mace_gaunt.evaluation.plots import COLOURS, read_columns, save

KINDS = ("rmse", "mae")
LABELS = {
    "train/loss": "training",
    "valid/loss": "validation",
    "valid/energy_rmse_meV_per_atom": "RMSE",
    "valid/energy_mae_meV_per_atom": "MAE",
    "valid/forces_rmse_meV_A": "RMSE",
    "valid/forces_mae_meV_A": "MAE",
}


def plot_training(metrics_csv: str | Path, out: str | Path) -> Path:
    """Losses, validation errors, learning rate and time per epoch against the epoch.

    Args:
        metrics_csv: A run's metrics.csv: column `epoch`, and any of train/loss, train/loss_TERM, valid/loss,
            valid/*_rmse_*, valid/*_mae_*, lr and seconds.
        out: The PNG file.

    Returns:
        The file as a path.

    Raises:
        ValueError: If the file has no `epoch` column.
    """
    columns = read_columns(Path(metrics_csv))
    if "epoch" not in columns:
        raise ValueError(f"'{metrics_csv}' has no column 'epoch'; it has {', '.join(columns)}.")
    columns["seconds_per_epoch"] = seconds_per_epoch(columns)
    terms = [name for name in columns if name.startswith(("train/loss_", "valid/loss_"))]
    panels = [
        ("loss", ["train/loss", "valid/loss"], True),
        ("terms of the loss", terms, True),
        ("validation: energy error (meV/atom)", [f"valid/energy_{kind}_meV_per_atom" for kind in KINDS], True),
        ("validation: force error (meV/Å)", [f"valid/forces_{kind}_meV_A" for kind in KINDS], True),
        ("learning rate", ["lr"], True),
        ("time per epoch (s)", ["seconds_per_epoch"], False),
    ]  # fmt: skip
    shown = [panel for panel in panels if any(_known(columns, name).any() for name in panel[1])]
    per_row = min(3, max(1, len(shown)))
    rows = max(1, -(-len(shown) // per_row))
    figure = Figure(figsize=(4.0 * per_row, 3.4 * rows), layout="constrained")
    grid = figure.subplots(rows, per_row, squeeze=False).ravel()
    for axes, (label, names, logarithmic) in zip(grid, shown, strict=False):
        _draw(axes, columns, names, logarithmic)
        axes.set(xlabel="epoch", ylabel=label)
    for axes in grid[len(shown) :]:
        axes.set_axis_off()
    return save(figure, out)


def seconds_per_epoch(columns: dict[str, np.ndarray]) -> np.ndarray:
    """Time between validations over the epochs between them, shape [n]; NaN where it is not known.

    Args:
        columns: Of metrics.csv; `seconds` counts from the start of the training.
    """
    seconds = columns.get("seconds", np.full(len(columns["epoch"]), np.nan))
    epochs = np.diff(columns["epoch"], prepend=0.0)
    # A continued run may begin anew: no negative times.
    spent = np.diff(seconds, prepend=0.0)
    return np.where((epochs > 0) & (spent > 0), spent / np.where(epochs > 0, epochs, 1), np.nan)


def last_row(metrics_csv: str | Path) -> dict[str, float]:
    """The last values of a training that are known, by column.

    Args:
        metrics_csv: A run's metrics.csv.
    """
    columns = read_columns(Path(metrics_csv))
    found = {name: values[np.isfinite(values)] for name, values in columns.items()}
    return {name: float(values[-1]) for name, values in found.items() if values.size}


def _known(columns: dict[str, np.ndarray], name: str) -> np.ndarray:
    values = columns.get(name, np.zeros(0))
    return np.isfinite(values) & (values > 0)


def _draw(axes: Axes, columns: dict[str, np.ndarray], names: list[str], logarithmic: bool) -> None:
    drawn = [name for name in names if _known(columns, name).any()]
    for name, colour, style in zip(drawn, COLOURS * 3, ("-", "--", ":", "-.") * 6, strict=False):
        known = _known(columns, name)
        label = LABELS.get(
            name, name.replace("/loss_", ", ").replace("train", "training").replace("valid", "validation")
        )
        marker = "." if known.sum() <= 40 else ""
        axes.plot(
            columns["epoch"][known], columns[name][known], color=colour, linestyle=style, marker=marker, label=label
        )
    if logarithmic:
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axes.yaxis.set_minor_formatter(LogFormatter(minor_thresholds=(2, 0.4)))
    else:
        axes.set_ylim(bottom=0)
    if len(drawn) > 1:
        axes.legend(frameon=False, fontsize=8)
    axes.grid(alpha=0.3, which="both")
