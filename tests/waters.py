"""Small labelled structures for the tests of data."""

import ase
import numpy as np
from ase.calculators.singlepoint import SinglePointCalculator

E0S = {"H": -13.5, "O": -2041.25}


def make_water(seed: int = 0, energy: float | None = -2070.0, forces: bool = True, **info) -> ase.Atoms:
    """A shaken water molecule with labels where ASE puts those of an extxyz file."""
    rng = np.random.default_rng(seed)
    atoms = ase.Atoms("OHH", np.array([[0.0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]]) + rng.normal(0, 0.05, (3, 3)))
    results = {} if energy is None else {"energy": energy}
    if forces:
        results["forces"] = rng.normal(0, 1.0, (3, 3))
    atoms.calc = SinglePointCalculator(atoms, **results)
    atoms.info.update(info)
    return atoms


def make_atom(symbol: str, energy: float | None = None) -> ase.Atoms:
    """An isolated atom with its energy."""
    atoms = ase.Atoms(symbol, positions=[[0.0, 0, 0]])
    atoms.calc = SinglePointCalculator(atoms, energy=E0S[symbol] if energy is None else energy)
    return atoms
