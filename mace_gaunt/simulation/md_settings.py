"""What a simulation is asked to do, checked before any work."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from ase import units

from mace_gaunt.errors import UserError, nearest

ENSEMBLES = ("nve", "langevin", "bussi", "nose_hoover_chain", "npt_isotropic", "npt")
NPT = ("npt_isotropic", "npt")
VELOCITIES = ("thermal", "keep")
TRAJECTORIES = ("extxyz", "traj", "h5")
# What may differ between a simulation and its continuation, since the steps done so far do not depend on it.
FREE_ON_RESUME = ("steps", "checkpoint_interval", "max_temperature_K", "max_force_std")
# ASE's advice for the damping times, in time steps.
TDAMP_STEPS, PDAMP_STEPS = 100.0, 1000.0


@dataclass(frozen=True)
class MDSettings:
    """Settings of a simulation.

    Attributes:
        ensemble: "nve" (velocity Verlet), "langevin", "bussi" (stochastic velocity rescaling), "nose_hoover_chain", or
            at constant pressure "npt_isotropic" (volume) and "npt" (volume and shape), both of Martyna, Tobias, Klein.
        temperature_K: Temperature of the initial velocities, and of the bath (K).
        timestep_fs: Time step (fs).
        steps: Number of steps.
        friction_per_fs: Friction of the Langevin bath (1/fs).
        tdamp_fs: Relaxation time of the other baths (fs); None is 100 time steps.
        pdamp_fs: Relaxation time of the barostat (fs); None is 1000 time steps.
        pressure_GPa: Pressure of npt and npt_isotropic (GPa).
        velocities: "thermal" draws them at temperature_K, "keep" takes the momenta of the structure (less the motion of
            its centre of mass).
        seed: Seed of the velocities and of the bath; the same seed gives the same run.
        interval: Steps between two rows of md.csv, and two frames of the trajectory.
        trajectory: "extxyz", "traj" (ASE's binary format) or "h5" (H5MD).
        checkpoint_interval: Steps between two checkpoints.
        max_temperature_K: Above it the run is stopped; None takes ten times the largest of temperature_K, the initial
            temperature and 300 K.
        max_force_std: A committee whose forces disagree by more (largest norm over the atoms, eV/Å) stops the run.
    """

    ensemble: str = "nve"
    temperature_K: float = 300.0
    timestep_fs: float = 0.5
    steps: int = 2000
    friction_per_fs: float = 0.01
    tdamp_fs: float | None = None
    pdamp_fs: float | None = None
    pressure_GPa: float = 0.0
    velocities: str = "thermal"
    seed: int = 0
    interval: int = 10
    trajectory: str = "extxyz"
    checkpoint_interval: int = 1000
    max_temperature_K: float | None = None
    max_force_std: float | None = None

    @classmethod
    def of(cls, given: dict[str, Any]) -> "MDSettings":
        """Settings by name, checked.

        Args:
            given: Some of the attributes.

        Returns:
            The settings.

        Raises:
            UserError: If there is no such setting, or its value is impossible.
        """
        names = [field.name for field in fields(cls)]
        for name in given:
            if name not in names:
                raise UserError(f"no setting '{name}'.{nearest(name, names)}")
        settings = cls(**given)
        settings.check()
        return settings

    def check(self) -> None:
        """Refuse impossible settings.

        Raises:
            UserError: Naming the setting, what was found and what was expected.
        """
        check_word("ensemble", self.ensemble, ENSEMBLES)
        check_word("velocities", self.velocities, VELOCITIES)
        check_word("trajectory", self.trajectory, TRAJECTORIES)
        for name, least in (("steps", 1), ("interval", 1), ("seed", 0), ("checkpoint_interval", 1)):
            check_whole(name, getattr(self, name), least)
        check_positive("timestep_fs", self.timestep_fs, "time in fs")
        _check_number("temperature_K", self.temperature_K, "temperature in K", 0)
        _check_number("pressure_GPa", self.pressure_GPa, "pressure in GPa", -math.inf)
        if self.ensemble == "langevin":
            check_positive("friction_per_fs", self.friction_per_fs, "rate in 1/fs")
        elif self.ensemble != "nve" and self.temperature_K == 0:
            raise UserError(f"ensemble={self.ensemble} needs a temperature_K above 0.")
        for name, what in (("tdamp_fs", "time in fs"), ("pdamp_fs", "time in fs"), ("max_force_std", "force in eV/Å")):
            if getattr(self, name) is not None:
                check_positive(name, getattr(self, name), what)

    @property
    def timestep(self) -> float:
        """Time step in ASE's unit."""
        return self.timestep_fs * units.fs

    @property
    def tdamp(self) -> float:
        """Relaxation time of the thermostat in ASE's unit."""
        return self.timestep * TDAMP_STEPS if self.tdamp_fs is None else self.tdamp_fs * units.fs

    @property
    def pdamp(self) -> float:
        """Relaxation time of the barostat in ASE's unit."""
        return self.timestep * PDAMP_STEPS if self.pdamp_fs is None else self.pdamp_fs * units.fs

    def check_continues(self, earlier: dict[str, Any]) -> None:
        """Refuse to continue a simulation with other settings.

        Args:
            earlier: The settings of the simulation so far, as `asdict` gives them.

        Raises:
            UserError: Naming the first that differs.
        """
        for name, value in asdict(self).items():
            if name not in FREE_ON_RESUME and earlier.get(name) != value:
                raise UserError(
                    f"the simulation cannot be continued: {name} was {earlier.get(name)} and is {value} now. "
                    f"{', '.join(FREE_ON_RESUME)} may change; for the rest start a new one."
                )


def check_word(name: str, value: str, choices: Sequence[str]) -> None:
    """Refuse a word that is none of the choices.

    Args:
        name: The setting.
        value: What was given.
        choices: What there is.

    Raises:
        UserError: Naming the choices and the nearest one.
    """
    if value not in choices:
        listed = f"{', '.join(choices[:-1])} or {choices[-1]}"
        raise UserError(f"{name} is {listed}, not '{value}'.{nearest(str(value), choices)}")


def check_whole(name: str, value: Any, least: int) -> None:
    """Refuse what is no whole number, or too small.

    Args:
        name: The setting.
        value: What was given.
        least: Its smallest value.

    Raises:
        UserError: Naming the setting.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise UserError(f"{name} is a whole number of at least {least}, not {value}.")


def _check_number(name: str, value: Any, what: str, least: float) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not least <= value < math.inf:
        raise UserError(f"{name} is a {what}, not {value}.")


def check_positive(name: str, value: Any, what: str) -> None:
    """Refuse what is no positive number.

    Args:
        name: The setting.
        value: What was given.
        what: What it is, with its unit.

    Raises:
        UserError: Naming the setting.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < math.inf:
        raise UserError(f"{name} is a positive {what}, not {value}.")
