"""A potential small enough to know by heart, called as a MACE is."""

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.optimize import BFGS
from torch import Tensor, nn

from mace_gaunt.simulation.calculator import MaceGauntCalculator
from mace_gaunt.so3.mirror import sum_at_receivers


class ToyPotential(nn.Module):
    """Morse pairs under a smooth envelope, and a term in the density at each atom (so it is not pairwise)."""

    E0s: Tensor

    def __init__(self, r_max: float = 3.0) -> None:
        super().__init__()
        self.r_max = r_max
        self.atomic_numbers = [1, 6, 8]
        self.metadata: dict = {}
        self.heads, self.head = (), None
        self.depth = nn.Parameter(torch.tensor(1.5, dtype=torch.float64))
        self.radii = nn.Parameter(torch.tensor([0.45, 0.7, 0.65], dtype=torch.float64))
        self.register_buffer("E0s", torch.tensor([-13.0, -1029.0, -2042.0], dtype=torch.float64))

    def _apply(self, fn, recurse=True):
        E0s = self.E0s
        super()._apply(fn, recurse)
        self.E0s = E0s.to(self.E0s.device)
        return self

    @property
    def dtype(self) -> torch.dtype:
        return self.depth.dtype

    @property
    def device(self) -> torch.device:
        return self.depth.device

    def forward(self, vectors: Tensor, node_types: Tensor, edge_index: Tensor, mirrored: bool = False) -> Tensor:
        lengths = vectors.norm(dim=1)
        assert bool((lengths < self.r_max).all()), "edges in the skin reached the model"
        away = lengths - self.radii[node_types[edge_index]].sum(0)
        envelope = (1 - (lengths / self.r_max) ** 2) ** 3
        pairs = self.depth * (torch.exp(-6 * away) - 2 * torch.exp(-3 * away)) * envelope / 2
        density = torch.exp(-lengths) * envelope
        energy = sum_at_receivers(pairs, edge_index, len(node_types), mirrored=mirrored)
        density = sum_at_receivers(density, edge_index, len(node_types), mirrored=mirrored)
        return energy - 0.3 * torch.tanh(density**2)


@pytest.fixture
def toy() -> ToyPotential:
    return ToyPotential()


@pytest.fixture
def calculator(toy: ToyPotential) -> MaceGauntCalculator:
    return MaceGauntCalculator(toy, device="cpu")


@pytest.fixture(scope="session")
def relaxed() -> Atoms:
    """A molecule at its minimum in the toy potential."""
    positions = [[0, 0, 0], [1.35, 0, 0], [-0.4, 1.05, 0], [-0.4, -0.5, 0.95], [-0.4, -0.5, -0.95], [1.75, 1.0, 0.1]]
    atoms = Atoms("COH4", positions=np.array(positions, dtype=float))
    atoms.calc = MaceGauntCalculator(ToyPotential(), device="cpu")
    BFGS(atoms, logfile=None).run(fmax=1e-5, steps=500)
    atoms.calc = None
    return atoms


@pytest.fixture
def molecule(relaxed: Atoms) -> Atoms:
    return relaxed.copy()


@pytest.fixture
def crystal() -> Atoms:
    """A small skewed cell: smaller than the cutoff, so an atom meets its own images."""
    cell = [[2.4, 0.1, 0.0], [0.9, 2.6, 0.0], [-0.4, 0.5, 2.9]]
    return Atoms("CO", scaled_positions=[[0.02, 0.03, 0.01], [0.55, 0.43, 0.52]], cell=cell, pbc=True)


@pytest.fixture
def no_plots(monkeypatch):
    """Simulations without md.png, which takes longer to draw than a short one to run."""
    monkeypatch.setattr("mace_gaunt.simulation.md_run.plot_simulation", lambda *arguments: None)
