"""Plots of parity. Drawn without pyplot, so nothing global changes."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from mace_gaunt.evaluation.parity_points import ParityPoints

# Above this many points a scatter plot is a blot, and density says more.
MOST_POINTS = 3000
# Of Okabe and Ito: told apart with any colour vision.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")


def plot_parity(row: dict[str, Any], points: ParityPoints, out: str | Path) -> Path:
    """Predicted against reference energies and force components of a split.

    Energies are shown against the mean reference, per atom where the frames differ in size.

    Args:
        row: Errors of the split, from `ErrorSums`.
        points: What is drawn.
        out: The PNG file.

    Returns:
        The file as a path.
    """
    figure = Figure(figsize=(9.0, 4.4), layout="constrained")
    energy_axes, forces_axes = figure.subplots(1, 2)
    drawn = "" if points.are_all else ", a random part of the points drawn"
    figure.suptitle(f"{row['split']}: {row['n_frames']} frames{drawn}")
    label, prediction, unit = _energies(points.energies.rows)
    errors = _errors(row["energy_rmse_meV"], row["energy_mae_meV"], "meV")
    _draw_parity(energy_axes, label, prediction, f"energy − mean ({unit})", errors)
    errors = _errors(row["forces_rmse_meV_A"], row["forces_mae_meV_A"], "meV/Å")
    label, prediction = points.forces.rows.T
    _draw_parity(forces_axes, label, prediction, "force component (eV/Å)", errors)
    return save(figure, out)


def _energies(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, str]:
    """Energies less the mean label, and their unit, of rows of label, prediction and number of atoms."""
    label, prediction, sizes = rows.T
    same_size = len(set(sizes.tolist())) <= 1
    scale = np.ones(len(sizes)) if same_size else sizes
    label, prediction = label / scale, prediction / scale
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
        cells = axes.hexbin(
            label, prediction, gridsize=90, bins="log", mincnt=1, cmap="viridis", extent=(*bounds, *bounds)
        )
        axes.figure.colorbar(cells, ax=axes, label="points per cell", shrink=0.75)
    else:
        axes.plot(label, prediction, ".", markersize=4, alpha=0.6, color=COLOURS[0])
    axes.set(xlim=bounds, ylim=bounds, aspect="equal")
    axes.text(0.04, 0.96, errors, ha="left", va="top", transform=axes.transAxes)


def _errors(rmse: float | None, mae: float | None, unit: str) -> str:
    return "" if rmse is None or mae is None else f"RMSE {rmse:.3g} {unit}\nMAE {mae:.3g} {unit}"


def read_columns(path: Path) -> dict[str, np.ndarray]:
    """Columns of a CSV file as numbers, NaN for cells that are none."""
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


def save(figure: Figure, out: str | Path) -> Path:
    """Write a figure as PNG.

    Args:
        figure: The figure.
        out: The file.

    Returns:
        The file as a path.
    """
    path = Path(out)
    FigureCanvasAgg(figure)  # binds the canvas to the figure
    figure.savefig(path, format="png", dpi=150)
    return path
