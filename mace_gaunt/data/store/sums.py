"""Sums over frames, gathered while a store is prepared: a training takes its statistics from them, without a pass."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from mace_gaunt.data.atomic_data import AtomicData, symbols
from mace_gaunt.data.reference_energies import SAME_ENERGY, is_isolated_atom
from mace_gaunt.data.statistics import Statistics
from mace_gaunt.data.store.linear_sums import MAX_NUMBER, LinearSums, Moments
from mace_gaunt.errors import UserError


@dataclass
class Sums:
    """Sums over frames. An isolated atom with an energy is a frame, an element and in `isolated`, and nothing else.

    Attributes:
        frames: Number of frames, isolated atoms included.
        atoms: Number of atoms.
        pairs: Number of pairs of neighbours, two edges each.
        max_atoms: Of one frame.
        max_pairs: Of one frame.
        with_energy: Frames with an energy.
        with_forces: Frames with forces.
        with_stress: Frames with a stress.
        components: Number of force components, of all atoms.
        squares: Sum of their squares ((eV/Å)^2).
        free_components: Number of force components of the atoms that are not fixed.
        free_squares: Sum of their squares ((eV/Å)^2).
        energy: Moments of the energies (eV).
        relaxed: Moments of the energies of relaxed structures (eV).
        counts: Energies (eV) against the atoms of each element.
        shares: Energies per atom (eV) against the share of each element.
        elements: Atoms of each element, isolated ones included, shape [MAX_NUMBER].
        isolated: Atomic number -> first, least and greatest energy of its isolated atoms (eV).
    """

    frames: int = 0
    atoms: int = 0
    pairs: int = 0
    max_atoms: int = 0
    max_pairs: int = 0
    with_energy: int = 0
    with_forces: int = 0
    with_stress: int = 0
    components: int = 0
    squares: float = 0.0
    free_components: int = 0
    free_squares: float = 0.0
    energy: Moments = field(default_factory=Moments)
    relaxed: Moments = field(default_factory=Moments)
    counts: LinearSums = field(default_factory=LinearSums)
    shares: LinearSums = field(default_factory=LinearSums)
    elements: np.ndarray = field(default_factory=lambda: np.zeros(MAX_NUMBER, dtype=np.int64))
    isolated: dict[int, tuple[float, float, float]] = field(default_factory=dict)

    def add(self, frame: AtomicData, relaxed: float = math.nan) -> None:
        """Count a frame, and the energy of its relaxed structure (eV)."""
        self.frames += 1
        if math.isfinite(relaxed):
            self.relaxed.add(relaxed)
        counts = np.bincount(frame.atomic_numbers.numpy(), minlength=MAX_NUMBER)
        self.elements += counts
        energy = frame.energy.item()
        if is_isolated_atom(frame):
            self._add_isolated(int(frame.atomic_numbers[0]), (energy, energy, energy))
            return
        n_pairs = frame.pair_index.shape[1]
        self.atoms += frame.num_nodes
        self.pairs += n_pairs
        self.max_atoms, self.max_pairs = max(self.max_atoms, frame.num_nodes), max(self.max_pairs, n_pairs)
        self.with_stress += bool(frame.stress.isfinite().all())
        self._add_forces(frame.forces.numpy(), frame.fixed.numpy())
        if math.isfinite(energy):
            self.with_energy += 1
            self.energy.add(energy)
            self.counts.add(counts.astype(np.float64), energy)
            self.shares.add(counts / frame.num_nodes, energy / frame.num_nodes)

    def merge(self, other: "Sums") -> None:
        """Count the frames of another; the last bits depend on the order of merging, so keep to one."""
        for name in self.__dataclass_fields__:
            mine, theirs = getattr(self, name), getattr(other, name)
            if isinstance(mine, (Moments, LinearSums)):
                mine.merge(theirs)
            elif name in ("max_atoms", "max_pairs"):
                setattr(self, name, max(mine, theirs))
            elif name != "isolated":
                setattr(self, name, mine + theirs)
        for number, energies in other.isolated.items():
            self._add_isolated(number, energies)

    @property
    def atomic_numbers(self) -> list[int]:
        """The elements that occur, sorted."""
        return [int(number) for number in np.flatnonzero(self.elements)]

    def statistics(self, E0s: Sequence[float], forces_mask: Literal["all", "free"] = "all") -> Statistics:
        """What `compute_statistics` gives of the same frames.

        Args:
            E0s: Energy of each of `atomic_numbers` (eV).
            forces_mask: "free" leaves fixed atoms out of the scale.

        Returns:
            The statistics.

        Raises:
            UserError: If there is no frame beside isolated atoms.
        """
        if not self.atoms:
            raise UserError("no training frames to take statistics from.")
        shift, spread = self.shares.residual(self._by_number(E0s))
        free = forces_mask == "free"
        components = self.free_components if free else self.components
        squares = self.free_squares if free else self.squares
        scale = math.sqrt(squares / components) if components else spread
        return Statistics(
            atomic_numbers=self.atomic_numbers,
            E0s=[float(energy) for energy in E0s],
            # What is zero becomes 1, so that a model can divide by it.
            avg_num_neighbors=2 * self.pairs / self.atoms or 1.0,
            scale=scale or 1.0,
            shift=shift,
        )

    def regress(self) -> list[float]:
        """Least-squares energy of each of `atomic_numbers` (eV), as E0s=regress takes it.

        Raises:
            UserError: If the compositions do not tell all elements apart; names them.
        """
        coefficients, undetermined = self.counts.solve(self.atomic_numbers)
        if undetermined or not self.with_energy:
            raise UserError(
                f"a linear fit cannot determine {symbols(undetermined)}: the compositions of the {self.with_energy} "
                "frames with an energy do not tell them apart. Give the energies of the elements."
            )
        return coefficients.tolist()

    def isolated_energies(self) -> dict[int, float]:
        """Atomic number -> energy of its isolated atom (eV), as E0s=isolated takes it.

        Raises:
            UserError: If two isolated atoms of one element have different energies.
        """
        for number, (_, least, most) in self.isolated.items():
            if most - least > SAME_ENERGY:
                raise UserError(
                    f"isolated {symbols([number])} atoms have different energies: {least:.6f} and {most:.6f} eV. "
                    "Keep one of them."
                )
        return {number: first for number, (first, _, _) in sorted(self.isolated.items())}

    def residual(self, coefficients: Sequence[float]) -> tuple[float, float]:
        """Mean and spread of the energies minus a sum over elements (eV).

        Args:
            coefficients: Energy of each of `atomic_numbers` (eV).
        """
        return self.counts.residual(self._by_number(coefficients))

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        values = {name: getattr(self, name) for name in self.__dataclass_fields__}
        for name in ("energy", "relaxed", "counts", "shares"):
            values[name] = values[name].to_json()
        values["elements"] = {str(number): int(self.elements[number]) for number in self.atomic_numbers}
        values["isolated"] = {str(number): list(energies) for number, energies in sorted(self.isolated.items())}
        return values

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "Sums":
        """From what `to_json` gave."""
        elements = np.zeros(MAX_NUMBER, dtype=np.int64)
        for number, count in values["elements"].items():
            elements[int(number)] = count
        read = {
            "energy": Moments.from_json(values["energy"]),
            "relaxed": Moments.from_json(values["relaxed"]),
            "counts": LinearSums.from_json(values["counts"]),
            "shares": LinearSums.from_json(values["shares"]),
            "elements": elements,
            "isolated": {int(number): tuple(energies) for number, energies in values["isolated"].items()},
        }
        return cls(**values | read)

    def _add_forces(self, forces: np.ndarray, fixed: np.ndarray) -> None:
        if not np.isfinite(forces).all():
            return
        self.with_forces += 1
        squares = (forces**2).sum(axis=1)
        self.components += forces.size
        self.squares += float(squares.sum())
        self.free_components += 3 * int((~fixed).sum())
        self.free_squares += float(squares[~fixed].sum())

    def _add_isolated(self, number: int, energies: tuple[float, float, float]) -> None:
        first, least, most = self.isolated.get(number, energies)
        self.isolated[number] = (first, min(least, energies[1]), max(most, energies[2]))

    def _by_number(self, energies: Sequence[float]) -> np.ndarray:
        if len(energies) != len(self.atomic_numbers):
            raise UserError(
                f"{len(energies)} energies for {len(self.atomic_numbers)} elements ({symbols(self.atomic_numbers)})."
            )
        by_number = np.zeros(MAX_NUMBER)
        by_number[self.atomic_numbers] = energies
        return by_number
