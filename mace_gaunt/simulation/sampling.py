"""One time step as numbers."""

from typing import Any

import ase
import numpy as np
from ase import units

from mace_gaunt.simulation.health import Sample
from mace_gaunt.simulation.integrators import conserved_energy
from mace_gaunt.simulation.md_settings import NPT, MDSettings
from mace_gaunt.simulation.start import temperature


def take_sample(atoms: ase.Atoms, integrator: Any, settings: MDSettings, step: int, freedom: int) -> Sample:
    """The step as it is; everything has been computed for it already.

    Args:
        atoms: The atoms, with their calculator.
        integrator: What moves them.
        settings: Ensemble and time step.
        step: Steps done.
        freedom: Degrees of freedom.

    Returns:
        The sample.
    """
    results = atoms.calc.results
    potential, kinetic = float(atoms.get_potential_energy()), float(atoms.get_kinetic_energy())
    spread = results.get("forces_std")
    volume = pressure = None
    if settings.ensemble in NPT:
        volume = float(atoms.get_volume())
        pressure = float(-np.trace(atoms.get_stress(voigt=False, include_ideal_gas=True)) / 3 / units.GPa)
    return Sample(
        step=step,
        time_ps=step * settings.timestep_fs * 1e-3,
        potential_energy_eV=potential,
        kinetic_energy_eV=kinetic,
        temperature_K=temperature(atoms, freedom),
        closest_distance_A=atoms.calc.closest_distance,
        max_force_eV_A=_longest(results["forces"]),
        conserved_energy_eV=conserved_energy(integrator, potential + kinetic),
        volume_A3=volume,
        pressure_GPa=pressure,
        max_force_std_eV_A=None if spread is None else _longest(spread),
        energy_std_eV=None if spread is None else float(results["energy_std"]),
    )


def _longest(vectors: np.ndarray) -> float:
    """Largest norm of the rows."""
    return float(np.sqrt(np.einsum("ij,ij->i", vectors, vectors).max(initial=0.0)))


def ns_per_day(steps_per_second: float, timestep_fs: float) -> float:
    """Simulated nanoseconds per day.

    Args:
        steps_per_second: Rate.
        timestep_fs: Time step (fs).
    """
    return steps_per_second * 86400.0 * timestep_fs * 1e-6
