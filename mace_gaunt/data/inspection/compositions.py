"""Which energies per element the compositions of a set can tell, in one pass and bounded memory."""

import numpy as np
from ase.data import chemical_symbols

from mace_gaunt.data.reference_energies import undetermined_elements

N_ELEMENTS = len(chemical_symbols)
BLOCK = 256


class CompositionFit:
    """Least squares of energies by composition, of any number of frames.

    Only the triangle of the QR decomposition of [counts of elements, energy] is kept, and a block of rows that are
    still to be worked into it; what a fit of all rows at once gives follows from it.
    """

    def __init__(self) -> None:
        """Start empty."""
        self.n_frames = 0
        self._triangle = np.zeros((0, N_ELEMENTS + 1))
        self._rows: list[np.ndarray] = []

    def add(self, numbers: np.ndarray, energy: float) -> None:
        """Take a frame.

        Args:
            numbers: Atomic numbers, shape [n_nodes].
            energy: Its energy (eV).
        """
        self.n_frames += 1
        self._rows.append(np.append(np.bincount(numbers, minlength=N_ELEMENTS), energy))
        if len(self._rows) == BLOCK:
            self._reduced()

    def merge(self, other: "CompositionFit") -> None:
        """Take all frames of another."""
        self.n_frames += other.n_frames
        self._rows += list(other._reduced())
        self._reduced()

    @property
    def elements(self) -> list[int]:
        """Atomic numbers that occur, ascending."""
        return np.flatnonzero(np.abs(self._reduced()[:, :-1]).max(axis=0, initial=0.0) > 0).tolist()

    @property
    def undetermined(self) -> list[int]:
        """Atomic numbers whose energies the compositions do not tell apart."""
        elements = self.elements
        return [elements[i] for i in undetermined_elements(self._reduced()[:, elements])]

    @property
    def rank(self) -> int:
        """How many independent compositions there are, at most the number of elements."""
        counts = self._reduced()[:, self.elements]
        return int(np.linalg.matrix_rank(counts, tol=1e-8 * np.abs(counts).max(initial=0.0))) if counts.size else 0

    def energies(self) -> np.ndarray:
        """Energy of each element by least squares of smallest norm, shape [N_ELEMENTS] (eV), 0 for absent ones."""
        reduced, elements = self._reduced(), self.elements
        fit = np.zeros(N_ELEMENTS)
        fit[elements] = np.linalg.lstsq(reduced[:, elements], reduced[:, -1], rcond=1e-10)[0]
        return fit

    def _reduced(self) -> np.ndarray:
        """The triangle with all rows in it, shape [at most N_ELEMENTS + 1, N_ELEMENTS + 1]."""
        if self._rows:
            self._triangle = np.asarray(np.linalg.qr(np.vstack([self._triangle, *self._rows]), mode="r"))
            self._rows = []
        return self._triangle
