"""The eight Tetris pieces of four unit cubes as molecules: two of them are mirror images of each other."""

from typing import Any

import ase
import numpy as np
import torch
from scipy.spatial.transform import Rotation
from torch import Tensor

from mace_gaunt.data.atomic_data import AtomicData
from mace_gaunt.data.collate import collate
from mace_gaunt.errors import UserError

# Piece -> centres of its cubes. Source: the Tetris example of e3nn.
PIECES: dict[str, list[tuple[int, int, int]]] = {
    "chiral_1": [(0, 0, 0), (0, 0, 1), (1, 0, 0), (1, 1, 0)],
    "chiral_2": [(1, 1, 1), (1, 1, 2), (2, 1, 1), (2, 0, 1)],
    "square": [(0, 0, 0), (1, 0, 0), (0, 1, 0), (1, 1, 0)],
    "line": [(0, 0, 0), (0, 0, 1), (0, 0, 2), (0, 0, 3)],
    "corner": [(0, 0, 0), (0, 0, 1), (0, 1, 0), (1, 0, 0)],
    "L": [(0, 0, 0), (0, 0, 1), (0, 0, 2), (0, 1, 0)],
    "T": [(0, 0, 0), (0, 0, 1), (0, 0, 2), (0, 1, 1)],
    "zigzag": [(0, 0, 0), (1, 0, 0), (1, 1, 0), (2, 1, 0)],
}
NAMES = tuple(PIECES)
NUM_CHIRAL = 2
"""The pieces that come first are the two mirror images; all others are their own mirror images."""


class TetrisPieces:
    """The pieces, one atom per cube, and the rotations in which a trained model is tried.

    Args:
        r_max: Cutoff radius (Å); cubes that touch are 1 Å apart.
        num_rotations: Random rotations of every piece.
        seed: Of the rotations.

    Raises:
        UserError: If the cutoff leaves no neighbours, or there is no rotation.
    """

    def __init__(self, r_max: float, num_rotations: int = 20, seed: int = 0) -> None:
        if not r_max > 1:
            raise UserError(f"r_max={r_max}: the cubes of a piece are 1 Å apart, so that it must be above 1.")
        if num_rotations < 1:
            raise UserError(f"num_rotations is at least 1, found {num_rotations}.")
        # Any element will do: there is only one.
        atoms = [ase.Atoms(numbers=[1] * len(cubes), positions=cubes) for cubes in PIECES.values()]
        self.batch: Any = collate([AtomicData.from_atoms(piece, r_max, [1]) for piece in atoms])
        self.rotations = torch.from_numpy(Rotation.random(num_rotations, np.random.default_rng(seed)).as_matrix())

    @property
    def avg_num_neighbors(self) -> float:
        """Mean number of neighbours of a cube."""
        return float(self.batch.edge_index.shape[1] / self.batch.num_nodes)

    def transformed(self, matrix: Tensor) -> Any:
        """The batch of all pieces, turned or mirrored by an orthogonal matrix [3, 3]."""
        batch = self.batch.clone()
        batch.positions = batch.positions @ matrix.to(batch.positions).T
        return batch
