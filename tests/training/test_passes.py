"""A batch in parts, and over processes, has the gradient of the whole."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ase
import ase.io
import numpy as np
import pytest
import torch
from ase.calculators.singlepoint import SinglePointCalculator
from small_models import build, molecule

from mace_gaunt.data.atomic_data import AtomicData
from mace_gaunt.data.collate import collate
from mace_gaunt.data.labels import LabelKeys
from mace_gaunt.errors import UserError
from mace_gaunt.model.gradients import predict
from mace_gaunt.training.loss import WeightedLoss
from mace_gaunt.training.module import PotentialModule, interaction_reference
from mace_gaunt.training.passes import count_whole, partial_loss, split_batch

SCRIPT = Path(__file__).parents[1] / "training_process.py"


def structures(count: int, seed: int = 0) -> list[ase.Atoms]:
    """Molecules of several sizes; every third has no forces."""
    random = np.random.default_rng(seed)
    frames = []
    for i in range(count):
        atoms = molecule(seed + i)[: 4 + i % 5]
        labels = {"energy": -1000.0 * len(atoms) + random.normal()}
        if i % 3:
            labels["forces"] = random.normal(size=(len(atoms), 3))
        atoms.calc = SinglePointCalculator(atoms, **labels)
        frames.append(atoms)
    return frames


def batch_of(count: int) -> Any:
    return collate([AtomicData.from_atoms(a, 4.0, [1, 6, 8], LabelKeys()) for a in structures(count)])


def gradient(model: Any, loss: WeightedLoss, batch: Any, max_edges: int | None) -> torch.Tensor:
    whole = count_whole(loss, batch)
    total = 0.0
    for part in split_batch(batch, max_edges):
        sums = loss.sums(predict(model, part, training=True), part, interaction_reference(model, part))
        total = total + partial_loss(loss, sums, whole)
    parameters = torch.autograd.grad(total, list(model.parameters()))
    return torch.cat([p.reshape(-1) for p in parameters])


@pytest.mark.parametrize("kind", ["mse", "huber"])
def test_parts_add_up_to_the_whole(kind: Any) -> None:
    model, loss, batch = build("gaunt"), WeightedLoss(1.0, 10.0, kind=kind), batch_of(7)
    prediction = predict(model, batch, training=True)
    direct, _ = loss(prediction, batch, interaction_reference(model, batch))
    expected = torch.cat([p.reshape(-1) for p in torch.autograd.grad(direct, list(model.parameters()))])
    for max_edges in (None, 100, 40, 1):
        found = gradient(model, loss, batch, max_edges)
        assert float((found - expected).abs().max()) < 1e-12 * float(expected.abs().max())


def test_parts_are_bounded_and_complete() -> None:
    batch = batch_of(7)
    parts = split_batch(batch, 60)
    assert len(parts) > 2 and all(part.num_edges <= 60 or part.num_graphs == 1 for part in parts)
    torch.testing.assert_close(torch.cat([part.positions for part in parts]), batch.positions)
    assert split_batch(batch, 10_000)[0] is batch
    assert [part.num_graphs for part in split_batch(batch, 1)] == [1] * 7


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_training_in_parts_gives_the_same_weights(train: Callable, accumulate: int) -> None:
    settings = {"trainer": {"accumulate_grad_batches": accumulate}}
    whole = train(3, folder="whole", **settings)
    parts = train(3, folder="parts", max_edges_per_pass=20, **settings)
    for found, expected in zip(parts.module.parameters(), whole.module.parameters(), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-14)
    rows = [(run.folder / "metrics.csv").read_text().splitlines()[-1].split(",") for run in (whole, parts)]
    assert [float(v) for v in rows[0][4:]] == pytest.approx([float(v) for v in rows[1][4:]], rel=1e-11)


def test_a_bound_below_one_is_refused() -> None:
    with pytest.raises(UserError, match="max_edges_per_pass is at least 1, not 0"):
        PotentialModule(build("gaunt"), WeightedLoss(), torch.optim.Adam, max_edges_per_pass=0)


def run_processes(
    folder: Path, world: int, batch_size: int, port: int, stop_after_steps: int | None = None
) -> list[dict[str, Any]]:
    """The training on `world` processes, as torchrun starts them; nothing where it was stopped."""
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(world), "OMP_NUM_THREADS": "1"}
    shared |= {"TORCHELASTIC_RUN_ID": "test", "LOCAL_WORLD_SIZE": str(world), "GROUP_RANK": "0"}
    command = [sys.executable, str(SCRIPT), str(folder), str(batch_size)]
    command += [] if stop_after_steps is None else [str(stop_after_steps)]
    processes = [
        subprocess.Popen(
            command,
            env=os.environ | shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        for rank in range(world)
    ]
    for process in processes:
        output, _ = process.communicate(timeout=120)
        assert process.returncode == 0, output.decode()
    results = [folder / f"of_{world}_rank_{rank}.pt" for rank in range(world)]
    return [torch.load(result, weights_only=True) for result in results if result.is_file()]


@pytest.mark.parametrize(("n_train", "n_valid"), [(9, 1), pytest.param(11, 3, marks=pytest.mark.slow)])
def test_two_processes_equal_one_with_the_union_of_their_batches(
    tmp_path: Path, free_port: Callable[[], int], n_train: int, n_valid: int
) -> None:
    """Nine frames leave one process without a batch in the last step; of one validation batch one has none at all."""
    ase.io.write(tmp_path / "train.xyz", structures(n_train))
    ase.io.write(tmp_path / "valid.xyz", structures(n_valid, seed=50))
    (alone,) = run_processes(tmp_path, 1, 4, free_port())
    both = run_processes(tmp_path, 2, 2, free_port())
    assert alone["steps"] == both[0]["steps"] == 9
    for result in both:
        for name, expected in alone["weights"].items():
            torch.testing.assert_close(result["weights"][name], expected, rtol=1e-9, atol=1e-11)
        assert result["metrics"].keys() == alone["metrics"].keys()
        for name, value in alone["metrics"].items():
            assert result["metrics"][name] == pytest.approx(value, rel=1e-9), name


@pytest.mark.slow
def test_two_processes_stop_together_and_go_on(tmp_path: Path, free_port: Callable[[], int]) -> None:
    """Nine steps, three in an epoch, in starts of four: the same bits on both processes."""
    for name in ("whole", "parts"):
        (tmp_path / name).mkdir()
        ase.io.write(tmp_path / name / "train.xyz", structures(9))
        ase.io.write(tmp_path / name / "valid.xyz", structures(3, seed=50))
    whole = run_processes(tmp_path / "whole", 2, 2, free_port())
    starts = [run_processes(tmp_path / "parts", 2, 2, free_port(), stop_after_steps=4) for _ in range(3)]
    assert [len(results) for results in starts] == [0, 0, 2]
    for one, other in zip(whole, starts[-1], strict=True):
        assert one["steps"] == other["steps"] == 9
        assert all(torch.equal(weight, other["weights"][name]) for name, weight in one["weights"].items())
        assert one["metrics"] == other["metrics"]
