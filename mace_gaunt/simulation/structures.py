"""Structures: reading them from files, and what a model asks of them."""

import re
from pathlib import Path
from typing import Any

import ase
import ase.io
import numpy as np
from ase.calculators.calculator import PropertyNotImplementedError

from mace_gaunt.data.atomic_data import symbols
from mace_gaunt.errors import UserError, nearest


def read_structure(path: str | Path, index: int = -1) -> ase.Atoms:
    """Read one structure from any file that ASE knows.

    Args:
        path: The file.
        index: Which frame, counted from 0, or from the end when negative.

    Returns:
        The structure.

    Raises:
        UserError: If the file is absent or unreadable, has no such frame, or the frame has no atoms.
    """
    path = _existing(path)
    atoms = _read_frame(path, index)
    if len(atoms) == 0:
        raise UserError(f"Frame {index} of '{path}' has no atoms.")
    return atoms


def read_structures(path: str | Path, index: str) -> list[ase.Atoms]:
    """Read some structures from any file that ASE knows.

    Args:
        path: The file.
        index: A frame ("0", "-1") or a Python slice (":", "0:10").

    Returns:
        The structures, at least one.

    Raises:
        UserError: If the file is absent or unreadable, the index is none, or chooses nothing.
    """
    text = index.strip().removeprefix("[").removesuffix("]")
    if not re.fullmatch(r"-?\d+|(-?\d*:){1,2}-?\d*", text):
        raise UserError(f"index='{index}' is no frame (0, -1) and no slice (:, 0:10).")
    if ":" not in text:
        return [read_structure(path, int(text))]
    path = _existing(path)
    try:
        found: list[ase.Atoms] = _read(path, text)
    except (IndexError, StopIteration):
        found = []
    except Exception as error:
        raise UserError(f"ASE cannot read '{path}' as structures ({type(error).__name__}: {error}).") from error
    if not found:
        raise UserError(f"'{path}' has no frames {index}: it holds {_count_frames(path)} frames.")
    return found


def _existing(path: str | Path) -> Path:
    path = Path(path).expanduser()
    if path.is_dir():
        raise UserError(f"'{path}' is a folder: give one file of structures in it.")
    if not path.is_file():
        beside = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
        raise UserError(f"No structure file '{path}'.{nearest(path.name, beside) if beside else ''}")
    return path


def _read_frame(path: Path, index: int) -> ase.Atoms:
    """One frame; ASE raises nearly anything on a file it cannot read."""
    try:
        if index < -1:  # beyond the first frame ASE would give the first one without a word
            return _read(path, ":")[index]
        return _read(path, index)
    except (IndexError, StopIteration) as error:
        raise UserError(f"'{path}' has no frame {index}: it holds {_count_frames(path)} frames.") from error
    except Exception as error:
        raise UserError(f"ASE cannot read '{path}' as a structure ({type(error).__name__}: {error}).") from error


def _count_frames(path: Path) -> int:
    try:
        return len(_read(path, ":"))
    except (IndexError, StopIteration):
        return 0


def _read(path: Path, index: int | str) -> Any:
    return ase.io.read(path, index=index, do_not_split_by_at_sign=True)


def check_structure(atoms: ase.Atoms, known: list[int]) -> None:
    """Refuse what a model cannot be asked for (the neighbour list refuses cells without volume).

    Args:
        atoms: The structure.
        known: Atomic numbers the model was trained on.

    Raises:
        UserError: If it has no atoms, non-finite positions, or elements the model does not know.
    """
    if len(atoms) == 0:
        raise UserError("the structure has no atoms.")
    unknown = sorted(set(atoms.numbers.tolist()) - set(known))
    if unknown:
        raise UserError(f"the structure holds {symbols(unknown)}, but the model knows only {symbols(known)}.")
    bad = np.flatnonzero(~np.isfinite(atoms.positions).all(axis=1))
    if bad.size:
        raise UserError(f"the position of atom {bad[0]} is not finite: {atoms.positions[bad[0]].tolist()}.")


def check_stress_defined(atoms: ase.Atoms) -> None:
    """Refuse stress where there is no volume to divide by.

    Args:
        atoms: The structure.

    Raises:
        PropertyNotImplementedError: If the cell is not periodic in all three directions.
    """
    if not atoms.pbc.all():
        flags = " ".join("T" if flag else "F" for flag in atoms.pbc)
        raise PropertyNotImplementedError(
            f'stress needs a cell that is periodic in all three directions, and the structure has pbc="{flags}".'
        )
