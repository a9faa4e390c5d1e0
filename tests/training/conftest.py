"""A potential of two parameters, frames with labels, and a training of a second."""

import functools
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning
import numpy as np
import pytest
import torch
from ase import Atoms
from torch import Tensor, nn
from torch_geometric.loader import DataLoader

from mace_gaunt.data.atomic_data import AtomicData
from mace_gaunt.data.loader import batch_loader
from mace_gaunt.data.sampler import EpochBatchSampler
from mace_gaunt.so3.mirror import mirror_index, mirror_vectors
from mace_gaunt.training.callbacks import EMA, BestCheckpoint, LastCheckpoint, MetricsCSV
from mace_gaunt.training.checkpoint_io import WholeCheckpoints
from mace_gaunt.training.loss import WeightedLoss
from mace_gaunt.training.module import PotentialModule
from mace_gaunt.training.progress import ProgressReport
from mace_gaunt.training.stopping import TrainingStopped

R_MAX = 3.0


class PairPotential(nn.Module):
    """E_i = sum over neighbours of a_i exp(-b r) (r - r_max)^2: called like a MACE."""

    def __init__(self) -> None:
        super().__init__()
        self.strength = nn.Parameter(torch.tensor([0.3, 0.5], dtype=torch.float64))
        self.decay = nn.Parameter(torch.tensor([1.0], dtype=torch.float64))
        self.register_buffer("E0s", torch.tensor([-13.0, -1000.0], dtype=torch.float64), persistent=False)

    @property
    def dtype(self) -> torch.dtype:
        return self.strength.dtype

    def forward(self, vectors: Tensor, node_types: Tensor, edge_index: Tensor, mirrored: bool = False) -> Tensor:
        if mirrored:
            vectors, edge_index = mirror_vectors(vectors), mirror_index(edge_index)
        lengths = torch.linalg.vector_norm(vectors, dim=-1)
        receiver = edge_index[1]
        pair = self.strength[node_types[receiver]] * torch.exp(-self.decay * lengths) * (lengths - R_MAX).square()
        return torch.zeros_like(node_types, dtype=vectors.dtype).index_add(0, receiver, pair)

    def decay_parameters(self) -> Iterator[nn.Parameter]:
        yield self.strength

    def no_decay_parameters(self) -> Iterator[nn.Parameter]:
        yield self.decay


def label(frame: AtomicData, generator: np.random.Generator) -> AtomicData:
    """Energies and forces that a PairPotential nearly fits."""
    from mace_gaunt.model.gradients import predict

    truth = PairPotential()
    with torch.no_grad():
        truth.strength.copy_(torch.tensor([1.2, 0.8]))
        truth.decay.copy_(torch.tensor([0.7]))
    values = predict(truth, frame)
    noise = torch.from_numpy(generator.normal(size=values["forces"].shape, scale=0.05))
    frame.energy, frame.forces = values["energy"], values["forces"] + noise
    return frame


@pytest.fixture(scope="session")
def make_frames() -> Callable[..., list[AtomicData]]:
    """frames(n, seed): hydrogen and carbon in sizes that differ."""

    def make(count: int, seed: int = 0) -> list[AtomicData]:
        generator = np.random.default_rng(seed)
        frames = []
        for index in range(count):
            n_atoms = 3 + index % 3
            numbers = [6] + [1] * (n_atoms - 1)
            atoms = Atoms(numbers, positions=generator.uniform(-1.5, 1.5, (n_atoms, 3)))
            frames.append(label(AtomicData.from_atoms(atoms, R_MAX, [1, 6], frame_index=index), generator))
        return frames

    return make


class Frames(lightning.LightningDataModule):
    """12 frames for training in batches of 4, and 5 for validation."""

    def __init__(self, train: list[AtomicData], valid: list[AtomicData], num_workers: int = 0) -> None:
        super().__init__()
        self.frames, self.valid, self.num_workers = train, valid, num_workers

    def train_dataloader(self) -> DataLoader:
        sampler = EpochBatchSampler([frame.pair_index.shape[1] for frame in self.frames], 4)
        # A resumed run makes its iterator before Lightning tells the epoch; with workers that is too late.
        sampler.set_epoch(self.trainer.fit_loop.epoch_progress.current.processed)
        return batch_loader(self.frames, sampler, self.num_workers)

    def val_dataloader(self) -> DataLoader:
        return DataLoader(self.valid, 2)


@pytest.fixture
def pair_potential() -> Callable[[], PairPotential]:
    return PairPotential


@pytest.fixture
def train(tmp_path: Path, make_frames: Callable[..., list[AtomicData]]) -> Callable[..., SimpleNamespace]:
    """train(epochs, folder="run", ...): fit a PairPotential, as cli/train.py fits a MACE."""

    def fit(
        epochs: int,
        folder: str = "run",
        ckpt_path: Path | None = None,
        callbacks: tuple[Any, ...] = (),
        ema: bool = True,
        num_workers: int = 0,
        lr: float = 0.02,
        climb: bool = False,
        trainer: dict[str, Any] | None = None,
        **module: Any,
    ) -> SimpleNamespace:
        optimizer = functools.partial(torch.optim.Adam, lr=lr, weight_decay=1e-4, amsgrad=True, maximize=climb)
        potential = PotentialModule(PairPotential(), **{"loss": WeightedLoss(), "optimizer": optimizer} | module)
        standard = [EMA(0.9)] * ema + [MetricsCSV(), ProgressReport(), BestCheckpoint(), LastCheckpoint()]
        loop = lightning.Trainer(
            default_root_dir=tmp_path / folder,
            max_epochs=epochs,
            callbacks=[*callbacks, *standard],
            accelerator="cpu",
            inference_mode=False,
            num_sanity_val_steps=0,
            enable_model_summary=False,
            **{"logger": False, "gradient_clip_val": 10.0} | (trainer or {}),
            use_distributed_sampler=False,
            plugins=[WholeCheckpoints()],
        )
        data = Frames(make_frames(12, 0), make_frames(5, 1), num_workers)
        try:
            loop.fit(potential, datamodule=data, ckpt_path=ckpt_path, weights_only=True)
        except TrainingStopped as stop:
            return SimpleNamespace(stopped=str(stop), folder=tmp_path / folder)
        return SimpleNamespace(stopped=None, trainer=loop, module=potential, folder=tmp_path / folder)

    return fit


@pytest.fixture(scope="session")
def free_port() -> Callable[[], int]:
    """A port of this machine that nobody listens on."""

    def find() -> int:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            return int(probe.getsockname()[1])

    return find
