"""Relaxations by a model: structures and energies of IS2RS and IS2RE."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, TextIO

import ase
import numpy as np
import torch
from ase.calculators.calculator import Calculator
from ase.io.extxyz import write_xyz
from ase.optimize import FIRE, LBFGS

from mace_gaunt.data.atomic_data import fixed_atoms, identifier
from mace_gaunt.data.store.energies import record_energies
from mace_gaunt.errors import UserError, nearest
from mace_gaunt.evaluation.leaderboard import Submission
from mace_gaunt.evaluation.oc20_metrics import OC20Metrics, PositionMetrics, as_numbers
from mace_gaunt.simulation.progress import ProgressLine

OPTIMIZERS = {"LBFGS": LBFGS, "FIRE": FIRE}
MAX_STEP = 0.04
"""Longest way of an atom in one step (Å): far from what it was trained on, a model is not to be followed far."""


@dataclass(frozen=True)
class Relaxation:
    """The last structure of a relaxation.

    Attributes:
        positions: Shape [n_nodes, 3] (Å).
        energy: Of these positions (eV).
        largest_force: Length of the largest force on an atom that is not fixed (eV/Å).
        steps: Steps taken.
        converged: Whether `largest_force` is at most fmax.
        failure: Why it ended before; None where it did not.
    """

    positions: np.ndarray
    energy: float
    largest_force: float
    steps: int
    converged: bool
    failure: str | None = None


@dataclass(frozen=True)
class Settings:
    """How structures are relaxed. The defaults of fmax and steps are those of fairchem-core 1.10.

    Args:
        optimizer: "LBFGS" or "FIRE", as ASE has them.
        fmax: It ends when no force on a free atom is longer (eV/Å).
        steps: It ends after so many steps.

    Raises:
        UserError: If a setting is impossible.
    """

    optimizer: str = "LBFGS"
    fmax: float = 0.02
    steps: int = 300

    def __post_init__(self) -> None:
        if self.optimizer not in OPTIMIZERS:
            raise UserError(f"there is no optimizer '{self.optimizer}'.{nearest(str(self.optimizer), OPTIMIZERS)}")
        if not self.fmax > 0:
            raise UserError(f"fmax is a force above 0 eV/Å, not {self.fmax}.")
        if self.steps < 0:
            raise UserError(f"steps is 0 or more, not {self.steps}.")


DEFAULT = Settings()


def relax(atoms: ase.Atoms, calculator: Calculator, settings: Settings = DEFAULT) -> Relaxation:
    """Move atoms along their forces until these are small; constrained atoms stay, and so does the cell.

    Args:
        atoms: The first structure, which is left as it is.
        calculator: What computes energies and forces.
        settings: How.

    Returns:
        The last structure; where the calculator refused to go on, the last one that it computed.

    Raises:
        UserError: If the first structure cannot be computed.
    """
    moving = atoms.copy()
    moving.calc = calculator
    path: list[tuple[np.ndarray, float, float]] = []

    def remember() -> None:
        lengths = np.linalg.norm(moving.get_forces(), axis=1)
        energy, largest = float(moving.get_potential_energy()), float(lengths.max(initial=0.0))
        if not math.isfinite(energy) or not math.isfinite(largest):
            raise UserError("energy or forces are not finite")
        path[:] = [(moving.positions.copy(), energy, largest)]

    remember()
    optimizer, failure = OPTIMIZERS[settings.optimizer](moving, logfile=None, maxstep=MAX_STEP), None
    optimizer.attach(remember)
    try:
        optimizer.run(fmax=settings.fmax, steps=settings.steps)
    except UserError as error:
        failure = str(error)
    finally:
        moving.calc = None
    positions, energy, largest = path[0]
    return Relaxation(positions, energy, largest, optimizer.nsteps, largest <= settings.fmax, failure)


def relax_split(
    split: str,
    records: Iterable[ase.Atoms],
    count: int,
    calculator: Calculator,
    energy_reference: str,
    settings: Settings = DEFAULT,
    *,
    submissions: Sequence[Submission] = (),
    structures: TextIO | None = None,
    progress: bool = True,
) -> dict[str, Any]:
    """Relax the systems of a split and compare the ends with DFT's: IS2RE by relaxation, and IS2RS.

    Args:
        split: Its name.
        records: First structures, as `Source.read` gives them: with the constraint of the fixed atoms, `sid`, and,
            where they are known, `relaxed_energy` (info) and `relaxed_positions` (arrays).
        count: How many they are.
        calculator: The model.
        energy_reference: What the model's energies are: "total", "adsorption" or "linear".
        settings: How structures are relaxed.
        submissions: Files for the leaderboard, is2re or is2rs, that every system is added to.
        structures: Gets every last structure as extxyz, with sid, energy, steps and whether it converged.
        progress: Whether a progress line goes to stderr.

    Returns:
        split, n_frames, n_converged, n_failed, mean_steps, and, as far as there are labels, energy_mae_eV, ewt_percent,
        distance_A, adwt_percent. Relaxations that did not converge, or failed, count with their last structure.

    Raises:
        UserError: If a first structure cannot be computed, or its energy not be brought to the reference; names it.
    """
    energies, positions, counts = OC20Metrics(), PositionMetrics(), Counts()
    line = ProgressLine(count, "relax", "systems", progress)
    for index, atoms in enumerate(records):
        sid = identifier(atoms, "sid")
        try:
            expected = record_energies(atoms, math.nan, energy_reference).relaxed
            end = relax(atoms, calculator, settings)
        except UserError as error:
            raise UserError(f"{split}, structure {index} (sid {sid}): {error}") from error
        counts.add(end)
        add_energy(energies, end.energy, expected)
        if "relaxed_positions" in atoms.arrays:
            free = ~fixed_atoms(atoms)
            positions.update(end.positions, atoms.arrays["relaxed_positions"], free, atoms.cell.array, atoms.pbc)
        for submission in submissions:
            submission.add_system(split, sid, end.energy, end.positions)
        if structures is not None:
            write_structure(structures, atoms, sid, end)
        line.update(index + 1, split)
    line.close()
    measured = [as_numbers(metrics.compute()) for metrics in (energies, positions) if metrics.update_called]
    return {"split": split, **counts.row(), **{name: value for values in measured for name, value in values.items()}}


@dataclass
class Counts:
    """How the relaxations of a split ended."""

    frames: int = 0
    converged: int = 0
    failed: int = 0
    steps: int = 0

    def add(self, end: Relaxation) -> None:
        """Count one."""
        self.frames += 1
        self.converged += end.converged
        self.failed += end.failure is not None
        self.steps += end.steps

    def row(self) -> dict[str, float]:
        """n_frames, n_converged, n_failed, mean_steps."""
        mean = self.steps / max(1, self.frames)
        return {
            "n_frames": self.frames, "n_converged": self.converged, "n_failed": self.failed, "mean_steps": mean
        }  # fmt: skip


def write_structure(file: TextIO, atoms: ase.Atoms, sid: int, end: Relaxation) -> None:
    """Write a relaxed structure.

    Args:
        file: An extxyz file.
        atoms: The first structure.
        sid: The system.
        end: Its relaxation.
    """
    relaxed = ase.Atoms(atoms.numbers, end.positions, cell=atoms.cell, pbc=atoms.pbc, tags=atoms.get_tags())
    relaxed.set_constraint(atoms.constraints)
    relaxed.info = {"sid": sid, "energy": end.energy, "steps": end.steps, "converged": end.converged}
    write_xyz(file, relaxed, columns=["symbols", "positions", "move_mask", "tags"])


def add_energy(metrics: OC20Metrics, energy: float, expected: float) -> None:
    """Add the energy of one system (eV); one that is not known, NaN, does not count."""
    nothing = torch.zeros(0, dtype=torch.int64)
    no_forces = torch.zeros(0, 3, dtype=torch.float64)
    label = torch.tensor([expected], dtype=torch.float64)
    batch = SimpleNamespace(energy=label, forces=no_forces, batch=nothing, node_types=nothing)
    metrics.update({"energy": torch.tensor([energy], dtype=torch.float64), "forces": no_forces}, batch)
