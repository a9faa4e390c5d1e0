"""Counts what is in one file, record by record, in bounded memory."""

from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import Any

import ase
import numpy as np
from ase.data import chemical_symbols

from mace_gaunt.data.atomic_data import AtomicData
from mace_gaunt.data.inspection.compositions import CompositionFit
from mace_gaunt.data.inspection.measures import Measures, measure
from mace_gaunt.data.inspection.reservoir import Largest, Reservoir
from mace_gaunt.data.inspection.steps import Steps
from mace_gaunt.data.inspection.units import Evidence
from mace_gaunt.data.label_table import LabelCounter
from mace_gaunt.data.labels import LabelKeys
from mace_gaunt.errors import UserError

SAMPLE = 20_000
"""Frames of a file from which medians are taken and outliers named: all of most files, a random part of larger ones."""
MAX_NAMED = 1000
"""Problems of a file that are named; the others are counted."""


class FileTally:
    """Counts of one file.

    Attributes:
        frames: Number of records so far.
        bad: Number of those that cannot be used.
        problems: Why, of the first MAX_NAMED.
        labels: Counter of the labels.
        sample: Numbers of the frames that can be used.
        fit: Energies by composition.
        steps: Pairs of frames a small step apart.
        nearest: Frames with the nearest atoms.
        strongest: Frames with the longest forces.
    """

    def __init__(self, keys: LabelKeys, r_max: float) -> None:
        """Start empty.

        Args:
            keys: Where the labels are looked for.
            r_max: Cutoff radius (Å).
        """
        self.keys, self.r_max = keys, r_max
        self.frames = self.bad = 0
        self.problems: list[str] = []
        self.labels = LabelCounter(keys)
        self.counts: Counter[str] = Counter()
        self.sums: defaultdict[str, float] = defaultdict(float)
        self.least: dict[str, float] = {}
        self.most: dict[str, float] = {}
        self.elements: Counter[int] = Counter()
        self.config_types: Counter[str] = Counter()
        self.tags: Counter[int] = Counter()
        self.references: Counter[str] = Counter()
        self.sample: Reservoir[Measures] = Reservoir(SAMPLE)
        self.fit = CompositionFit()
        self.steps = Steps()
        self.nearest: Largest[Measures] = Largest(5)
        self.strongest: Largest[Measures] = Largest(50)

    def refuse(self, index: int, reason: str) -> None:
        """Count a record that cannot be used.

        Args:
            index: Its position in the file.
            reason: What is wrong with it.
        """
        self.bad += 1
        if len(self.problems) < MAX_NAMED:
            self.problems.append(f"record {index}: {reason}")

    def add(self, atoms: ase.Atoms, index: int) -> Measures | None:
        """Count a structure.

        Args:
            atoms: The structure.
            index: Its position in the file.

        Returns:
            Its numbers; None when it cannot be used.
        """
        self.labels.add(atoms)
        self.config_types[str(atoms.info.get("config_type", "Default"))] += 1
        try:
            measures, graph = measure(atoms, index, self.keys, self.r_max)
        except UserError as error:
            self.refuse(index, str(error))
            return None
        self._count_atoms(atoms, measures)
        self._count_numbers(measures)
        self._count_labels(atoms, measures, graph)
        return measures

    def evidence(self) -> Evidence:
        """What the file shows about its units."""
        squares, n_forces = self.sums["free_squares"], self.counts["free_components"]
        frames = self.sample.items
        return Evidence(
            curvatures=self.steps.curvatures,
            works=self.steps.works,
            forces_rms=float(np.sqrt(squares / n_forces)) if n_forces else None,
            all_electron=finite(frame.energy / frame.all_electron for frame in frames),
            contacts=finite(frame.contact for frame in frames),
        )

    def _count_atoms(self, atoms: ase.Atoms, measures: Measures) -> None:
        self.elements.update(atoms.numbers.tolist())
        self.counts["one_atom"] += len(atoms) == 1
        self.counts["periodic"] += bool(atoms.pbc.any())
        self.counts["fixed_frames"] += measures.n_fixed > 0
        self.counts["fixed_atoms"] += measures.n_fixed
        if atoms.has("tags"):
            self.tags.update(atoms.get_tags().tolist())
        for name in ("sid", "fid"):
            self.counts[name] += name in atoms.info

    def _count_numbers(self, frame: Measures) -> None:
        self.sample.add(frame)
        self.counts["n_atoms"] += frame.n_atoms
        self.counts["n_edges"] += frame.n_edges
        self.counts["alone"] += frame.n_alone > 0 and frame.n_atoms > 1
        self._range("n_atoms", frame.n_atoms)
        self._range("n_edges", frame.n_edges)
        self._range("closest", frame.closest)
        self.nearest.add(-frame.contact, frame)

    def _count_labels(self, atoms: ase.Atoms, frame: Measures, graph: AtomicData) -> None:
        has_energy, has_forces = np.isfinite(frame.energy), bool(graph.forces.isfinite().all())
        for name, found in (
            ("relaxed_energy", atoms.info.get("relaxed_energy") is not None),
            ("relaxed_positions", "relaxed_positions" in atoms.arrays),
            ("reference_energy", atoms.info.get("reference_energy") is not None),
            ("no energy", not has_energy),
            ("no forces", not has_forces and frame.n_atoms > 1),
        ):
            self.counts[name] += found
        if has_energy:
            self.references[str(atoms.info.get("energy_reference", "not told"))] += 1
            self.fit.add(atoms.numbers, frame.energy)
            if frame.n_atoms > 1:
                self._range("energy_per_atom", frame.energy_per_atom)
        if has_forces:
            self.sums["free_squares"] += frame.free_squares if frame.n_fixed < frame.n_atoms else 0.0
            self.sums["fixed_squares"] += frame.fixed_squares
            self.counts["free_components"] += 3 * (frame.n_atoms - frame.n_fixed)
            self.counts["fixed_components"] += 3 * frame.n_fixed
            self._range("max_force", frame.max_force)
            self.strongest.add(frame.max_force, frame)
            self.steps.add(atoms, graph.forces.numpy(), frame.energy)

    def _range(self, name: str, value: float) -> None:
        if value == value:
            self.least[name] = min(self.least.get(name, value), value)
            self.most[name] = max(self.most.get(name, value), value)


def finite(values: Iterable[float]) -> list[float]:
    """Those that are numbers."""
    return [value for value in values if np.isfinite(value)]


def count_symbols(counts: Counter[int]) -> dict[str, int]:
    """Symbol -> number of atoms, by atomic number."""
    return {chemical_symbols[number]: counts[number] for number in sorted(counts)}


def summary(values: Iterable[float], low: float, high: float) -> dict[str, Any]:
    """min, median (of a sample), max."""
    return {"min": low, "median": float(np.median(finite(values))), "max": high}
