"""How far a model is from being equivariant, on the data that it is evaluated on."""

import copy
from collections.abc import Sequence
from itertools import islice
from typing import Any

import ase
import numpy as np
import torch
from scipy.spatial.transform import Rotation

from mace_gaunt.data.atomic_data import AtomicData
from mace_gaunt.evaluation.metrics import MEV
from mace_gaunt.model.mace import MACE
from mace_gaunt.simulation.batching import MAX_EDGES_PER_BATCH, predict_batches

ENERGY, FORCES = "equivariance_energy_meV", "equivariance_forces_meV_A"


def equivariance_errors(
    model: MACE,
    frames: Sequence[AtomicData],
    count: int,
    *,
    max_edges_per_batch: int = MAX_EDGES_PER_BATCH,
    seed: int = 0,
) -> dict[str, float | None]:
    """Largest change of energies and forces under a random rotation, in half of the frames with a reflection, and a
    random order of the atoms: E(gx) - E(x) and F(gx) - g F(x), in float64, neighbours found anew.

    Args:
        model: The model; where it is of another precision, a float64 copy computes.
        frames: Of a split; the first `count` are used.
        count: How many frames.
        max_edges_per_batch: How much is computed at once.
        seed: Of the operations.

    Returns:
        `ENERGY` (meV) and `FORCES` (meV/Å), None where there are no frames.
    """
    structures = [_structure(frame) for frame in islice(iter(frames), count)]
    if not structures:
        return {ENERGY: None, FORCES: None}
    judge = model if model.dtype == torch.float64 else copy.deepcopy(model).double()
    random = np.random.default_rng(seed)
    operations = [_operation(random, index % 2 == 1) for index in range(len(structures))]
    orders = [random.permutation(len(structure)) for structure in structures]
    turned = [_turned(*given) for given in zip(structures, operations, orders, strict=True)]
    before, after = (_predict(judge, part, max_edges_per_batch) for part in (structures, turned))
    energies, forces = [], []
    for (energy, force), (other_energy, other_force), operation, order in zip(
        before, after, operations, orders, strict=True
    ):
        energies.append(abs(other_energy - energy))
        forces.append(np.abs(other_force - (force @ operation.T)[order]).max())
    return {ENERGY: float(max(energies)) * MEV, FORCES: float(max(forces)) * MEV}


def _structure(frame: AtomicData) -> ase.Atoms:
    numbers, cell, pbc = frame.atomic_numbers.numpy(), frame.cell.numpy().reshape(3, 3), frame.pbc.numpy().ravel()
    return ase.Atoms(numbers, frame.positions.numpy(), cell=cell, pbc=pbc)


def _operation(random: np.random.Generator, reflected: bool) -> np.ndarray:
    """An orthogonal matrix, shape [3, 3]."""
    return Rotation.random(rng=random).as_matrix() * (-1 if reflected else 1)


def _turned(structure: ase.Atoms, operation: np.ndarray, order: np.ndarray) -> ase.Atoms:
    turned = structure[order]
    turned.set_cell(structure.cell.array @ operation.T)
    turned.positions = turned.positions @ operation.T
    return turned


def _predict(model: MACE, structures: list[ase.Atoms], max_edges: int) -> list[tuple[float, np.ndarray]]:
    frames = [AtomicData.from_atoms(atoms, float(model.r_max), model.atomic_numbers) for atoms in structures]
    found: list[tuple[float, np.ndarray]] = []
    for batch, prediction in predict_batches(model, frames, max_edges):
        energies: Any = prediction["energy"].detach().cpu().tolist()
        forces = prediction["forces"].detach().cpu().numpy()
        found += zip(energies, np.split(forces, batch.ptr.cpu().numpy()[1:-1]), strict=True)
    return found
