"""A step whose gradient is no number changes nothing, and says why."""

import functools
import logging
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import lightning
import pytest
import torch

from mace_gaunt.data.collate import collate
from mace_gaunt.errors import UserError
from mace_gaunt.training.bad_steps import diagnose
from mace_gaunt.training.loss import WeightedLoss
from mace_gaunt.training.soap import SOAP


class Spoil(lightning.Callback):
    """Writes infinity into labels of frames as they pass, from an epoch on."""

    def __init__(self, frames: set[int], epoch: int = 0) -> None:
        self.frames, self.epoch = frames, epoch
        self.steps: list[int] = []

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        frames = [index for index, frame in enumerate(batch.frame_index.tolist()) if frame in self.frames]
        if frames and trainer.current_epoch >= self.epoch:
            batch.energy[frames[0]] = torch.inf
            self.steps.append(trainer.global_step)


class Weights(lightning.Callback):
    """Keeps the weights after every step."""

    def __init__(self) -> None:
        self.kept: list[torch.Tensor] = []

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *args: Any) -> None:
        self.kept.append(pl_module.model.strength.detach().clone())


def optimizer_steps(run: SimpleNamespace) -> float:
    state = torch.load(run.folder / "checkpoints/last.ckpt", weights_only=True)["optimizer_states"][0]
    return float(next(iter(state["state"].values()))["step"] if "step" in next(iter(state["state"].values()))
                 else state["param_groups"][0]["step"])  # fmt: skip


@pytest.mark.parametrize("optimizer", [None, functools.partial(SOAP, lr=0.02)], ids=["adam", "soap"])
def test_a_bad_step_changes_nothing(train: Callable, caplog: pytest.LogCaptureFixture, optimizer: Any) -> None:
    spoil, weights = Spoil({5}), Weights()
    with caplog.at_level(logging.WARNING, "mace_gaunt"):
        run = train(3, callbacks=(spoil, weights), **({} if optimizer is None else {"optimizer": optimizer}))
    assert len(spoil.steps) == 3  # once in each epoch of three steps
    told = [record.getMessage() for record in caplog.records if "no number" in record.getMessage()]
    assert len(told) == 3
    assert "energy label of frame 5. The step is left out" in told[0] and "(learning rate 0.02)" in told[0]
    for step in spoil.steps:
        before = weights.kept[step - 1] if step else torch.tensor([0.3, 0.5], dtype=torch.float64)
        assert torch.equal(weights.kept[step], before)
    assert all(kept.isfinite().all() for kept in weights.kept)
    assert optimizer_steps(run) == 6


def test_several_in_a_row_end_it(train: Callable) -> None:
    weights = Weights()
    with pytest.raises(UserError, match=r"in epoch 2 at step 6 .*3rd step in a row.*last\.ckpt is the state after"):
        train(4, callbacks=(Spoil(set(range(12)), epoch=1), weights))
    assert all(torch.equal(kept, weights.kept[2]) for kept in weights.kept[2:])


def test_what_is_said(make_frames: Callable, pair_potential: Callable) -> None:
    batch = collate(make_frames(9))
    look = functools.partial(diagnose, pair_potential(), WeightedLoss())
    assert look([batch]) == "energies, forces and labels are finite, the derivative of the loss is not"
    batch.forces[batch.batch == 2] = torch.inf
    assert look([batch]) == "force label of frame 2"
    batch.energy[:] = torch.inf
    assert look([batch], max_edges=10).startswith("energy label of frames 0, 1, 2, 3, 4 and 4 more, force label")
    model = pair_potential()
    with torch.no_grad():
        model.strength[0] = torch.nan
    broken = collate(make_frames(2))
    assert diagnose(model, WeightedLoss(), [broken]) == "energy of frames 0, 1, forces of frames 0, 1"
