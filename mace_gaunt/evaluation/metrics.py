"""Errors of predictions as one row per split."""

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

COLUMNS = [
    "split",
    "n_frames",
    "energy_rmse_meV",
    "energy_mae_meV",
    "energy_rmse_meV_per_atom",
    "forces_rmse_meV_A",
    "forces_mae_meV_A",
]

MEV = 1000.0


@dataclass(frozen=True)
class Predictions:
    """What a model says about the frames of a split, beside the labels; all float64, NaN where a label is absent.

    Attributes:
        n_atoms: Atoms of each frame, shape [n_frames].
        frame_index: Position of each frame in its file, shape [n_frames].
        atomic_numbers: Shape [n_nodes].
        energy: Predicted total energies, shape [n_frames] (eV).
        energy_label: Reference total energies, shape [n_frames] (eV).
        forces: Predicted forces, shape [n_nodes, 3] (eV/Å).
        forces_label: Reference forces, shape [n_nodes, 3] (eV/Å).
    """

    n_atoms: np.ndarray
    frame_index: np.ndarray
    atomic_numbers: np.ndarray
    energy: np.ndarray
    energy_label: np.ndarray
    forces: np.ndarray
    forces_label: np.ndarray

    @property
    def with_energy(self) -> np.ndarray:
        """Which frames have an energy label, shape [n_frames]."""
        return np.isfinite(self.energy_label)

    @property
    def nodes_with_forces(self) -> np.ndarray:
        """Which nodes have force labels, shape [n_nodes]."""
        return np.isfinite(self.forces_label).all(axis=1)

    @property
    def with_forces(self) -> np.ndarray:
        """Which frames have force labels on at least one atom, shape [n_frames]."""
        frames = np.repeat(np.arange(len(self.n_atoms)), self.n_atoms)
        return np.bincount(frames[self.nodes_with_forces], minlength=len(self.n_atoms)) > 0


def metrics_row(split: str, predictions: Predictions) -> dict[str, Any]:
    """RMSE and MAE of a split: sums over all its frames and force components, never means of means.

    Energies are compared as totals in float64. Frames without a label are left out of that metric only.

    Args:
        split: Name of the split.
        predictions: Predictions and labels.

    Returns:
        The `COLUMNS`, None where there are no labels, and n_frames_with_energy and n_frames_with_forces.
    """
    labelled = predictions.with_energy
    energy = (predictions.energy - predictions.energy_label)[labelled] * MEV
    forces = (predictions.forces - predictions.forces_label)[predictions.nodes_with_forces] * MEV
    return {
        "split": split,
        "n_frames": len(predictions.n_atoms),
        "energy_rmse_meV": root_mean_square(energy),
        "energy_mae_meV": mean_absolute(energy),
        "energy_rmse_meV_per_atom": root_mean_square(energy / predictions.n_atoms[labelled]),
        "forces_rmse_meV_A": root_mean_square(forces),
        "forces_mae_meV_A": mean_absolute(forces),
        "n_frames_with_energy": int(labelled.sum()),
        "n_frames_with_forces": int(predictions.with_forces.sum()),
    }


def missing_labels(row: dict[str, Any]) -> list[str]:
    """Sentences on the labels that a split lacks.

    Args:
        row: From `metrics_row`.

    Returns:
        One sentence per incomplete kind of label, empty when all frames have both.
    """
    sentences = []
    for kind in ("energy", "forces"):
        absent = row["n_frames"] - row[f"n_frames_with_{kind}"]
        if absent:
            where = "its errors are left empty" if absent == row["n_frames"] else "they do not count in its errors"
            sentences.append(f"{row['split']}: {absent} of {row['n_frames']} frames have no {kind}; {where}.")
    return sentences


def write_metrics_csv(rows: list[dict[str, Any]], path: str | Path) -> Path:
    """Write rows under exactly the `COLUMNS`; a metric without labels is an empty cell.

    Args:
        rows: From `metrics_row`.
        path: The file.

    Returns:
        The file as a path.
    """
    path = Path(path)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows({name: _cell(value) for name, value in row.items()} for row in rows)
    return path


def root_mean_square(errors: np.ndarray) -> float | None:
    """Root of the mean of squares over all elements, None without elements.

    Args:
        errors: Any shape.

    Returns:
        The root mean square.
    """
    return float(np.sqrt(np.mean(np.square(errors)))) if errors.size else None


def mean_absolute(errors: np.ndarray) -> float | None:
    """Mean of absolute values over all elements, None without elements.

    Args:
        errors: Any shape.

    Returns:
        The mean.
    """
    return float(np.mean(np.abs(errors))) if errors.size else None


def _cell(value: Any) -> Any:
    """Six decimals are a nano-eV: no digits of rounding noise in a table people read."""
    return f"{value:.6f}" if isinstance(value, float) else value
