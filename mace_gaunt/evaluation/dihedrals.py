"""Dihedral energy slices of 3BPA: energies over two torsions at a fixed third one."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ase.data import atomic_numbers
from ase.geometry import get_dihedrals
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mace_gaunt.data.atomic_data import AtomicData
from mace_gaunt.evaluation.metrics import MEV
from mace_gaunt.evaluation.plots import COLOURS, read_columns, save
from mace_gaunt.files import write_csv

ANGLES = ("alpha_deg", "beta_deg", "gamma_deg")
COLUMNS = (*ANGLES, "reference_meV", "predicted_meV")
N_ATOMS = 27
# Atoms of alpha, beta and gamma in the files of the benchmark and in those of the bundled set; the elements tell which.
NUMBERINGS = (
    ((13, 5, 1, 4), (1, 5, 13, 14), (5, 13, 14, 18)),
    ((8, 7, 6, 1), (6, 7, 8, 9), (7, 8, 9, 10)),
)
ELEMENTS = ("COCC", "COCC", "OCCC")
# Largest spread of beta in a slice (degrees).
SAME = 1.0


def slice_angles(frames: Sequence[AtomicData]) -> np.ndarray | None:
    """The three dihedral angles of every frame of a slice.

    Args:
        frames: Of a split.

    Returns:
        alpha, beta, gamma in degrees from 0 to 360, shape [n_frames, 3]; None where the frames are no slice of 3BPA
        with one beta.
    """
    if not len(frames):
        return None
    numbering = _numbering(frames[0].atomic_numbers.numpy())
    if numbering is None:
        return None
    positions = [frame.positions.numpy() for frame in frames if len(frame.positions) == N_ATOMS]
    if len(positions) < len(frames):
        return None
    angles = _angles(np.stack(positions), numbering)
    turns = (angles[:, 1] - angles[0, 1] + 180) % 360 - 180
    return angles if np.ptp(turns) < SAME else None


def write_slice(path: str | Path, angles: np.ndarray, reference: np.ndarray, predicted: np.ndarray) -> Path | None:
    """Write angles and energies, all relative to the reference's lowest structure.

    Args:
        path: The CSV file, with the columns `COLUMNS`.
        angles: Shape [n_frames, 3] (degrees).
        reference: Labels, shape [n_frames] (eV).
        predicted: Shape [n_frames] (eV).

    Returns:
        The file; None where no frame has a label.
    """
    known = np.isfinite(reference)
    if not known.any():
        return None
    lowest = int(np.nanargmin(reference))
    energies = np.stack([reference - reference[lowest], predicted - predicted[lowest]], axis=1) * MEV
    rows = [dict(zip(COLUMNS, row.tolist(), strict=True)) for row in np.concatenate([angles, energies], axis=1)[known]]
    return write_csv(Path(path), rows, COLUMNS)


def plot_slice(csv_file: str | Path, out: str | Path) -> Path:
    """Maps of the reference, the prediction and their difference over alpha and gamma, and a cut along gamma.

    Args:
        csv_file: Of `write_slice`.
        out: The PNG file.

    Returns:
        The file as a path.
    """
    columns = read_columns(Path(csv_file))
    alpha, beta, gamma, reference, predicted = (columns[name] for name in COLUMNS)
    figure = Figure(figsize=(12.5, 7.4), layout="constrained")
    figure.suptitle(f"3BPA at β = {beta.mean():.0f}°: energy above the reference's lowest of this slice")
    (left, right), (difference, cut) = figure.subplots(2, 2)
    top = float(np.percentile(reference, 98))
    error = predicted - reference
    reach = float(np.percentile(np.abs(error), 98)) or 1.0
    panels: list[tuple[Axes, np.ndarray, str, dict[str, Any]]] = [
        (left, reference, "reference (meV)", {"cmap": "viridis", "vmin": 0, "vmax": top}),
        (right, predicted, "predicted (meV)", {"cmap": "viridis", "vmin": 0, "vmax": top}),
        (difference, error, "predicted − reference (meV)", {"cmap": "RdBu_r", "vmin": -reach, "vmax": reach}),
    ]
    for axes, values, label, style in panels:
        drawn = axes.pcolormesh(*_grid(np.round(alpha), np.round(gamma), values), shading="nearest", **style)
        axes.set(xlabel="α (degrees)", ylabel="γ (degrees)")
        figure.colorbar(drawn, ax=axes, label=label, extend="both")
    _draw_cut(cut, np.round(alpha), gamma, reference, predicted)
    return save(figure, out)


def slice_errors(csv_file: str | Path) -> dict[str, float]:
    """Errors of relative energies: RMSE of all, and of those below 0.5 eV (meV), with their numbers.

    Args:
        csv_file: Of `write_slice`.
    """
    columns = read_columns(Path(csv_file))
    reference, error = columns["reference_meV"], columns["predicted_meV"] - columns["reference_meV"]
    low = reference < 500
    return {
        "n_frames": len(error),
        "rmse_meV": float(np.sqrt(np.mean(error**2))),
        "n_low": int(low.sum()),
        "low_rmse_meV": float(np.sqrt(np.mean(error[low] ** 2))),
    }


def _grid(x: np.ndarray, y: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Values on the grid of all x and y that occur, NaN where there is no structure."""
    columns, column = np.unique(x, return_inverse=True)
    lines, line = np.unique(y, return_inverse=True)
    table = np.full((len(lines), len(columns)), np.nan)
    table[line, column] = values
    return columns, lines, table


def _draw_cut(axes: Axes, alpha: np.ndarray, gamma: np.ndarray, reference: np.ndarray, predicted: np.ndarray) -> None:
    """Energies along gamma where the lowest structure is."""
    own = np.flatnonzero(alpha == alpha[np.argmin(reference)])
    own = own[np.argsort(gamma[own])]
    axes.plot(gamma[own], reference[own], "o", color=COLOURS[0], markersize=5, label="reference")
    axes.plot(gamma[own], predicted[own], "-", color=COLOURS[1], label="predicted")
    axes.set(xlabel="γ (degrees)", ylabel="energy (meV)", title=f"α = {alpha[own[0]]:.0f}°")
    axes.legend(frameon=False)
    axes.grid(alpha=0.3)


def _numbering(numbers: np.ndarray) -> tuple[tuple[int, ...], ...] | None:
    if len(numbers) != N_ATOMS:
        return None
    for numbering in NUMBERINGS:
        wanted = [[atomic_numbers[symbol] for symbol in symbols] for symbols in ELEMENTS]
        if [[int(numbers[atom]) for atom in quad] for quad in numbering] == wanted:
            return numbering
    return None


def _angles(positions: np.ndarray, numbering: Sequence[Sequence[int]]) -> np.ndarray:
    """Angles in degrees, shape [n_frames, 3], of positions [n_frames, n_atoms, 3]."""
    found = []
    for a, b, c, d in numbering:
        first, second, third = (positions[:, j] - positions[:, i] for i, j in ((a, b), (b, c), (c, d)))
        # A turn by 360 degrees less rounding is no turn.
        found.append(np.round(get_dihedrals(first, second, third), 2) % 360)
    return np.stack(found, axis=1)
