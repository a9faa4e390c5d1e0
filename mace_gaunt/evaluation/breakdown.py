"""Errors of forces by element and by size, while predictions pass by."""

from typing import Any

import numpy as np
from ase.data import chemical_symbols

from mace_gaunt.evaluation.metrics import MEV, Predictions

# Lengths of reference forces (eV/Å) that part the atoms; beyond the last one everything is in one bin.
EDGES = (0.0, 0.1, 0.3, 0.5, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, np.inf)
BY_ELEMENT = ("split", "element", "n_atoms", "forces_rmse_meV_A", "forces_mae_meV_A", "reference_rms_meV_A")
BY_SIZE = ("split", "from_eV_A", "to_eV_A", "n_atoms", "forces_rmse_meV_A", "forces_mae_meV_A", "reference_rms_meV_A")


class Breakdown:
    """Sums of force errors of a split, by element and by the length of the reference force.

    Forces without labels, and fixed atoms whose labels are left out, do not count.
    """

    def __init__(self) -> None:
        # Atoms, sum of squares and of sizes of the errors of components, sum of squares of reference components.
        self._elements = np.zeros((4, len(chemical_symbols)))
        self._sizes = np.zeros((4, len(EDGES) - 1))

    def add(self, part: Predictions) -> None:
        """Add some frames.

        Args:
            part: Predictions and labels.
        """
        known = part.nodes_with_forces
        label, error = part.forces_label[known] * MEV, (part.forces - part.forces_label)[known] * MEV
        sums = [np.ones(len(error)), np.square(error).sum(1), np.abs(error).sum(1), np.square(label).sum(1)]
        lengths = np.linalg.norm(part.forces_label[known], axis=1)
        sizes = np.searchsorted(EDGES, lengths, side="right") - 1
        for table, index in ((self._elements, part.atomic_numbers[known]), (self._sizes, sizes)):
            for row, weights in zip(table, sums, strict=True):
                row += np.bincount(index, weights=weights, minlength=table.shape[1])

    def by_element(self, split: str) -> list[dict[str, Any]]:
        """One row per element that has force labels, with the columns `BY_ELEMENT`."""
        return [
            {"split": split, "element": chemical_symbols[number], **_errors(self._elements[:, number])}
            for number in np.flatnonzero(self._elements[0])
        ]

    def by_size(self, split: str) -> list[dict[str, Any]]:
        """One row per range of reference forces that has atoms, with the columns `BY_SIZE`; the last has no end."""
        return [
            {
                "split": split,
                "from_eV_A": EDGES[index],
                "to_eV_A": EDGES[index + 1] if np.isfinite(EDGES[index + 1]) else None,
                **_errors(self._sizes[:, index]),
            }
            for index in np.flatnonzero(self._sizes[0])
        ]


def _errors(sums: np.ndarray) -> dict[str, Any]:
    atoms, squares, sizes, reference = sums.tolist()
    return {
        "n_atoms": int(atoms),
        "forces_rmse_meV_A": (squares / (3 * atoms)) ** 0.5,
        "forces_mae_meV_A": sizes / (3 * atoms),
        "reference_rms_meV_A": (reference / (3 * atoms)) ** 0.5,
    }
