"""ASE's integrators by ensemble, and all that their next step depends on."""

from functools import reduce
from typing import Any

import ase
import numpy as np
from ase import units
from ase.md.bussi import Bussi
from ase.md.langevin import Langevin
from ase.md.nose_hoover_chain import MTKNPT, IsotropicMTKNPT, NoseHooverChainNVT, NoseHooverChainThermostat
from ase.md.verlet import VelocityVerlet

from mace_gaunt.simulation.md_settings import MDSettings
from mace_gaunt.simulation.start import degrees_of_freedom

_CHAIN = ("_q", "_p", "_thermostat._eta", "_thermostat._p_eta")
_BAROSTAT = ("_barostat._xi", "_barostat._p_xi")
# Beside positions, momenta and cell of the atoms, what the next step reads and the constructor does not set.
STATE: dict[str, tuple[str, ...]] = {
    "nve": (),
    "langevin": (),
    "bussi": ("transferred_energy",),
    "nose_hoover_chain": _CHAIN,
    "npt_isotropic": (*_CHAIN, *_BAROSTAT, "_eps", "_p_eps", "_cell0", "_volume0"),
    "npt": (*_CHAIN, *_BAROSTAT, "_h", "_p_g"),
}


class _ConstrainedChain(NoseHooverChainNVT):
    """ASE's chain with forces that keep to constraints.

    It asks for `get_forces(md=True)`, which leaves constraints to a RATTLE step that it does not have: held atoms
    gather momentum, which the thermostat takes for heat and cools away (200 K became 40 K within 2 ps).
    """

    def _get_forces(self) -> np.ndarray:
        self._update_atoms()
        return self.atoms.get_forces()


def build_integrator(atoms: ase.Atoms, settings: MDSettings) -> Any:
    """The integrator of an ensemble.

    ASE's Nosé-Hoover chains and barostats take 3 N degrees of freedom for granted. With the centre of mass at rest, or
    atoms held, momenta have fewer, and those would be heated to T 3N/Nf (12 atoms: 9% too hot). So they are given
    Nf / 3 as their number of atoms, which makes them the equations of Martyna, Tobias and Klein (J. Chem. Phys. 101,
    4177, 1994) for Nf degrees of freedom.

    Args:
        atoms: What `moving_atoms` gives, with its calculator.
        settings: The settings.

    Returns:
        The integrator; a `step()` is a time step.
    """
    kelvin: dict[str, Any] = {"temperature_K": settings.temperature_K}
    random: dict[str, Any] = {"rng": np.random.default_rng([settings.seed, 1])}
    step, tdamp = settings.timestep, settings.tdamp
    if settings.ensemble == "nve":
        return VelocityVerlet(atoms, step)
    if settings.ensemble == "langevin":
        # fixcm=False: a FixCom constraint does it without distorting the ensemble.
        return Langevin(atoms, step, friction=settings.friction_per_fs / units.fs, fixcm=False, **kelvin, **random)
    if settings.ensemble == "bussi":
        return Bussi(atoms, step, taut=tdamp, **kelvin, **random)
    if settings.ensemble == "nose_hoover_chain":
        return _with_freedom(_ConstrainedChain(atoms, step, tdamp=tdamp, **kelvin), settings)
    kind = IsotropicMTKNPT if settings.ensemble == "npt_isotropic" else MTKNPT
    pressure = settings.pressure_GPa * units.GPa
    return _with_freedom(kind(atoms, step, pressure_au=pressure, tdamp=tdamp, pdamp=settings.pdamp, **kelvin), settings)


def conserved_energy(integrator: Any, total_energy: float) -> float | None:
    """The quantity that an ensemble conserves.

    Args:
        integrator: The integrator.
        total_energy: Potential and kinetic energy (eV).

    Returns:
        Its value (eV): the total energy for nve, with the energy of the bath for others, None for langevin, where ASE
        does not keep count of the heat.
    """
    if isinstance(integrator, Bussi):
        return total_energy - float(integrator.transferred_energy)
    if isinstance(integrator, Langevin):
        return None
    if isinstance(integrator, VelocityVerlet):
        return total_energy
    return float(integrator.get_conserved_energy())


def pack_state(integrator: Any, ensemble: str) -> tuple[dict[str, np.ndarray], dict[str, Any] | None]:
    """All that the next step depends on, beside the atoms.

    Args:
        integrator: The integrator.
        ensemble: Its ensemble.

    Returns:
        Arrays by the names of `STATE`, and the state of the random numbers as JSON values (None without).
    """
    arrays = {name: np.array(_read(integrator, name)) for name in STATE[ensemble]}
    random = getattr(integrator, "rng", None)
    return arrays, None if random is None else random.bit_generator.state


def unpack_state(integrator: Any, ensemble: str, arrays: dict[str, np.ndarray], random: dict[str, Any] | None) -> None:
    """Put back what `pack_state` gave.

    Args:
        integrator: A new integrator of the same ensemble and settings; changed in place.
        ensemble: Its ensemble.
        arrays: The arrays.
        random: The state of the random numbers.
    """
    for name in STATE[ensemble]:
        parent, _, leaf = name.rpartition(".")
        value = arrays[name]
        setattr(_read(integrator, parent) if parent else integrator, leaf, value.copy() if value.ndim else float(value))
    if random is not None:
        integrator.rng.bit_generator.state = random


def _with_freedom(integrator: Any, settings: MDSettings) -> Any:
    """Tell thermostat and barostat how many degrees of freedom there are."""
    thirds: Any = degrees_of_freedom(integrator.atoms) / 3
    kelvin: dict[str, Any] = {"temperature_K": settings.temperature_K}
    integrator._thermostat = NoseHooverChainThermostat(thirds, integrator.masses, tdamp=settings.tdamp, **kelvin)
    if hasattr(integrator, "_barostat"):
        integrator._num_atoms_global = thirds
        integrator._barostat = type(integrator._barostat)(thirds, pdamp=settings.pdamp, **kelvin)
    return integrator


def _read(thing: Any, dotted: str) -> Any:
    return reduce(getattr, dotted.split("."), thing)
