"""Atomic numbers as files have them."""

import numpy as np
from ase.data import chemical_symbols

from mace_gaunt.errors import UserError


def check_numbers(numbers: np.ndarray) -> None:
    """Refuse numbers that no element has.

    Args:
        numbers: Atomic numbers, shape [n_nodes]; 0 is ASE's dummy atom X.

    Raises:
        UserError: Names the first.
    """
    wrong = np.flatnonzero((numbers < 0) | (numbers >= len(chemical_symbols)))
    if wrong.size:
        raise UserError(f"atom {wrong[0]} has the atomic number {numbers[wrong[0]]}, which no element has.")
