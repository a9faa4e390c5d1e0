"""Is a simulation sound? Energy drift, temperature, closest distance, largest force, and when to stop."""

import math
from dataclasses import asdict, dataclass, field
from typing import Any

from mace_gaunt.errors import UserError
from mace_gaunt.simulation.running import BlockError, LinearFit

# No two bonded atoms come closer than this (H2 is 0.74 Å): below it the potential has failed.
SMALLEST_DISTANCE = 0.3


class SimulationError(UserError):
    """A simulation that became unphysical; `health` is what its health.json says."""

    def __init__(self, message: str, health: dict[str, Any]) -> None:
        super().__init__(message)
        self.health = health


@dataclass(frozen=True)
class Sample:
    """One time step: a row of md.csv.

    Energies in eV of the whole system. What does not apply is None: closest_distance_A where no two atoms are within
    r_max, conserved_energy_eV for Langevin, volume and pressure where the cell is fixed, the spreads without a
    committee.
    """

    step: int
    time_ps: float
    potential_energy_eV: float
    kinetic_energy_eV: float
    temperature_K: float
    closest_distance_A: float | None
    max_force_eV_A: float = 0.0
    conserved_energy_eV: float | None = None
    volume_A3: float | None = None
    pressure_GPa: float | None = None
    max_force_std_eV_A: float | None = None
    energy_std_eV: float | None = None

    @property
    def total_energy_eV(self) -> float:  # noqa: N802
        """Potential and kinetic energy (eV)."""
        return self.potential_energy_eV + self.kinetic_energy_eV

    def columns(self, ensemble: str) -> list[str]:
        """The columns of md.csv for a run that begins with this sample.

        Args:
            ensemble: Its ensemble; nve conserves the total energy, which needs no second column.
        """
        further = FURTHER_COLUMNS[1:] if ensemble == "nve" else FURTHER_COLUMNS
        return COLUMNS + [name for name in further if getattr(self, name) is not None]

    def row(self, columns: list[str]) -> dict[str, float | int | None]:
        """The sample under column names of md.csv.

        Args:
            columns: What `columns` gave at the start of the run.
        """
        return {name: getattr(self, name) for name in columns}


COLUMNS = [
    "step",
    "time_ps",
    "potential_energy_eV",
    "kinetic_energy_eV",
    "total_energy_eV",
    "temperature_K",
    "closest_distance_A",
    "max_force_eV_A",
]
FURTHER_COLUMNS = ["conserved_energy_eV", "volume_A3", "pressure_GPa", "max_force_std_eV_A", "energy_std_eV"]


@dataclass
class HealthMonitor:
    """Watches every step of a simulation and stops it when it is no longer physical.

    Attributes:
        n_atoms: Number of atoms.
        max_temperature_K: Temperature above which the simulation counts as exploded.
        max_force_std: Disagreement of a committee's forces above which it stops (eV/Å); None for no limit.
    """

    n_atoms: int
    max_temperature_K: float
    max_force_std: float | None = None
    steps: int = 0
    time_ps: float = 0.0
    closest: float = math.inf
    largest_force: float = 0.0
    largest_force_std: float | None = None
    total_energy: LinearFit = field(default_factory=LinearFit)
    conserved: LinearFit = field(default_factory=LinearFit)
    temperature: LinearFit = field(default_factory=LinearFit)
    temperature_blocks: BlockError = field(default_factory=BlockError)
    pressure: LinearFit = field(default_factory=LinearFit)

    def check(self, sample: Sample) -> str | None:
        """Take in one step.

        Args:
            sample: The step.

        Returns:
            None while all is well, else what is wrong, in words.
        """
        problem = self._problem(sample)
        self.steps, self.time_ps = sample.step, sample.time_ps
        if sample.closest_distance_A is not None and math.isfinite(sample.closest_distance_A):
            self.closest = min(self.closest, sample.closest_distance_A)
        if sample.max_force_std_eV_A is not None:
            self.largest_force_std = max(self.largest_force_std or 0.0, sample.max_force_std_eV_A)
        if problem is None:
            self._count(sample)
        return problem

    def state(self) -> dict[str, Any]:
        """Everything as JSON values, for `restore`."""
        return asdict(self)

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from an earlier state; the limits stay those of this monitor.

        Args:
            state: What `state` gave.
        """
        for name, value in state.items():
            if name in ("n_atoms", "max_temperature_K", "max_force_std"):
                continue
            held = getattr(self, name)
            setattr(self, name, type(held)(**value) if isinstance(held, (LinearFit, BlockError)) else value)

    def summary(self) -> dict[str, Any]:
        """What was measured, ready for JSON.

        Returns:
            The measured part of health.json; None where there is nothing to report.
        """
        slope, spread = self.conserved.slope, self.total_energy.std_y
        per_atom = 1000.0 / self.n_atoms
        return {
            "steps": self.steps,
            "time_ps": self.time_ps,
            "n_atoms": self.n_atoms,
            "drift_meV_per_atom_per_ps": None if slope is None else slope * per_atom,
            "total_energy_std_meV_per_atom": None if spread is None else spread * per_atom,
            "temperature_mean_K": self.temperature.mean_y if self.temperature.count else None,
            "temperature_std_K": self.temperature.std_y,
            "temperature_error_K": self.temperature_blocks.error,
            "pressure_mean_GPa": self.pressure.mean_y if self.pressure.count else None,
            "closest_distance_A": self.closest if math.isfinite(self.closest) else None,
            "largest_force_eV_A": self.largest_force,
            "largest_force_std_eV_A": self.largest_force_std,
        }

    def _count(self, sample: Sample) -> None:
        """Take a sound step into the means."""
        time = sample.time_ps
        self.total_energy.add(time, sample.total_energy_eV)
        self.temperature.add(time, sample.temperature_K)
        self.temperature_blocks.add(sample.temperature_K)
        self.largest_force = max(self.largest_force, sample.max_force_eV_A)
        if sample.conserved_energy_eV is not None:
            self.conserved.add(time, sample.conserved_energy_eV)
        if sample.pressure_GPa is not None:
            self.pressure.add(time, sample.pressure_GPa)

    def _problem(self, sample: Sample) -> str | None:
        if not math.isfinite(sample.potential_energy_eV):
            return f"the potential energy is {sample.potential_energy_eV}"
        if not math.isfinite(sample.max_force_eV_A):
            return f"the largest force is {sample.max_force_eV_A}"
        if not math.isfinite(sample.temperature_K) or sample.temperature_K > self.max_temperature_K:
            return f"the temperature is {sample.temperature_K:.0f} K (limit {self.max_temperature_K:.0f} K)"
        if sample.closest_distance_A is not None and sample.closest_distance_A < SMALLEST_DISTANCE:
            return f"two atoms are {sample.closest_distance_A:.3f} Å apart (limit {SMALLEST_DISTANCE} Å)"
        spread = sample.max_force_std_eV_A
        if self.max_force_std is not None and spread is not None and not spread <= self.max_force_std:
            return f"the committee's forces differ by {spread:.3f} eV/Å (max_force_std is {self.max_force_std:g})"
        return None
