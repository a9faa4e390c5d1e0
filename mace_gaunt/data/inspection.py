"""What is in a file of structures: for `mace-gaunt data`, before anything is trained on it."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ase
import numpy as np
from ase.data import chemical_symbols

from mace_gaunt.data.label_table import FileLabels, count_labels, format_rows, format_table, near_miss
from mace_gaunt.data.labels import QUANTITIES, LabelKeys, read_labels
from mace_gaunt.data.neighbors import neighbor_pairs
from mace_gaunt.data.readers import Frames, read_frames
from mace_gaunt.errors import UserError


@dataclass(frozen=True)
class FileReport:
    """What is in one file.

    Attributes:
        name: The file as it was named.
        n_frames: Number of frames.
        n_atoms: Smallest and largest number of atoms in a frame.
        elements: Symbol -> number of atoms.
        n_single: Number of frames with one atom.
        n_periodic: Number of frames with a periodic direction.
        config_types: config_type -> number of frames.
        n_duplicates: Number of frames that repeat the elements and positions of an earlier one, in any of the files.
        neighbors: Edges per node within r_max, None where no r_max was given.
        energy_per_atom: Smallest and largest (eV), None without energies.
        forces_rms: Root mean square of the force components (eV/Å), None without forces.
        problems: What would stop a training, such as "frame 3: forces (calculator) holds values that are not finite".
        labels: Where the labels are, and the names of everything else.
    """

    name: str
    n_frames: int
    n_atoms: tuple[int, int]
    elements: dict[str, int]
    n_single: int
    n_periodic: int
    config_types: dict[str, int]
    n_duplicates: int
    neighbors: float | None
    energy_per_atom: tuple[float, float] | None
    forces_rms: float | None
    problems: list[str]
    labels: FileLabels


@dataclass(frozen=True)
class Report:
    """What is in some files; `str` gives it as text."""

    files: list[FileReport]

    @property
    def elements(self) -> dict[str, int]:
        """Symbol -> number of atoms in all files."""
        total: Counter[str] = Counter()
        for file in self.files:
            total.update(file.elements)
        return dict(total)

    @property
    def problems(self) -> list[str]:
        """All that would stop a training, with the file."""
        return [f"{file.name}: {problem}" for file in self.files for problem in file.problems]

    def __str__(self) -> str:
        parts = [format_table([file.labels for file in self.files]), format_rows(_header(), map(_row, self.files))]
        parts += [f"{file.name}: {note}" for file in self.files for note in _notes(file)]
        parts += [f"problem: {problem}" for problem in self.problems]
        return "\n\n".join(parts[:2]) + "".join(f"\n{line}" for line in parts[2:])


def inspect_files(paths: Iterable[str | Path], keys: LabelKeys | None = None, r_max: float | None = None) -> Report:
    """Look through files of structures.

    Args:
        paths: Files, with slices where wanted.
        keys: Where the labels are looked for; None is "auto" for all.
        r_max: Cutoff radius to count neighbours in (Å); None counts none.

    Returns:
        The report. Unusable labels are listed in it.

    Raises:
        UserError: If no file is named, or one is missing or unreadable.
    """
    named = list(paths)
    if not named:
        raise UserError("name at least one file to inspect.")
    seen: set[bytes] = set()
    return Report([_inspect(read_frames(path), keys or LabelKeys(), r_max, seen) for path in named])


def _inspect(frames: Frames, keys: LabelKeys, r_max: float | None, seen: set[bytes]) -> FileReport:
    sizes = [len(atoms) for atoms in frames.atoms]
    numbers = np.concatenate([atoms.numbers for atoms in frames.atoms])
    duplicates = 0
    for atoms in frames.atoms:
        before = len(seen)
        seen.add(atoms.numbers.tobytes() + atoms.positions.tobytes() + atoms.cell.array.tobytes())
        duplicates += len(seen) == before and len(atoms) > 1
    return FileReport(
        name=frames.name,
        n_frames=len(frames),
        n_atoms=(min(sizes), max(sizes)),
        elements={chemical_symbols[n]: int((numbers == n).sum()) for n in np.unique(numbers)},
        n_single=sizes.count(1),
        n_periodic=sum(bool(atoms.pbc.any()) for atoms in frames.atoms),
        config_types=dict(Counter(str(atoms.info.get("config_type", "Default")) for atoms in frames.atoms)),
        n_duplicates=duplicates,
        labels=count_labels(frames, keys),
        **_values(frames, keys, r_max),
    )


def _values(frames: Frames, keys: LabelKeys, r_max: float | None) -> dict[str, Any]:
    """The values of labels and neighbours, and what is wrong with them."""
    problems: list[str] = []
    energies: list[float] = []
    forces: list[np.ndarray] = []
    n_edges = 0
    for atoms, index in zip(frames.atoms, frames.indices, strict=True):
        try:
            n_edges += 0 if r_max is None else _count_edges(atoms, r_max)
            labels = read_labels(atoms, keys)
        except UserError as error:
            problems.append(f"frame {index}: {error}")
            continue
        energies += [labels.energy / len(atoms)] if np.isfinite(labels.energy) and len(atoms) > 1 else []
        forces += [] if labels.forces is None else [labels.forces]
    n_nodes = sum(map(len, frames.atoms))
    return {
        "problems": problems,
        "neighbors": None if r_max is None else n_edges / n_nodes,
        "energy_per_atom": (min(energies), max(energies)) if energies else None,
        "forces_rms": float(np.sqrt(np.mean(np.concatenate(forces) ** 2))) if forces else None,
    }


def _count_edges(atoms: ase.Atoms, r_max: float) -> int:
    return 2 * neighbor_pairs(atoms.positions, atoms.cell.array, atoms.pbc, r_max)[0].shape[1]


def _header() -> tuple[str, ...]:
    return "file", "atoms", "one-atom", "periodic", "repeated", "neighbours", "eV/atom", "rms eV/Å", "elements"


def _row(file: FileReport) -> tuple[str, ...]:
    low, high = file.n_atoms
    energies = "-" if file.energy_per_atom is None else "{:.3f} to {:.3f}".format(*file.energy_per_atom)
    return (
        file.name,
        str(low) if low == high else f"{low}-{high}",
        str(file.n_single),
        str(file.n_periodic),
        str(file.n_duplicates),
        "-" if file.neighbors is None else f"{file.neighbors:.1f}",
        energies,
        "-" if file.forces_rms is None else f"{file.forces_rms:.3f}",
        " ".join(f"{symbol}:{count}" for symbol, count in file.elements.items()),
    )


def _notes(file: FileReport) -> list[str]:
    """Config types, and names that look like labels but are not used."""
    notes = []
    if list(file.config_types) != ["Default"]:
        notes.append("config_type " + ", ".join(f"{name} ({n})" for name, n in file.config_types.items()))
    for quantity in QUANTITIES:
        near = None if file.labels.count(quantity) else near_miss(file.labels, LabelKeys(), quantity)
        if near is not None:
            notes.append(f"no {quantity}, but '{near}': if that is meant, set {quantity}_key={near}")
    return notes
