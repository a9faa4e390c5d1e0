"""A neighbour list that outlives a time step."""

from dataclasses import dataclass

import numpy as np

from mace_gaunt.data.neighbors import neighbor_pairs


@dataclass(frozen=True)
class Pairs:
    """The pairs of neighbours of one structure within r_max, each once.

    Attributes:
        pair_index: Sender and receiver, shape [2, n_pairs].
        shifts: Added to positions[receiver] - positions[sender], shape [n_pairs, 3] (Å).
        lengths: Distances, shape [n_pairs] (Å).
    """

    pair_index: np.ndarray
    shifts: np.ndarray
    lengths: np.ndarray

    @property
    def closest(self) -> float | None:
        """Shortest distance (Å), None when there are no neighbours."""
        return float(self.lengths.min()) if self.lengths.size else None


class SkinNeighborList:
    """Neighbour list of one structure, built at r_max + skin and reused while no atom moved more than skin / 2.

    The pairs returned are exactly those within r_max: those in the skin are left out each time. Displacements are
    those of the positions as given (unwrapped), so an atom that is wrapped into the cell moves by a lattice vector and
    the list is built anew. It is also built anew when the number of atoms, an element, the cell or pbc changes.

    Attributes:
        num_builds: How often a list was built.
        built_for: Atomic numbers, pbc, cell and positions for which it was built last; empty without a list.
    """

    def __init__(self, r_max: float, skin: float) -> None:
        """Start without a list.

        Args:
            r_max: Cutoff radius (Å).
            skin: Extra radius (Å), at least 0.
        """
        self.r_max = r_max
        self.skin = skin
        self.num_builds = 0
        self.built_for: tuple[np.ndarray, ...] = ()
        self._pair_index = np.zeros((2, 0), dtype=np.int64)
        self._shifts = np.zeros((0, 3))

    def pairs(self, positions: np.ndarray, cell: np.ndarray, pbc: np.ndarray, numbers: np.ndarray) -> Pairs:
        """Pairs within r_max for these positions.

        Args:
            positions: Shape [n_nodes, 3] (Å).
            cell: Rows are cell vectors, shape [3, 3] (Å).
            pbc: Periodic directions, shape [3].
            numbers: Atomic numbers, shape [n_nodes].

        Returns:
            The pairs, ordered as `neighbor_pairs` orders them.
        """
        if self._is_stale(positions, cell, pbc, numbers):
            self._pair_index, self._shifts = neighbor_pairs(positions, cell, pbc, self.r_max + self.skin)
            self.built_for = (numbers.copy(), pbc.copy(), cell.copy(), positions.copy())
            self.num_builds += 1
        senders, receivers = self._pair_index
        vectors = positions[receivers] - positions[senders] + self._shifts
        lengths = np.sqrt(np.einsum("ij,ij->i", vectors, vectors))
        within = lengths < self.r_max
        return Pairs(self._pair_index[:, within], self._shifts[within], lengths[within])

    def _is_stale(self, positions: np.ndarray, cell: np.ndarray, pbc: np.ndarray, numbers: np.ndarray) -> bool:
        if not self.built_for or not all(map(np.array_equal, self.built_for, (numbers, pbc, cell))):
            return True
        moved = positions - self.built_for[-1]
        return bool(np.einsum("ij,ij->i", moved, moved).max(initial=0.0) > (0.5 * self.skin) ** 2)
