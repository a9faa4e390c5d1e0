"""Labels: where a file keeps energy, forces and stress, and what it holds under other names."""

from dataclasses import dataclass
from typing import Any

import ase
import numpy as np
from ase.stress import voigt_6_to_full_3x3_stress

from mace_gaunt.errors import UserError

QUANTITIES = ("energy", "forces", "stress")

# Where a name can be, in the order of looking: what the file says itself, then what ASE made of it.
PLACES = ("info", "arrays", "calculator")


@dataclass(frozen=True)
class LabelKeys:
    """The names of the labels in a file.

    Each is a name to look for in `atoms.info` or `atoms.arrays`, then in the results of the attached calculator (where
    ASE puts the `energy`, `forces` and `stress` of an extxyz file); "auto", which takes the plain name in info or
    arrays, then the calculator's, then MACE's `REF_` name, and refuses when two of them disagree; or None, which
    reads nothing.
    """

    energy: str | None = "auto"
    forces: str | None = "auto"
    stress: str | None = "auto"

    def __post_init__(self) -> None:
        """Refuse virials as stress: they have the other sign and another unit.

        Raises:
            UserError: If stress names virials.
        """
        if "virial" in (self.stress or "").lower():
            raise UserError(
                f"stress_key={self.stress}: virials are not stress. "
                "Write stress = -virials / volume (eV/Å^3) to the file."
            )

    def candidates(self, quantity: str) -> tuple[str, ...]:
        """The names to look for, in order."""
        key = getattr(self, quantity)
        if key is None:
            return ()
        return (quantity, f"REF_{quantity}") if key == "auto" else (key,)


@dataclass(frozen=True)
class Labels:
    """The labels of one frame.

    Attributes:
        energy: Total energy (eV), NaN when absent.
        forces: Shape [n_nodes, 3] (eV/Å), None when absent.
        stress: Shape [3, 3] (eV/Å^3, sign of ASE), None when absent.
    """

    energy: float = float("nan")
    forces: np.ndarray | None = None
    stress: np.ndarray | None = None


def read_labels(atoms: ase.Atoms, keys: LabelKeys) -> Labels:
    """Read the labels of one frame, without constraints and without computing anything.

    Args:
        atoms: The frame.
        keys: Where to look.

    Returns:
        What was found.

    Raises:
        UserError: If a label has the wrong shape or is not finite, or two candidates of "auto" disagree.
    """
    energy = _read(atoms, keys, "energy")
    return Labels(
        float("nan") if energy is None else float(energy), _read(atoms, keys, "forces"), _read(atoms, keys, "stress")
    )


def _read(atoms: ase.Atoms, keys: LabelKeys, quantity: str) -> np.ndarray | None:
    found = find(atoms, keys, quantity)
    values = [(where, _shaped(value, quantity, len(atoms), where)) for where, value in found]
    for where, value in values[1:]:
        if not np.allclose(value, values[0][1], rtol=1e-9, atol=1e-5):
            raise UserError(
                f"two candidates for {quantity} disagree: {values[0][0]} and {where} differ by up to "
                f"{np.abs(value - values[0][1]).max():.3g}. Choose one with {quantity}_key."
            )
    return values[0][1] if values else None


def find(atoms: ase.Atoms, keys: LabelKeys, quantity: str) -> list[tuple[str, Any]]:
    """Every place where a frame has the quantity, best first, as (place, value)."""
    return [
        (f"{name} ({place})", values[name])
        for name in keys.candidates(quantity)
        for place, values in places(atoms).items()
        if values.get(name) is not None
    ]


def places(atoms: ase.Atoms) -> dict[str, dict[str, Any]]:
    """The three dictionaries in which a label can be, by the names of PLACES."""
    results = {} if atoms.calc is None else atoms.calc.results
    return dict(zip(PLACES, (atoms.info, atoms.arrays, results), strict=True))


def _shaped(value: Any, quantity: str, n_atoms: int, where: str) -> np.ndarray:
    """A label as a float64 array of its one shape, finite."""
    try:
        array = np.array(value, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        raise UserError(f"{where} is not a number or array of numbers, but {value!r:.60}.") from None
    if not np.isfinite(array).all():
        raise UserError(f"{where} holds values that are not finite (NaN or inf).")
    if quantity == "stress" and array.size == 6:
        return voigt_6_to_full_3x3_stress(array.reshape(6))
    shape = {"energy": (), "forces": (n_atoms, 3), "stress": (3, 3)}[quantity]
    if array.size != np.prod(shape, dtype=int):
        raise UserError(f"{where} has shape {array.shape}; {quantity} needs {shape}.")
    return array.reshape(shape)
