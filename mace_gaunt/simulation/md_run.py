"""A simulation under way: steps, records, checkpoints, and the report however it ends."""

import logging
import time
from dataclasses import asdict, dataclass
from typing import Any

import ase
import numpy as np

from mace_gaunt.errors import UserError
from mace_gaunt.signals import StopSignals
from mace_gaunt.simulation.calculator import MaceGauntCalculator
from mace_gaunt.simulation.extrapolation import GeometryWatch, known_coverage
from mace_gaunt.simulation.health import HealthMonitor, Sample, SimulationError
from mace_gaunt.simulation.health_text import describe
from mace_gaunt.simulation.integrators import build_integrator, pack_state, unpack_state
from mace_gaunt.simulation.md_checkpoint import Checkpoint
from mace_gaunt.simulation.md_plots import plot_simulation
from mace_gaunt.simulation.md_restore import (
    describe_constraints,
    describe_numerics,
    forget,
    pack_atoms,
    pack_calculator,
    unpack_atoms,
    unpack_calculator,
)
from mace_gaunt.simulation.md_settings import NPT, MDSettings
from mace_gaunt.simulation.progress import ProgressLine
from mace_gaunt.simulation.recorder import PLOT, TABLE, GoodFrame, Recorder
from mace_gaunt.simulation.sampling import ns_per_day, take_sample
from mace_gaunt.simulation.start import degrees_of_freedom, moving_atoms

log = logging.getLogger(__name__)

# A run has exploded when it is this many times hotter than it was asked or started to be. Cold starts are measured
# against room temperature: an unrelaxed structure heats up on its own.
EXPLOSION = 10.0
ROOM_TEMPERATURE = 300.0


@dataclass
class Simulation:
    """A simulation under way.

    Attributes:
        atoms: The atoms, with their calculator.
        settings: What it was asked to do.
        integrator: What moves the atoms.
        freedom: Degrees of freedom.
        hottest: Limit of the temperature where none was given (K).
        monitor: Watches every step.
        watch: Watches recorded steps.
        sample: The last step.
        good: The last step that was sound.
        begin: Step at which this process took over.
    """

    atoms: ase.Atoms
    settings: MDSettings
    integrator: Any
    freedom: int
    hottest: float
    monitor: HealthMonitor
    watch: GeometryWatch
    sample: Sample
    good: GoodFrame
    begin: int = 0

    def go(self, recorder: Recorder, line: ProgressLine) -> dict[str, Any]:
        """Integrate, and write the report however it ends.

        Args:
            recorder: Where to.
            line: Progress.

        Returns:
            The content of health.json.

        Raises:
            SimulationError: If the run became unphysical.
            SystemExit, KeyboardInterrupt: After a signal.
        """
        reason: str | None = "interrupted"
        line.skip(self.begin)  # what came before the first step is no measure of the speed
        begin = time.perf_counter()
        signals = StopSignals()
        try:
            with signals:
                reason = self._integrate(recorder, line, signals)
        finally:
            health = self._report(reason, time.perf_counter() - begin)
            recorder.write_health(health, describe(health))
            plot_simulation(recorder.folder / TABLE, recorder.folder / PLOT, self._target(), len(self.atoms))
            line.close(f"{health['ns_per_day']:.3g} ns/day")
        signals.raise_received()
        if reason is not None:
            kept = self.good.write(recorder.folder)
            where = f"step {self.monitor.steps} of {self.settings.steps}"
            message = f"The simulation was stopped at {where}: {reason}. See {recorder.folder}"
            raise SimulationError(
                f"{message}; {kept.name} is the last good frame, of step {self.good.sample.step}.", health
            )
        return health

    def record(self, recorder: Recorder, wanted: bool = False, problem: str | None = None) -> None:
        """Write the step where it is its turn, and look at its geometry while that is sound.

        Args:
            recorder: Where to.
            wanted: Whether it is written in any case.
            problem: What is wrong with it; it is written then, too.
        """
        if recorder.record(self.sample, self.atoms, wanted or problem is not None) and problem is None:
            self.watch.add(self.atoms)

    def save(self, recorder: Recorder) -> None:
        """Write a checkpoint; the other files go to the disk first, so that they are never shorter than it says.

        Args:
            recorder: Where to.
        """
        marks = recorder.sync()
        arrays, random = pack_state(self.integrator, self.settings.ensemble)
        results, neighbors = pack_calculator(self.atoms.calc)
        info = {
            "step": self.sample.step,
            "settings": asdict(self.settings),
            "constraints": describe_constraints(self.atoms),
            "random": random,
            "hottest": self.hottest,
            "monitor": self.monitor.state(),
            "watch": self.watch.state(),
            "files": asdict(marks),
            "numerics": describe_numerics(self.atoms.calc),
        }
        Checkpoint(info, pack_atoms(self.atoms), arrays, results, neighbors).save(recorder.folder)

    def _integrate(self, recorder: Recorder, line: ProgressLine, signals: StopSignals) -> str | None:
        """All steps; returns what went wrong, if anything did."""
        settings = self.settings
        for step in range(self.begin + 1, settings.steps + 1):
            try:
                self.integrator.step()
                self.sample = take_sample(self.atoms, self.integrator, settings, step, self.freedom)
            except (UserError, np.linalg.LinAlgError) as error:  # it was fine at the start: the integration broke it
                return str(error).rstrip(".")
            problem, last = self.monitor.check(self.sample), step == settings.steps
            self.record(recorder, last, problem)
            if problem:
                return problem
            self.good = GoodFrame.of(self.atoms, self.sample)
            if last or signals.received or step % settings.checkpoint_interval == 0:
                self.save(recorder)
            if signals.received and not last:
                return f"stopped by {signals.name}; resume=auto goes on"
            line.update(step, self._note(line.rate))
        return None

    def _report(self, reason: str | None, seconds: float) -> dict[str, Any]:
        """The content of health.json."""
        target = self._target()
        rate = (self.monitor.steps - self.begin) / seconds if seconds > 0 else 0.0
        return {
            "finished": reason is None,
            "reason": reason,
            **asdict(self.settings),
            **self.monitor.summary(),
            # Of the canonical ensemble: T sqrt(2 / Nf).
            "temperature_std_expected_K": target * float(np.sqrt(2 / self.freedom))
            if target and self.freedom
            else None,
            "degrees_of_freedom": self.freedom,
            **self.watch.summary(),
            "steps_planned": self.settings.steps,
            "continued_from_step": self.begin or None,
            "steps_per_second": rate,
            "ns_per_day": ns_per_day(rate, self.settings.timestep_fs),
        }

    def _note(self, rate: float) -> str:
        speed = ns_per_day(rate, self.settings.timestep_fs)
        return f"{self.sample.temperature_K:.0f} K, {self.sample.potential_energy_eV:.3f} eV, {speed:.3g} ns/day"

    def _target(self) -> float | None:
        return None if self.settings.ensemble == "nve" else self.settings.temperature_K


def begin_simulation(calculator: MaceGauntCalculator, start: ase.Atoms, settings: MDSettings) -> Simulation:
    """A new simulation up to its first step; writes nothing.

    Args:
        calculator: The potential; what it knows of earlier calculations is forgotten.
        start: The start structure.
        settings: The settings.

    Returns:
        The simulation.

    Raises:
        UserError: If the structure cannot be computed, or is unphysical.
    """
    atoms = moving_atoms(start, settings)
    atoms.calc = calculator
    forget(calculator)
    calculator.calculate(atoms, ["energy", "forces"] + ["stress"] * (settings.ensemble in NPT))
    simulation = _assemble(atoms, settings, build_integrator(atoms, settings), 0, None)
    problem = simulation.monitor.check(simulation.sample)
    if problem:
        raise UserError(f"The start structure is unphysical: {problem}.")
    return simulation


def continue_simulation(
    calculator: MaceGauntCalculator, start: ase.Atoms, settings: MDSettings, checkpoint: Checkpoint
) -> Simulation:
    """A simulation as it was at a checkpoint; writes nothing.

    Args:
        calculator: The potential; what it knows of earlier calculations is forgotten.
        start: The structure that it began from.
        settings: The settings.
        checkpoint: The checkpoint.

    Returns:
        The simulation.

    Raises:
        UserError: If structure or potential are not those of the checkpoint.
    """
    atoms = moving_atoms(start, settings)
    atoms.calc = calculator
    unpack_atoms(atoms, checkpoint)
    note = unpack_calculator(calculator, atoms, checkpoint)
    log.info("continued from step %d%s", checkpoint.step, f": {note}" if note else "")
    integrator = build_integrator(atoms, settings)
    unpack_state(integrator, settings.ensemble, checkpoint.integrator, checkpoint.info["random"])
    simulation = _assemble(atoms, settings, integrator, checkpoint.step, checkpoint.info["hottest"])
    simulation.monitor.restore(checkpoint.info["monitor"])
    simulation.watch.restore(checkpoint.info["watch"])
    return simulation


def _assemble(atoms: ase.Atoms, settings: MDSettings, integrator: Any, step: int, hottest: float | None) -> Simulation:
    """The parts around atoms that have been computed."""
    calculator: MaceGauntCalculator = atoms.calc
    freedom = degrees_of_freedom(atoms)
    sample = take_sample(atoms, integrator, settings, step, freedom)
    if settings.max_force_std is not None and sample.max_force_std_eV_A is None:
        raise UserError("max_force_std is a limit for a committee: give several models, as in model=[runs/a,runs/b].")
    if hottest is None:
        hottest = EXPLOSION * max(settings.temperature_K, sample.temperature_K, ROOM_TEMPERATURE)
    limit = hottest if settings.max_temperature_K is None else settings.max_temperature_K
    monitor = HealthMonitor(len(atoms), limit, settings.max_force_std)
    models = calculator.models
    watch = GeometryWatch(max(model.r_max for model in models), known_coverage([model.metadata for model in models]))
    good = GoodFrame.of(atoms, sample)
    return Simulation(atoms, settings, integrator, freedom, hottest, monitor, watch, sample, good, step)
