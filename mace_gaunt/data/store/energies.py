"""What the energies of a store refer to: how those of a record get there, and what cannot be."""

import math
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ase
import numpy as np

from mace_gaunt.data.atomic_data import symbols
from mace_gaunt.data.store.linear_sums import MAX_NUMBER
from mace_gaunt.errors import UserError, nearest
from mace_gaunt.files import open_npz

REFERENCES = ("total", "adsorption", "linear")
# Adsorption energies are a few eV (OC20 leaves out what lies beyond 10); total energies of slabs are hundreds.
MOST_ADSORPTION = 50.0
# A fit of total energies leaves tenths of an eV per atom; one that does not belong to them leaves eV.
MOST_RESIDUAL_PER_ATOM = 5.0
# For elements that did not occur, fits hold 0 or absurd values (1e10 to 1e12 in oc20_linref.npz).
MOST_COEFFICIENT = 1e7


@dataclass(frozen=True)
class Energies:
    """Energies of one record in the reference of the store (eV), NaN when absent.

    Attributes:
        energy: Of the frame.
        relaxed: Of the relaxed structure.
        reference: What to add for the total energy.
    """

    energy: float
    relaxed: float
    reference: float


def told_reference(atoms: ase.Atoms) -> str | None:
    """The energy reference that a record tells, "total" or "adsorption", or None.

    Raises:
        UserError: If it tells another.
    """
    told = atoms.info.get("energy_reference")
    if told not in (None, "total", "adsorption"):
        raise UserError(f"energy_reference is {told!r}; expected total or adsorption.")
    return told


def common_reference(told: Iterable[str | None], asked: str | None) -> str:
    """The energy reference of a store.

    Args:
        told: What its sources tell.
        asked: What the user asks for, None for what the sources tell, or total where they tell nothing.

    Returns:
        One of REFERENCES.

    Raises:
        UserError: If there is no such reference, or the sources cannot be brought to one.
    """
    if asked is not None and asked not in REFERENCES:
        raise UserError(f"energy_reference={asked} is not possible.{nearest(asked, REFERENCES)}")
    found = {reference for reference in told if reference is not None}
    if asked is None and len(found) > 1:
        raise UserError(
            "the sources mix total and adsorption energies. Give energy_reference=adsorption, which subtracts the "
            "reference energies from the total ones where the files have them, or prepare them apart."
        )
    if asked in ("total", "linear") and "adsorption" in found:
        raise UserError(f"energy_reference={asked} needs total energies, but sources hold adsorption energies.")
    return asked or next(iter(found), "total")


def record_energies(atoms: ase.Atoms, energy: float, reference: str) -> Energies:
    """Energies of a record in the reference of the store.

    Args:
        atoms: The record.
        energy: Its energy as labelled (eV), NaN when absent.
        reference: One of REFERENCES; linear keeps total energies, the fit acts as E0s.

    Returns:
        The energies.

    Raises:
        UserError: If the record cannot be brought to that reference.
    """
    told = told_reference(atoms)
    relaxed, subtracted = (_number(atoms, name) for name in ("relaxed_energy", "reference_energy"))
    labelled = math.isfinite(energy) or math.isfinite(relaxed)
    if reference != "adsorption":
        if told == "adsorption" and labelled:
            raise UserError(f"it has an adsorption energy, but energy_reference is {reference}.")
        return Energies(energy, relaxed, subtracted)
    if told == "total" and labelled and math.isnan(subtracted):
        raise UserError("it has a total energy and no reference_energy, which energy_reference=adsorption needs.")
    if told == "adsorption" or math.isnan(subtracted):
        return Energies(energy, relaxed, subtracted)
    return Energies(energy - subtracted, relaxed - subtracted, subtracted)


def check_values(energies: np.ndarray, counts: np.ndarray, reference: str, linear: dict[int, float] | None) -> None:
    """Refuse energies that cannot be what they are said to be.

    Args:
        energies: Of some frames (eV), NaN where absent, shape [n].
        counts: Atoms of each element in them, shape [n, MAX_NUMBER].
        reference: One of REFERENCES.
        linear: Atomic number -> energy (eV) of a given linear reference.

    Raises:
        UserError: If they contradict the reference.
    """
    there = np.isfinite(energies)
    energies, counts = energies[there], counts[there]
    if not len(energies):
        return
    typical = float(np.median(np.abs(energies)))
    if reference == "adsorption" and typical > MOST_ADSORPTION:
        raise UserError(
            f"energy_reference=adsorption, but half of the energies are beyond ±{typical:.0f} eV: these are no "
            "adsorption energies. Give energy_reference=total, or files with the reference energies."
        )
    if linear is not None:
        numbers = np.flatnonzero(counts.any(axis=0)).tolist()
        residuals = energies - counts[:, numbers] @ np.array(fit_of(linear, numbers))
        per_atom = float(np.median(np.abs(residuals) / counts.sum(axis=1)))
        if per_atom > MOST_RESIDUAL_PER_ATOM:
            raise UserError(
                f"the linear reference does not belong to these energies: half of them differ from it by more than "
                f"{per_atom:.1f} eV per atom."
            )


def fit_of(linear: dict[int, float], numbers: Sequence[int]) -> list[float]:
    """The energies of some elements in a linear reference (eV).

    Raises:
        UserError: If it has none for one of them.
    """
    unknown = [number for number in numbers if number not in linear]
    if unknown:
        raise UserError(f"the linear reference has no usable energy for {symbols(unknown)}.")
    return [linear[number] for number in numbers]


def read_linear_reference(path: str | Path) -> dict[int, float]:
    """Energies per element of a file such as oc20_linref.npz.

    Args:
        path: An .npz file with `coeff` [n], the energy (eV) of the element Z at position Z.

    Returns:
        Atomic number -> energy (eV), without elements that did not occur.

    Raises:
        UserError: If it cannot be read or holds no such array.
    """
    try:
        with open_npz(Path(path).expanduser()) as content:
            coefficients = np.asarray(content["coeff"], dtype=np.float64)
    except (OSError, ValueError, TypeError, KeyError, zipfile.BadZipFile) as error:
        raise UserError(f"linear_reference={path} cannot be read as an .npz file with 'coeff': {error}") from error
    if coefficients.ndim != 1 or not 1 < len(coefficients) <= MAX_NUMBER:
        raise UserError(f"linear_reference={path}: 'coeff' has shape {coefficients.shape}; expected [elements].")
    usable = (coefficients != 0) & (np.abs(coefficients) < MOST_COEFFICIENT)
    return {number: float(coefficients[number]) for number in range(1, len(coefficients)) if usable[number]}


def _number(atoms: ase.Atoms, name: str) -> float:
    value: Any = atoms.info.get(name)
    if value is None:
        return math.nan
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise UserError(f"{name} is {value!r}; expected a finite number (eV).")
    return number
