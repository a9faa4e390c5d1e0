"""Errors of predictions as one row per split."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mace_gaunt.files import write_csv

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
    """What a model says about frames, beside the labels; floats are float64, NaN where a label is absent.

    Attributes:
        n_atoms: Atoms of each frame, shape [n_frames].
        frame_index: Position of each frame in its file, shape [n_frames].
        sid: System of OC20, -1 where there is none, shape [n_frames].
        fid: Step of its relaxation, -1 where there is none, shape [n_frames].
        atomic_numbers: Shape [n_nodes].
        fixed: Which atoms do not move, shape [n_nodes], bool.
        energy: Predicted total energies, shape [n_frames] (eV).
        energy_label: Reference total energies, shape [n_frames] (eV).
        forces: Predicted forces, shape [n_nodes, 3] (eV/Å).
        forces_label: Reference forces, shape [n_nodes, 3] (eV/Å).
    """

    n_atoms: np.ndarray
    frame_index: np.ndarray
    sid: np.ndarray
    fid: np.ndarray
    atomic_numbers: np.ndarray
    fixed: np.ndarray
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


# Field of `Predictions` -> type of its numbers and shape of a row.
LAYOUT: dict[str, tuple[type, tuple[int, ...]]] = {
    "n_atoms": (np.int64, ()),
    "frame_index": (np.int64, ()),
    "sid": (np.int64, ()),
    "fid": (np.int64, ()),
    "atomic_numbers": (np.int64, ()),
    "fixed": (np.bool_, ()),
    "energy": (np.float64, ()),
    "energy_label": (np.float64, ()),
    "forces": (np.float64, (3,)),
    "forces_label": (np.float64, (3,)),
}


class ErrorSums:
    """RMSE and MAE of a split whose predictions come in parts: sums over all frames and components, no means of means.

    Energies are compared as totals in float64. Frames without a label are left out of that metric only.
    """

    def __init__(self) -> None:
        self.n_frames = self.n_frames_with_energy = self.n_frames_with_forces = 0
        # Number, sum of squares and sum of sizes of each kind of error.
        self.energy, self.energy_per_atom, self.forces = np.zeros(3), np.zeros(3), np.zeros(3)

    def add(self, part: Predictions) -> None:
        """Add some frames.

        Args:
            part: Predictions and labels.
        """
        labelled = part.with_energy
        energy = (part.energy - part.energy_label)[labelled] * MEV
        forces = (part.forces - part.forces_label)[part.nodes_with_forces] * MEV
        self.n_frames += len(part.n_atoms)
        self.n_frames_with_energy += int(labelled.sum())
        self.n_frames_with_forces += int(part.with_forces.sum())
        self.energy += _sums(energy)
        self.energy_per_atom += _sums(energy / part.n_atoms[labelled])
        self.forces += _sums(forces)

    def row(self, split: str) -> dict[str, Any]:
        """The errors.

        Args:
            split: Name of the split.

        Returns:
            The `COLUMNS`, None where there are no labels, and n_frames_with_energy and n_frames_with_forces.
        """
        return {
            "split": split,
            "n_frames": self.n_frames,
            "energy_rmse_meV": _root_mean_square(self.energy),
            "energy_mae_meV": _mean_size(self.energy),
            "energy_rmse_meV_per_atom": _root_mean_square(self.energy_per_atom),
            "forces_rmse_meV_A": _root_mean_square(self.forces),
            "forces_mae_meV_A": _mean_size(self.forces),
            "n_frames_with_energy": self.n_frames_with_energy,
            "n_frames_with_forces": self.n_frames_with_forces,
        }


def missing_labels(row: dict[str, Any]) -> list[str]:
    """Sentences on the labels that a split lacks.

    Args:
        row: From `ErrorSums`.

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
        rows: From `ErrorSums`.
        path: The file.

    Returns:
        The file as a path.
    """
    # Six decimals are a nano-eV: no digits of rounding noise in a table people read.
    return write_csv(Path(path), rows, COLUMNS, floats=".6f")


def _sums(errors: np.ndarray) -> np.ndarray:
    return np.array([errors.size, np.square(errors).sum(), np.abs(errors).sum()])


def _root_mean_square(sums: np.ndarray) -> float | None:
    return float(np.sqrt(sums[1] / sums[0])) if sums[0] else None


def _mean_size(sums: np.ndarray) -> float | None:
    return float(sums[2] / sums[0]) if sums[0] else None
