"""Molecular dynamics with a potential: NVE and Langevin, with a report on its health."""

import math
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import ase
import numpy as np
from ase import units
from ase.constraints import FixCom
from ase.md.langevin import Langevin
from ase.md.verlet import VelocityVerlet

from mace_gaunt.errors import UserError, nearest
from mace_gaunt.simulation.calculator import MaceGauntCalculator
from mace_gaunt.simulation.health import HealthMonitor, Sample, SimulationError
from mace_gaunt.simulation.output import check_output
from mace_gaunt.simulation.progress import ProgressLine
from mace_gaunt.simulation.recorder import FILES, Recorder
from mace_gaunt.simulation.structures import check_structure

__all__ = ["SimulationError", "run_md"]

ENSEMBLES = ("nve", "langevin")
VELOCITIES = ("thermal", "keep")
# A run has exploded when it is this many times hotter than it was asked or started to be. Cold starts are measured
# against room temperature: an unrelaxed structure heats up on its own.
EXPLOSION = 10.0
ROOM_TEMPERATURE = 300.0


@dataclass(frozen=True)
class Settings:
    """What a simulation is asked to do; see `run_md`."""

    ensemble: str
    temperature_K: float
    timestep_fs: float
    steps: int
    friction_per_fs: float
    seed: int
    interval: int
    velocities: str

    def check(self) -> None:
        """Refuse impossible settings.

        Raises:
            UserError: Naming the setting, what was found and what was expected.
        """
        _check_choice("ensemble", self.ensemble, ENSEMBLES)
        _check_choice("velocities", self.velocities, VELOCITIES)
        for name, least in (("steps", 1), ("interval", 1), ("seed", 0)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise UserError(f"{name} is a whole number of at least {least}, not {value}.")
        if not 0 < self.timestep_fs < math.inf:
            raise UserError(f"timestep_fs is a positive time in fs, not {self.timestep_fs}.")
        if not 0 <= self.temperature_K < math.inf:
            raise UserError(f"temperature_K is a temperature in K, not {self.temperature_K}.")
        if self.ensemble == "langevin" and not 0 < self.friction_per_fs < math.inf:
            raise UserError(f"friction_per_fs is a positive rate in 1/fs, not {self.friction_per_fs}.")


def run_md(
    calculator: MaceGauntCalculator,
    atoms: ase.Atoms,
    out: str | Path,
    *,
    ensemble: str = "nve",
    temperature_K: float = 300.0,
    timestep_fs: float = 0.5,
    steps: int = 2000,
    friction_per_fs: float = 0.01,
    seed: int = 0,
    interval: int = 10,
    velocities: str = "thermal",
    max_temperature_K: float | None = None,
    overwrite: bool = False,
    progress: bool = True,
) -> dict[str, Any]:
    """Run molecular dynamics and write `trajectory.extxyz`, `md.csv` and `health.json`.

    Structures without constraints keep their centre of mass at rest, and temperatures count the degrees of freedom
    that are left. All input is checked, and the first energy computed, before the folder is made. Energy, temperature
    and closest distance are watched at every step, whatever the interval.

    Args:
        calculator: The potential.
        atoms: Start structure; copied, never changed. Its masses, tags and constraints are used.
        out: Folder for the files.
        ensemble: "nve" (velocity Verlet) or "langevin".
        temperature_K: Temperature of the initial velocities, and of the bath (K).
        timestep_fs: Time step (fs).
        steps: Number of steps.
        friction_per_fs: Friction of the Langevin bath (1/fs).
        seed: Seed of the velocities and of the bath; the same seed gives the same run.
        interval: Steps between two rows of md.csv, and two frames of the trajectory.
        velocities: "thermal" draws them at temperature_K, "keep" takes the momenta of the structure (less the motion
            of its centre of mass).
        max_temperature_K: Above it the run is stopped; None takes ten times the largest of temperature_K, the initial
            temperature and 300 K.
        overwrite: Whether files of an earlier run in `out` may be replaced.
        progress: Whether a progress line goes to stderr.

    Returns:
        The content of health.json.

    Raises:
        UserError: If the input is wrong; nothing is written then.
        SimulationError: If the run became unphysical. Its files are there, health.json with `finished: false`.
    """
    settings = Settings(ensemble, temperature_K, timestep_fs, steps, friction_per_fs, seed, interval, velocities)
    settings.check()
    folder = check_output(out, FILES, overwrite)
    check_structure(atoms, calculator.model.atomic_numbers)
    atoms = _prepare(atoms, settings)
    atoms.calc = calculator
    start = _first_sample(atoms)
    hottest = EXPLOSION * max(temperature_K, start.temperature_K, ROOM_TEMPERATURE)
    monitor = HealthMonitor(len(atoms), hottest if max_temperature_K is None else max_temperature_K)
    problem = monitor.check(start)
    if problem:
        raise UserError(f"The start structure is unphysical: {problem}.")
    with Recorder(folder, interval) as recorder:
        recorder.record(start, atoms, wanted=True)
        return _run(atoms, settings, monitor, recorder, ProgressLine(steps, "md", "steps", progress))


def _run(
    atoms: ase.Atoms, settings: Settings, monitor: HealthMonitor, recorder: Recorder, line: ProgressLine
) -> dict[str, Any]:
    """Integrate, and write health.json however it ends."""
    reason: str | None = "interrupted"
    begin = time.perf_counter()
    try:
        reason = _integrate(atoms, settings, monitor, recorder, line)
    finally:
        rate = monitor.steps / (time.perf_counter() - begin)
        health = {
            "finished": reason is None,
            "reason": reason,
            **asdict(settings),
            **monitor.summary(conserved=settings.ensemble == "nve"),
            "steps_planned": settings.steps,
            "steps_per_second": rate,
            "ns_per_day": _ns_per_day(rate, settings.timestep_fs),
        }
        recorder.write_health(health)
        line.close(f"{health['ns_per_day']:.3g} ns/day")
    if reason is not None:
        where = f"step {monitor.steps} of {settings.steps}"
        raise SimulationError(f"The simulation was stopped at {where}: {reason}. See {recorder.folder}.", health)
    return health


def _integrate(
    atoms: ase.Atoms, settings: Settings, monitor: HealthMonitor, recorder: Recorder, line: ProgressLine
) -> str | None:
    """All steps; returns what went wrong, if anything did."""
    dynamics = _dynamics(atoms, settings)
    for step in range(1, settings.steps + 1):
        try:
            dynamics.step()
        except UserError as error:  # the structure was fine at the start, so the integration broke it
            return str(error).rstrip(".")
        sample = _sample(atoms, step, settings.timestep_fs)
        problem = monitor.check(sample)
        recorder.record(sample, atoms, wanted=bool(problem) or step == settings.steps)
        if problem:
            return problem
        line.update(step, f"{_ns_per_day(line.rate, settings.timestep_fs):.3g} ns/day")
    return None


def _dynamics(atoms: ase.Atoms, settings: Settings) -> VelocityVerlet | Langevin:
    timestep = settings.timestep_fs * units.fs
    if settings.ensemble == "nve":
        return VelocityVerlet(atoms, timestep)
    return Langevin(
        atoms,
        timestep,
        temperature_K=settings.temperature_K,
        friction=settings.friction_per_fs / units.fs,
        fixcm=False,  # a FixCom constraint does it without distorting the ensemble
        rng=np.random.default_rng([settings.seed, 1]),
    )


def _prepare(atoms: ase.Atoms, settings: Settings) -> ase.Atoms:
    """A copy with what moves (no labels, no info of another calculation), constrained and with velocities."""
    moving = ase.Atoms(numbers=atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
    for name in ("masses", "tags", "momenta"):
        if atoms.has(name):
            moving.set_array(name, atoms.get_array(name))
    moving.set_constraint([constraint.copy() for constraint in atoms.constraints] or FixCom())
    if settings.velocities == "thermal":
        _thermalize(moving, settings.temperature_K, settings.seed)
    elif not atoms.has("momenta"):
        raise UserError("velocities=keep needs momenta in the structure, and there are none. Use velocities=thermal.")
    else:
        moving.set_momenta(moving.get_momenta())  # lets the constraints take their part
    return moving


def _thermalize(atoms: ase.Atoms, temperature_K: float, seed: int) -> None:
    """Draw Maxwell-Boltzmann momenta and scale them to exactly this temperature."""
    widths = np.sqrt(atoms.get_masses() * units.kB * temperature_K)
    atoms.set_momenta(np.random.default_rng([seed, 0]).standard_normal((len(atoms), 3)) * widths[:, None])
    drawn = _temperature(atoms)
    if drawn > 0:
        atoms.set_momenta(atoms.get_momenta() * math.sqrt(temperature_K / drawn))


def _temperature(atoms: ase.Atoms) -> float:
    """Temperature (K) of the degrees of freedom that can move; 0 when there are none."""
    freedom = atoms.get_number_of_degrees_of_freedom()
    return 2.0 * atoms.get_kinetic_energy() / (freedom * units.kB) if freedom > 0 else 0.0


def _first_sample(atoms: ase.Atoms) -> Sample:
    """Computes the first energy and forces, so that a structure that cannot be computed is refused here."""
    atoms.get_forces()
    return _sample(atoms, 0, 0.0)


def _sample(atoms: ase.Atoms, step: int, timestep_fs: float) -> Sample:
    return Sample(
        step=step,
        time_ps=step * timestep_fs * 1e-3,
        potential_energy_eV=atoms.calc.results["energy"],
        kinetic_energy_eV=float(atoms.get_kinetic_energy()),
        temperature_K=float(_temperature(atoms)),
        closest_distance_A=atoms.calc.closest_distance,
    )


def _ns_per_day(steps_per_second: float, timestep_fs: float) -> float:
    return steps_per_second * 86400.0 * timestep_fs * 1e-6


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise UserError(f"{name} is {' or '.join(choices)}, not '{value}'.{nearest(str(value), choices)}")
