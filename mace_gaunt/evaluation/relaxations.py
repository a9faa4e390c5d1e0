"""Relaxations by a model: structures and energies of IS2RS and IS2RE."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import ase
import numpy as np
import torch
from ase.calculators.calculator import Calculator
from ase.optimize import FIRE, LBFGS

from mace_gaunt.data.atomic_data import fixed_atoms, identifier
from mace_gaunt.data.store.energies import record_energies
from mace_gaunt.errors import UserError, nearest
from mace_gaunt.evaluation.leaderboard import Submission
from mace_gaunt.evaluation.oc20_metrics import OC20Metrics, PositionMetrics, as_numbers
from mace_gaunt.simulation.progress import ProgressLine

OPTIMIZERS = {"LBFGS": LBFGS, "FIRE": FIRE}


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
    """How structures are relaxed.

    Args:
        optimizer: "LBFGS" or "FIRE", as ASE has them.
        fmax: It ends when no force on a free atom is longer (eV/Å).
        max_steps: It ends after so many steps.

    Raises:
        UserError: If a setting is impossible.
    """

    optimizer: str = "LBFGS"
    fmax: float = 0.05
    max_steps: int = 200

    def __post_init__(self) -> None:
        if self.optimizer not in OPTIMIZERS:
            raise UserError(f"there is no optimizer '{self.optimizer}'.{nearest(str(self.optimizer), OPTIMIZERS)}")
        if not self.fmax > 0:
            raise UserError(f"fmax is a force above 0 eV/Å, not {self.fmax}.")
        if self.max_steps < 0:
            raise UserError(f"max_steps is 0 or more, not {self.max_steps}.")


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
    optimizer, failure = OPTIMIZERS[settings.optimizer](moving, logfile=None), None
    optimizer.attach(remember)
    try:
        optimizer.run(fmax=settings.fmax, steps=settings.max_steps)
    except UserError as error:
        failure = str(error)
    finally:
        moving.calc = None
    positions, energy, largest = path[0]
    return Relaxation(positions, energy, largest, optimizer.nsteps, largest <= settings.fmax, failure)


def relax_split(
    split: str,
    records: Sequence[ase.Atoms],
    calculator: Calculator,
    energy_reference: str,
    settings: Settings = DEFAULT,
    *,
    submissions: Sequence[Submission] = (),
    progress: bool = True,
) -> dict[str, Any]:
    """Relax the systems of a split and compare the ends with DFT's: IS2RE by relaxation, and IS2RS.

    Args:
        split: Its name.
        records: First structures, as `Source.read` gives them: with the constraint of the fixed atoms, `sid`, and,
            where they are known, `relaxed_energy` (info) and `relaxed_positions` (arrays).
        calculator: The model.
        energy_reference: What the model's energies are: "total", "adsorption" or "linear".
        settings: How structures are relaxed.
        submissions: Files for the leaderboard, is2re or is2rs, that every system is added to.
        progress: Whether a progress line goes to stderr.

    Returns:
        split, n_frames, n_converged, n_failed, mean_steps, and, as far as there are labels, energy_mae_eV, ewt_percent,
        distance_A, adwt_percent. Relaxations that did not converge, or failed, count with their last structure.

    Raises:
        UserError: If a first structure cannot be computed, or its energy not be brought to the reference; names it.
    """
    energies, positions, ends = OC20Metrics(), PositionMetrics(), []
    line = ProgressLine(len(records), "relax", "systems", progress)
    for index, atoms in enumerate(records):
        sid = identifier(atoms, "sid")
        try:
            expected = record_energies(atoms, math.nan, energy_reference).relaxed
            end = relax(atoms, calculator, settings)
        except UserError as error:
            raise UserError(f"{split}, structure {index} (sid {sid}): {error}") from error
        ends.append(end)
        add_energy(energies, end.energy, expected)
        if "relaxed_positions" in atoms.arrays:
            free = ~fixed_atoms(atoms)
            positions.update(end.positions, atoms.arrays["relaxed_positions"], free, atoms.cell.array, atoms.pbc)
        for submission in submissions:
            submission.add_system(split, sid, end.energy, end.positions)
        line.update(index + 1, split)
    line.close()
    counts = {
        "n_frames": len(ends),
        "n_converged": sum(end.converged for end in ends),
        "n_failed": sum(end.failure is not None for end in ends),
        "mean_steps": float(np.mean([end.steps for end in ends])) if ends else 0.0,
    }
    measured = [as_numbers(metrics.compute()) for metrics in (energies, positions) if metrics.update_called]
    return {"split": split, **counts, **{name: value for values in measured for name, value in values.items()}}


def add_energy(metrics: OC20Metrics, energy: float, expected: float) -> None:
    """Add the energy of one system (eV); one that is not known, NaN, does not count."""
    nothing = torch.zeros(0, dtype=torch.int64)
    no_forces = torch.zeros(0, 3, dtype=torch.float64)
    label = torch.tensor([expected], dtype=torch.float64)
    batch = SimpleNamespace(energy=label, forces=no_forces, batch=nothing, node_types=nothing)
    metrics.update({"energy": torch.tensor([energy], dtype=torch.float64), "forces": no_forces}, batch)
