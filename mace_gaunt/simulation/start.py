"""From a structure to atoms that move: constraints, velocities, temperature."""

import math

import ase
import numpy as np
from ase import units
from ase.constraints import FixCom

from mace_gaunt.errors import UserError
from mace_gaunt.simulation.md_settings import NPT, MDSettings

# Integrators that hold positions of their own and write them over those of the atoms twice a step. FixCom would move
# them in the last bit each time, and forces would be computed twice.
OWN_POSITIONS = ("nose_hoover_chain", *NPT)
# Projections: an integrator that knows nothing of constraints keeps to them when forces and momenta do.
LINEAR = ("FixAtoms", "FixCom", "FixCartesian", "FixScaled", "FixedPlane", "FixedLine")


def moving_atoms(atoms: ase.Atoms, settings: MDSettings) -> ase.Atoms:
    """A copy with what moves (no labels, no info of another calculation), constrained and with velocities.

    Args:
        atoms: The structure, left as it is. Its masses, tags, constraints and, where asked for, momenta are used.
        settings: Ensemble, temperature, seed, velocities.

    Returns:
        The copy. Without constraints of its own its centre of mass is at rest: held by `FixCom`, or, in
        `OWN_POSITIONS`, by momenta that sum to zero as forces do.

    Raises:
        UserError: If a mass is not positive, momenta to keep are absent or not finite, or the ensemble cannot hold the
            constraints or the cell.
    """
    _check_motion(atoms, settings.velocities)
    _check_constraints(atoms, settings.ensemble)
    moving = ase.Atoms(numbers=atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
    for name in ("masses", "tags", "momenta"):
        if atoms.has(name):
            moving.set_array(name, atoms.get_array(name))
    # While momenta are drawn, FixCom takes the motion of the centre of mass out of them.
    moving.set_constraint([constraint.copy() for constraint in atoms.constraints] or FixCom())
    freedom = degrees_of_freedom(moving)
    if freedom < 1 and settings.ensemble not in ("nve", "langevin"):
        raise UserError(f"ensemble={settings.ensemble}: nothing can move, so there is no temperature to control.")
    if settings.velocities == "thermal":
        _thermalize(moving, settings.temperature_K, settings.seed)
    elif not atoms.has("momenta"):
        raise UserError("velocities=keep needs momenta in the structure, and there are none. Use velocities=thermal.")
    else:
        moving.set_momenta(moving.get_momenta())  # lets the constraints take their part
    if not atoms.constraints and settings.ensemble in OWN_POSITIONS:
        moving.set_constraint()
    if settings.ensemble == "bussi" and moving.get_kinetic_energy() < 1e-12:
        raise UserError("ensemble=bussi rescales velocities, and there are none. Use velocities=thermal.")
    return moving


def degrees_of_freedom(atoms: ase.Atoms) -> int:
    """Degrees of freedom that momenta can have.

    Args:
        atoms: What `moving_atoms` gives: without constraints its centre of mass is at rest.

    Returns:
        Their number, at least 0.

    Raises:
        UserError: If ASE cannot count what a constraint takes away.
    """
    try:
        free = atoms.get_number_of_degrees_of_freedom()
    except NotImplementedError as error:
        names = ", ".join(_names(atoms))
        raise UserError(
            f"ASE cannot count the degrees of freedom under {names}, so there is no temperature."
        ) from error
    return max(int(free) - (0 if atoms.constraints else 3), 0)


def temperature(atoms: ase.Atoms, freedom: int) -> float:
    """Temperature (K) of the degrees of freedom that can move; 0 when there are none.

    Args:
        atoms: Atoms with momenta.
        freedom: Their degrees of freedom.
    """
    return float(2.0 * atoms.get_kinetic_energy() / (freedom * units.kB)) if freedom > 0 else 0.0


def _thermalize(atoms: ase.Atoms, temperature_K: float, seed: int) -> None:
    """Draw Maxwell-Boltzmann momenta and scale them to exactly this temperature."""
    widths = np.sqrt(atoms.get_masses() * units.kB * temperature_K)
    atoms.set_momenta(np.random.default_rng([seed, 0]).standard_normal((len(atoms), 3)) * widths[:, None])
    drawn = temperature(atoms, degrees_of_freedom(atoms))
    if drawn > 0:
        atoms.set_momenta(atoms.get_momenta() * math.sqrt(temperature_K / drawn))


def _check_motion(atoms: ase.Atoms, velocities: str) -> None:
    """Refuse masses and momenta with which nothing can move."""
    masses = atoms.get_masses()
    bad = np.flatnonzero(~((masses > 0) & np.isfinite(masses)))
    if bad.size:
        raise UserError(f"the mass of atom {bad[0]} is {masses[bad[0]]:g} u: give every atom a positive one.")
    bad = np.flatnonzero(~np.isfinite(atoms.get_momenta()).all(axis=1))
    if velocities == "keep" and bad.size:
        raise UserError(f"the momentum of atom {bad[0]} is not finite. Use velocities=thermal, which draws new ones.")


def _check_constraints(atoms: ase.Atoms, ensemble: str) -> None:
    """Refuse constraints that ASE's integrator would refuse, or break without a word, and cells it cannot change."""
    if ensemble in NPT:
        if not atoms.pbc.all():
            flags = " ".join("T" if flag else "F" for flag in atoms.pbc)
            raise UserError(f'ensemble={ensemble} needs a cell periodic in all three directions; pbc="{flags}".')
        if atoms.constraints:
            raise UserError(
                f"ensemble={ensemble} cannot hold constraints ({', '.join(_names(atoms))}): ASE's integrators at "
                "constant pressure move every atom. Use langevin or bussi, or take them out of the structure."
            )
    broken = [name for name in _names(atoms) if name not in LINEAR]
    if ensemble == "nose_hoover_chain" and broken:
        raise UserError(
            f"ensemble=nose_hoover_chain cannot hold {', '.join(broken)}: ASE's integrator has no RATTLE step. "
            "Use langevin or bussi."
        )


def _names(atoms: ase.Atoms) -> list[str]:
    return [type(constraint).__name__ for constraint in atoms.constraints]
