"""A potential that can be computed by hand, and labelled frames."""

import numpy as np
import pytest
import torch
from ase import Atoms
from torch import Tensor, nn

from mace_gaunt.data.atomic_data import AtomicData
from mace_gaunt.so3.mirror import sum_at_receivers


class Springs(nn.Module):
    """Every pair within r_max costs its length squared."""

    def __init__(self) -> None:
        super().__init__()
        self.r_max, self.atomic_numbers = 3.0, [1, 8]
        self.stiffness = nn.Parameter(torch.tensor(0.5, dtype=torch.float64))
        self.register_buffer("E0s", torch.tensor([-13.0, -2042.0], dtype=torch.float64))

    @property
    def dtype(self) -> torch.dtype:
        return self.stiffness.dtype

    @property
    def device(self) -> torch.device:
        return self.stiffness.device

    def forward(self, vectors: Tensor, node_types: Tensor, edge_index: Tensor, mirrored: bool = False) -> Tensor:
        energies = 0.5 * self.stiffness * vectors.square().sum(1)
        return sum_at_receivers(energies, edge_index, len(node_types), mirrored=mirrored)


def labelled(model: Springs, atoms: Atoms, energy_error: float | None, force_error: float | None) -> AtomicData:
    """A frame whose labels the model misses by these errors; None leaves the label out."""
    frame = AtomicData.from_atoms(atoms, model.r_max, model.atomic_numbers)
    vectors = atoms.positions[:, None] - atoms.positions[None]
    k = model.stiffness.item()
    if energy_error is not None:
        E0 = sum({1: -13.0, 8: -2042.0}[number] for number in atoms.numbers)
        frame.energy[:] = E0 + 0.5 * k * np.square(vectors).sum() - energy_error
    if force_error is not None:
        frame.forces[:] = torch.from_numpy(-2 * k * vectors.sum(1)) - force_error
    return frame


@pytest.fixture
def springs() -> Springs:
    return Springs()


@pytest.fixture
def frames(springs: Springs) -> list[AtomicData]:
    """Sizes 2, 3 and 1; energy errors 10, -20 and 40 meV; force errors 5 and -5 meV/Å, and one frame without forces."""
    pair = Atoms("OH", positions=[[0, 0, 0], [0, 0, 1.0]])
    water = Atoms("OH2", positions=[[0, 0, 0], [0, 0.9, 0.3], [0.8, -0.2, 0.1]])
    return [
        labelled(springs, pair, 0.010, 0.005),
        labelled(springs, water, -0.020, -0.005),
        labelled(springs, Atoms("H"), 0.040, None),
    ]
