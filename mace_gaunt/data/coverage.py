"""What geometries a set of structures holds: distances per element pair, neighbours per element, densities."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from ase.data import chemical_symbols

from mace_gaunt.data.atomic_data import AtomicData

log = logging.getLogger(__name__)


@dataclass
class Coverage:
    """Ranges over the structures given so far.

    Attributes:
        frames: Number of structures.
        smallest_distance: Smallest distance (Å) of each pair of elements that are neighbours, such as "H-C", the
            lighter element first.
        neighbors: Fewest and most neighbours of an atom of each element.
        density: Lowest and highest number of atoms per Å^3 of cells periodic in all directions; None without such.
        open_frames: Structures that are not periodic in all directions.
    """

    frames: int = 0
    smallest_distance: dict[str, float] = field(default_factory=dict)
    neighbors: dict[str, tuple[int, int]] = field(default_factory=dict)
    density: tuple[float, float] | None = None
    open_frames: int = 0

    def add(
        self,
        numbers: np.ndarray,
        positions: np.ndarray,
        cell: np.ndarray,
        pbc: np.ndarray,
        pair_index: np.ndarray,
        shifts: np.ndarray,
    ) -> None:
        """Take in one structure.

        Args:
            numbers: Atomic numbers, shape [n_nodes].
            positions: Shape [n_nodes, 3] (Å).
            cell: Rows are cell vectors, shape [3, 3] (Å).
            pbc: Periodic directions, shape [3].
            pair_index: Pairs of neighbours, each once, shape [2, n_pairs].
            shifts: Lattice vectors of the pairs, shape [n_pairs, 3] (Å).
        """
        self.frames += 1
        self._add_distances(numbers, positions, pair_index, shifts)
        counts = np.bincount(pair_index.ravel(), minlength=len(numbers))
        for number in np.unique(numbers):
            element, found = chemical_symbols[number], counts[numbers == number]
            fewest, most = int(found.min()), int(found.max())
            before = self.neighbors.get(element, (fewest, most))
            self.neighbors[element] = (min(before[0], fewest), max(before[1], most))
        if not pbc.all():
            self.open_frames += 1
            return
        density = len(numbers) / abs(float(np.linalg.det(cell)))
        low, high = self.density or (density, density)
        self.density = (min(low, density), max(high, density))

    def merge(self, other: "Coverage") -> None:
        """Take in what another coverage holds.

        Args:
            other: The other one.
        """
        self.frames += other.frames
        self.open_frames += other.open_frames
        for pair, distance in other.smallest_distance.items():
            self.smallest_distance[pair] = min(distance, self.smallest_distance.get(pair, distance))
        for element, (low, high) in other.neighbors.items():
            mine = self.neighbors.get(element, (low, high))
            self.neighbors[element] = (min(low, mine[0]), max(high, mine[1]))
        if other.density is not None:
            mine_density = self.density or other.density
            self.density = (min(mine_density[0], other.density[0]), max(mine_density[1], other.density[1]))

    def to_json(self) -> dict[str, Any]:
        """As JSON values, with units in the names."""
        return {
            "frames": self.frames,
            "smallest_distance_A": {pair: round(distance, 6) for pair, distance in self.smallest_distance.items()},
            "neighbors": {element: list(bounds) for element, bounds in self.neighbors.items()},
            "atoms_per_A3": None if self.density is None else [float(f"{bound:.6g}") for bound in self.density],
            "open_frames": self.open_frames,
        }

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> "Coverage":
        """What `to_json` wrote.

        Args:
            content: JSON values.

        Raises:
            KeyError, TypeError, ValueError: If it is something else.
        """
        density = content["atoms_per_A3"]
        return cls(
            frames=int(content["frames"]),
            smallest_distance={str(pair): float(value) for pair, value in content["smallest_distance_A"].items()},
            neighbors={str(name): (int(low), int(high)) for name, (low, high) in content["neighbors"].items()},
            density=None if density is None else (float(density[0]), float(density[1])),
            open_frames=int(content["open_frames"]),
        )

    def _add_distances(
        self, numbers: np.ndarray, positions: np.ndarray, pair_index: np.ndarray, shifts: np.ndarray
    ) -> None:
        senders, receivers = pair_index
        lengths = np.linalg.norm(positions[receivers] - positions[senders] + shifts, axis=1)
        lighter = np.minimum(numbers[senders], numbers[receivers])
        heavier = np.maximum(numbers[senders], numbers[receivers])
        codes, group = np.unique(lighter * len(chemical_symbols) + heavier, return_inverse=True)
        smallest = np.full(len(codes), np.inf)
        np.minimum.at(smallest, group, lengths)
        for code, distance in zip(codes.tolist(), smallest.tolist(), strict=True):
            first, second = divmod(code, len(chemical_symbols))
            pair = f"{chemical_symbols[first]}-{chemical_symbols[second]}"
            self.smallest_distance[pair] = min(distance, self.smallest_distance.get(pair, distance))


def training_coverage(frames: Sequence[AtomicData]) -> Coverage | None:
    """The coverage of training frames that are in memory, from the neighbour lists that they have.

    Args:
        frames: Training frames.

    Returns:
        Their coverage; None for the frames of a store, all of which would have to be read for it.
    """
    if not isinstance(frames, list):
        log.info("training_set: left out of the model's metadata, since the frames of a store are not all read for it")
        return None
    coverage = Coverage()
    for frame in frames:
        coverage.add(
            frame.atomic_numbers.numpy(),
            frame.positions.numpy(),
            frame.cell[0].numpy(),
            frame.pbc[0].numpy(),
            frame.pair_index.numpy(),
            frame.shifts.numpy(),
        )
    return coverage
