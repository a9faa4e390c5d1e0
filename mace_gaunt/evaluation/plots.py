"""Plots: parity of a split, curves of a training. Drawn without pyplot, so nothing global changes."""

import csv
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter

from mace_gaunt.evaluation.metrics import Predictions, metrics_row

# Above this many points a scatter plot is a blot, and density says more.
MOST_POINTS = 3000
COLOURS = ("#1f5fa8", "#d1752b", "#3f8f4f", "#8a5aa8")


def plot_parity(split: str, predictions: Predictions, out: str | Path) -> Path:
    """Predicted against reference energies and force components of a split.

    Energies are shown against the mean reference, per atom where the frames differ in size.

    Args:
        split: Name of the split, for the title.
        predictions: Predictions and labels.
        out: The PNG file.

    Returns:
        The file as a path.
    """
    figure = Figure(figsize=(9.0, 4.4), layout="constrained")
    energy_axes, forces_axes = figure.subplots(1, 2)
    row = metrics_row(split, predictions)
    figure.suptitle(f"{split}: {row['n_frames']} frames")
    label, prediction, unit = _energies(predictions)
    errors = _errors(row["energy_rmse_meV"], row["energy_mae_meV"], "meV")
    _draw_parity(energy_axes, label, prediction, f"energy − mean ({unit})", errors)
    nodes = predictions.nodes_with_forces
    errors = _errors(row["forces_rmse_meV_A"], row["forces_mae_meV_A"], "meV/Å")
    label, prediction = predictions.forces_label[nodes].ravel(), predictions.forces[nodes].ravel()
    _draw_parity(forces_axes, label, prediction, "force component (eV/Å)", errors)
    return _save(figure, out)


def plot_training_curve(metrics_csv: str | Path, out: str | Path) -> Path:
    """Losses and validation errors against the epoch.

    Args:
        metrics_csv: A run's metrics.csv: column `epoch`, and any of train/loss, valid/loss and valid/*_rmse_*.
        out: The PNG file.

    Returns:
        The file as a path.

    Raises:
        ValueError: If the file has no `epoch` column.
    """
    columns = _read_columns(Path(metrics_csv))
    if "epoch" not in columns:
        raise ValueError(f"'{metrics_csv}' has no column 'epoch'; it has {', '.join(columns)}.")
    panels = [
        ("loss", ["train/loss", "valid/loss"]),
        ("energy RMSE (meV)", ["valid/energy_rmse_meV"]),
        ("force RMSE (meV/Å)", ["valid/forces_rmse_meV_A"]),
    ]
    figure = Figure(figsize=(12.0, 3.8), layout="constrained")
    for axes, (label, names) in zip(figure.subplots(1, len(panels)), panels, strict=True):
        _draw_curves(axes, columns, names)
        axes.set(xlabel="epoch", ylabel=label)
    return _save(figure, out)


def _energies(predictions: Predictions) -> tuple[np.ndarray, np.ndarray, str]:
    """Labelled energies less the mean label, and their unit."""
    labelled = predictions.with_energy
    sizes = predictions.n_atoms[labelled]
    same_size = len(set(sizes.tolist())) <= 1
    scale = np.ones(len(sizes)) if same_size else sizes
    label, prediction = predictions.energy_label[labelled] / scale, predictions.energy[labelled] / scale
    centre = label.mean() if label.size else 0.0
    return label - centre, prediction - centre, "eV" if same_size else "eV/atom"


def _draw_parity(axes: Axes, label: np.ndarray, prediction: np.ndarray, name: str, errors: str) -> None:
    axes.set(xlabel=f"reference {name}", ylabel=f"predicted {name}")
    drawn = np.isfinite(prediction)
    label, prediction = label[drawn], prediction[drawn]
    if not label.size:
        axes.text(0.5, 0.5, "no labels", ha="center", va="center", transform=axes.transAxes)
        return
    low, high = min(label.min(), prediction.min()), max(label.max(), prediction.max())
    margin = 0.04 * (high - low) or 0.5
    bounds = (low - margin, high + margin)
    axes.plot(bounds, bounds, color="0.6", linewidth=1, zorder=0)
    if label.size > MOST_POINTS:
        axes.hexbin(label, prediction, gridsize=90, bins="log", mincnt=1, cmap="viridis", extent=(*bounds, *bounds))
    else:
        axes.plot(label, prediction, ".", markersize=4, alpha=0.6, color=COLOURS[0])
    axes.set(xlim=bounds, ylim=bounds, aspect="equal")
    axes.text(0.04, 0.96, errors, ha="left", va="top", transform=axes.transAxes)


def _errors(rmse: float | None, mae: float | None, unit: str) -> str:
    return "" if rmse is None or mae is None else f"RMSE {rmse:.3g} {unit}\nMAE {mae:.3g} {unit}"


def _draw_curves(axes: Axes, columns: dict[str, np.ndarray], names: list[str]) -> None:
    """Curves on a logarithmic axis; epochs without a value are passed over."""
    for name, colour in zip(names, COLOURS, strict=False):
        values = columns.get(name, np.zeros(0))
        known = np.isfinite(values) & (values > 0)
        if known.any():
            axes.plot(columns["epoch"][known], values[known], color=colour, marker=".", markersize=3, label=name)
    if axes.lines:
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(LogFormatter())  # 60, not 6 × 10¹
        axes.yaxis.set_minor_formatter(LogFormatter(minor_thresholds=(2, 0.4)))
        if len(names) > 1:
            axes.legend(frameon=False)
        axes.grid(alpha=0.3, which="both")


def _read_columns(path: Path) -> dict[str, np.ndarray]:
    """Numeric columns of a CSV file, NaN for empty cells."""
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        rows = list(reader)
        names = list(reader.fieldnames or [])
    return {name: np.array([_number(row[name]) for row in rows]) for name in names}


def _number(cell: str | None) -> float:
    try:
        return float(cell or "nan")
    except ValueError:
        return float("nan")


def _save(figure: Figure, out: str | Path) -> Path:
    path = Path(out)
    FigureCanvasAgg(figure)  # binds the canvas to the figure
    figure.savefig(path, format="png", dpi=150)
    return path
