"""Small periodic slabs for the tests of stores, and what compares frames and folders byte by byte."""

from pathlib import Path

import ase
import numpy as np
import torch
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms

from mace_gaunt.data.atomic_data import AtomicData


def make_slab(seed: int, energy: float | None = None, **info) -> ase.Atoms:
    """A shaken periodic slab of 4 to 6 atoms with tags, fixed atoms and labels of eight decimals."""
    rng = np.random.default_rng(seed)
    symbols = ["Cu", "Cu", "Au", "Cu", "O", "H"][: 4 + seed % 3]
    grid = np.array([[0, 0, 5], [2.6, 0, 5], [0, 2.6, 5], [2.6, 2.6, 5], [1.3, 1.3, 7], [1.3, 1.3, 8]])
    positions = (grid[: len(symbols)] + rng.normal(0, 0.1, (len(symbols), 3))).round(8)
    atoms = ase.Atoms(symbols, positions, cell=[5.2, 5.3, 20.1], pbc=True)
    atoms.set_tags([0, 0, 1, 1, 2, 2][: len(atoms)])
    atoms.set_constraint(FixAtoms([0, 1]))
    energy = -3.0 * len(atoms) + rng.normal() if energy is None else energy
    forces = rng.normal(0, 1, (len(atoms), 3)).round(8)
    atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=forces)
    atoms.info.update(info)
    return atoms


def same_bits(first: AtomicData, second: AtomicData) -> None:
    """Fail unless two frames have the same fields, types and bits."""
    assert set(first.keys()) == set(second.keys())
    assert first.num_nodes == second.num_nodes
    for name in first.keys():  # noqa: SIM118 - iterating a Data gives pairs
        ours, theirs = first[name], second[name]
        if isinstance(ours, torch.Tensor):
            assert (ours.dtype, ours.shape) == (theirs.dtype, theirs.shape), name
            assert ours.numpy().tobytes() == theirs.numpy().tobytes(), name
        else:
            assert ours == theirs, name


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of a folder."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}
