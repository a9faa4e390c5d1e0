"""Frames that occur twice, by hashes of elements, positions and cell, in bounded memory."""

import hashlib
from dataclasses import dataclass
from functools import lru_cache

import ase
import numpy as np

CAPACITY = 1 << 18
"""Frames kept, about 150 MB. Beyond it only those are whose hash ends in more and more zero bits: every copy of a frame
has the same hash, so that what is kept of the set is a random part of its distinct frames, with all their copies
(Gibbons, VLDB 2001)."""
N_PROJECTIONS = 4
GRID = 5e-5
"""Width of the cells of projections in which copies are looked for (Å)."""
ROUNDING = 3e-6
"""Difference of projections up to which two frames are copies (Å), six times what float32 makes of slabs."""
# Energies of one structure that differ by more (eV) are two labels of it.
SAME_ENERGY = 1e-3


@dataclass(frozen=True, slots=True)
class First:
    """Where a frame was seen first.

    Attributes:
        file: Number of the file.
        index: Position in it.
        energy: Its energy (eV), NaN without one.
        projections: Its random projections, shape [N_PROJECTIONS] (Å).
    """

    file: int
    index: int
    energy: float
    projections: np.ndarray


@dataclass
class Repeats:
    """Frames of one file that had been seen before.

    Attributes:
        counts: Number of the file where they were first -> how many, of the part of the frames that is looked at.
        contradictions: How many of these have another energy than the first.
        examples: (index here, where it was first, difference of the energies), the first few.
    """

    counts: dict[int, float]
    contradictions: float
    examples: list[tuple[int, First, float]]


class DuplicateFinder:
    """Finds frames that occur twice, in one file or several.

    Two frames are the same when they have the same elements in the same order, and the same positions and cell as far
    as formats round them (float32, eight decimals): a few random projections of all coordinates differ by less than
    ROUNDING, so that steps of 1e-5 Å (root mean square) are steps. They are looked for in the cells of a grid, and of
    a second one that is shifted by half a cell, lest a value at the edge of a cell be missed. Moved, turned or
    reordered copies are different frames here.
    """

    def __init__(self, capacity: int = CAPACITY, n_examples: int = 5) -> None:
        """Start empty.

        Args:
            capacity: Frames kept.
            n_examples: Examples kept per file.
        """
        self.capacity, self.n_examples = capacity, n_examples
        self.bits = 0
        self._seen: dict[int, list[First]] = {}
        self._shifted: dict[int, list[First]] = {}
        self._files: list[Repeats] = []

    @property
    def part(self) -> float:
        """Part of the distinct frames that is looked at: 1, 1/2, 1/4, ..."""
        return 0.5**self.bits

    def open_file(self) -> Repeats:
        """Begin with the next file; gives what will be filled."""
        self._files.append(Repeats({}, 0, []))
        return self._files[-1]

    def add(self, atoms: ase.Atoms, index: int, energy: float) -> None:
        """Take a frame of the current file.

        Args:
            atoms: The frame.
            index: Its position in the file.
            energy: Its energy (eV), NaN without one.
        """
        projections = project(atoms)
        elements = atoms.numbers.astype(np.uint8).tobytes()
        key = _hash(elements, np.floor(projections / GRID))
        if key & ((1 << self.bits) - 1):
            return
        here = First(len(self._files) - 1, index, energy, projections)
        places = [self._seen.setdefault(key, [])]
        if not self.bits:
            places.append(self._shifted.setdefault(_hash(elements, np.floor(projections / GRID + 0.5)), []))
        first = next(
            (f for place in places for f in place if np.abs(f.projections - projections).max() < ROUNDING), None
        )
        if first is not None:
            self._count(first, here)
            return
        for place in places:
            place.append(here)
        while len(self._seen) > self.capacity:
            self._halve()

    def _count(self, first: First, here: First) -> None:
        repeats = self._files[-1]
        repeats.counts[first.file] = repeats.counts.get(first.file, 0) + 1
        differs = abs(here.energy - first.energy) > SAME_ENERGY
        repeats.contradictions += bool(differs)
        if len(repeats.examples) < self.n_examples:
            repeats.examples.append((here.index, first, here.energy - first.energy))

    def _halve(self) -> None:
        """Keep the hashes that end in one zero bit more, and scale the counts to what is expected of these alone."""
        self.bits += 1
        mask = (1 << self.bits) - 1
        self._seen = {key: first for key, first in self._seen.items() if not key & mask}
        # Copies of a frame share one of both hashes, but which frames are looked at can depend on one only.
        self._shifted = {}
        for repeats in self._files:
            repeats.counts = {file: n / 2 for file, n in repeats.counts.items()}
            repeats.contradictions /= 2


def project(atoms: ase.Atoms) -> np.ndarray:
    """Random projections of all coordinates, cell included; a displacement of d (rms) changes them by about d.

    Args:
        atoms: The frame.

    Returns:
        Shape [N_PROJECTIONS] (Å).
    """
    coordinates = np.concatenate([atoms.positions.ravel(), atoms.cell.array.ravel()])
    return _directions(len(coordinates)) @ coordinates


@lru_cache(maxsize=512)
def _directions(width: int) -> np.ndarray:
    """Random directions of length one or so, always the same, shape [N_PROJECTIONS, width]."""
    return np.random.default_rng(width).normal(size=(N_PROJECTIONS, width)) / np.sqrt(width)


def _hash(elements: bytes, cells: np.ndarray) -> int:
    digest = hashlib.blake2b(elements, digest_size=8)
    digest.update(cells.astype(np.int64).tobytes())
    return int.from_bytes(digest.digest(), "little")
