"""Points of parity plots: all of a small set, a random sample of a large one."""

import numpy as np

from mace_gaunt.evaluation.metrics import Predictions


class Sample:
    """A random sample of rows that come in any number, none twice; the same for the same stream.

    Every row draws a number, and the rows with the smallest ones are kept.

    Attributes:
        seen: How many rows came.
    """

    def __init__(self, columns: int, size: int, seed: int = 0) -> None:
        """Start with none.

        Args:
            columns: Numbers of a row.
            size: How many rows are kept.
            seed: Of the choice.
        """
        self.size, self.seen = size, 0
        self._random = np.random.default_rng(seed)
        # Rows and what they drew; memory is used as far as they are filled.
        self._rows, self._drawn = np.empty((2 * size, columns)), np.empty(2 * size)
        self._filled, self._highest = 0, np.inf

    def add(self, rows: np.ndarray) -> None:
        """Add rows, shape [n, columns]."""
        drawn = self._random.random(len(rows))
        near = drawn < self._highest
        rows, drawn = rows[near], drawn[near]
        self.seen += len(near)
        while len(rows):
            room = slice(self._filled, min(self._filled + len(rows), 2 * self.size))
            taken = room.stop - room.start
            self._rows[room], self._drawn[room] = rows[:taken], drawn[:taken]
            rows, drawn, self._filled = rows[taken:], drawn[taken:], room.stop
            if self._filled == 2 * self.size:
                self._thin()

    @property
    def rows(self) -> np.ndarray:
        """What was kept, in the order in which it came, shape [min(seen, size), columns]."""
        if self._filled > self.size:
            self._thin()
        return self._rows[: self._filled]

    def _thin(self) -> None:
        drawn = self._drawn[: self._filled]
        kept = np.sort(np.argpartition(drawn, self.size)[: self.size])
        self._rows[: self.size], self._drawn[: self.size] = self._rows[kept], drawn[kept]
        self._filled, self._highest = self.size, float(self._drawn[: self.size].max())


class ParityPoints:
    """Labels and predictions of a split, as much of them as a plot can show.

    Attributes:
        energies: Label, prediction (eV) and number of atoms of labelled frames.
        forces: Label and prediction (eV/Å) of components of labelled forces.
    """

    SIZE = 200_000

    def __init__(self) -> None:
        self.energies, self.forces = Sample(3, self.SIZE), Sample(2, self.SIZE)

    def add(self, part: Predictions) -> None:
        """Add some frames.

        Args:
            part: Predictions and labels.
        """
        labelled, nodes = part.with_energy, part.nodes_with_forces
        self.energies.add(np.stack([part.energy_label, part.energy, part.n_atoms], axis=1)[labelled])
        self.forces.add(np.stack([part.forces_label[nodes].ravel(), part.forces[nodes].ravel()], axis=1))

    @property
    def are_all(self) -> bool:
        """Whether nothing was left out."""
        return all(sample.seen <= sample.size for sample in (self.energies, self.forces))
