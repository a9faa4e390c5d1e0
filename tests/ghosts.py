"""Structures split into domains with ghosts, as LAMMPS splits them."""

import itertools

import numpy as np
from ase import Atoms


def images_within(atoms: Atoms, own: np.ndarray, reach: float) -> tuple[np.ndarray, np.ndarray]:
    """Index and position of every image (and atom that is not own) within reach of an own atom."""
    spans = [range(-3, 4) if periodic else range(1) for periodic in atoms.pbc]
    indices, positions = [], []
    for step in itertools.product(*spans):
        moved = atoms.positions + np.array(step) @ atoms.cell.array
        for index, position in enumerate(moved):
            if not any(step) and index in own:
                continue
            if (np.linalg.norm(atoms.positions[own] - position, axis=1) < reach).any():
                indices.append(index)
                positions.append(position)
    return np.array(indices, dtype=int), np.array(positions).reshape(-1, 3)


def slices(atoms: Atoms, num: int) -> np.ndarray:
    """The domain of each atom: slices along the first cell vector."""
    scaled = atoms.cell.scaled_positions(atoms.positions)[:, 0] % 1 if atoms.cell.rank == 3 else atoms.positions[:, 0]
    return np.argsort(np.argsort(scaled)) * num // len(atoms)
