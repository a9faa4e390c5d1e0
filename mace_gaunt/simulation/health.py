"""Is a simulation sound? Energy drift, closest distance, temperature."""

import math
from dataclasses import dataclass, field
from typing import Any

from mace_gaunt.errors import UserError

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

    Energies in eV of the whole system; closest_distance_A is None where no two atoms are within r_max.
    """

    step: int
    time_ps: float
    potential_energy_eV: float
    kinetic_energy_eV: float
    temperature_K: float
    closest_distance_A: float | None

    @property
    def total_energy_eV(self) -> float:  # noqa: N802
        """Potential and kinetic energy (eV)."""
        return self.potential_energy_eV + self.kinetic_energy_eV

    def row(self) -> dict[str, float | int | None]:
        """The sample under the column names of md.csv."""
        return {name: getattr(self, name) for name in COLUMNS}


COLUMNS = [
    "step",
    "time_ps",
    "potential_energy_eV",
    "kinetic_energy_eV",
    "total_energy_eV",
    "temperature_K",
    "closest_distance_A",
]


@dataclass
class LinearFit:
    """Least-squares line through points given one at a time (Welford's update, so large offsets cost no digits)."""

    count: int = 0
    mean_x: float = 0.0
    mean_y: float = 0.0
    sum_xx: float = 0.0
    sum_xy: float = 0.0
    sum_yy: float = 0.0

    def add(self, x: float, y: float) -> None:
        """Take one more point.

        Args:
            x: Abscissa.
            y: Ordinate.
        """
        self.count += 1
        dx, dy = x - self.mean_x, y - self.mean_y
        self.mean_x += dx / self.count
        self.mean_y += dy / self.count
        self.sum_xx += dx * (x - self.mean_x)
        self.sum_xy += dx * (y - self.mean_y)
        self.sum_yy += dy * (y - self.mean_y)

    @property
    def slope(self) -> float | None:
        """Slope of the line, None with fewer than two abscissas."""
        return self.sum_xy / self.sum_xx if self.sum_xx > 0 else None

    @property
    def std_y(self) -> float | None:
        """Standard deviation of the ordinates, None without points."""
        return math.sqrt(max(self.sum_yy, 0.0) / self.count) if self.count else None


@dataclass
class HealthMonitor:
    """Watches every step of a simulation and stops it when it is no longer physical.

    Attributes:
        n_atoms: Number of atoms.
        max_temperature_K: Temperature above which the simulation counts as exploded.
    """

    n_atoms: int
    max_temperature_K: float
    steps: int = 0
    time_ps: float = 0.0
    closest: float = math.inf
    total_energy: LinearFit = field(default_factory=LinearFit)
    temperature: LinearFit = field(default_factory=LinearFit)

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
        if problem is None:
            self.total_energy.add(sample.time_ps, sample.total_energy_eV)
            self.temperature.add(sample.time_ps, sample.temperature_K)
        return problem

    def summary(self, conserved: bool) -> dict[str, Any]:
        """What was measured, ready for JSON.

        Args:
            conserved: Whether the ensemble conserves the total energy, so that its slope is a drift.

        Returns:
            The measured part of health.json; None where there is nothing to report.
        """
        slope, spread = self.total_energy.slope, self.total_energy.std_y
        per_atom = 1000.0 / self.n_atoms
        return {
            "steps": self.steps,
            "time_ps": self.time_ps,
            "n_atoms": self.n_atoms,
            "drift_meV_per_atom_per_ps": slope * per_atom if conserved and slope is not None else None,
            "total_energy_std_meV_per_atom": spread * per_atom if spread is not None else None,
            "temperature_mean_K": self.temperature.mean_y if self.temperature.count else None,
            "temperature_std_K": self.temperature.std_y,
            "closest_distance_A": self.closest if math.isfinite(self.closest) else None,
        }

    def _problem(self, sample: Sample) -> str | None:
        if not math.isfinite(sample.potential_energy_eV):
            return f"the potential energy is {sample.potential_energy_eV}"
        if not math.isfinite(sample.temperature_K) or sample.temperature_K > self.max_temperature_K:
            return f"the temperature is {sample.temperature_K:.0f} K (limit {self.max_temperature_K:.0f} K)"
        if sample.closest_distance_A is not None and sample.closest_distance_A < SMALLEST_DISTANCE:
            return f"two atoms are {sample.closest_distance_A:.3f} Å apart (limit {SMALLEST_DISTANCE} Å)"
        return None
