"""Optimizer groups, the second stage in a training, divergence, and what must not change outside."""

import functools
import logging
from collections.abc import Callable
from typing import Any

import lightning
import pytest
import torch

from mace_gaunt.errors import UserError
from mace_gaunt.training import compilation, schedulers
from mace_gaunt.training.callbacks import EarlyStopping
from mace_gaunt.training.groups import parameter_groups
from mace_gaunt.training.loss import WeightedLoss
from mace_gaunt.training.module import PotentialModule
from mace_gaunt.training.stage_two import StageTwo


class Recorder(lightning.Callback):
    """Learning rate and loss weights of every optimizer step."""

    def __init__(self) -> None:
        self.rates: list[float] = []
        self.weights: list[float] = []
        self.epochs: list[int] = []

    def on_train_batch_start(self, trainer: Any, pl_module: Any, *args: Any) -> None:
        self.rates.append(trainer.optimizers[0].param_groups[0]["lr"])
        self.weights.append(pl_module.loss.weights["energy"])
        self.epochs.append(trainer.current_epoch)


def test_weight_decay_only_where_the_model_says(pair_potential: Callable) -> None:
    model = pair_potential()
    optimizer = torch.optim.Adam(parameter_groups(model), lr=0.1, weight_decay=0.5, amsgrad=False)
    decays = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert decays == {id(model.strength): 0.5, id(model.decay): 0.0}


def test_training_reduces_the_loss(train: Callable) -> None:
    run = train(60, lr=0.05)
    rows = (run.folder / "metrics.csv").read_text().splitlines()
    column = rows[0].split(",").index("valid/loss")
    assert float(rows[-1].split(",")[column]) < 0.05 * float(rows[1].split(",")[column])


def test_global_state_is_left_alone(train: Callable) -> None:
    dtype, deterministic = torch.get_default_dtype(), torch.are_deterministic_algorithms_enabled()
    train(1)
    assert torch.get_default_dtype() == dtype
    assert torch.are_deterministic_algorithms_enabled() == deterministic
    assert torch.is_grad_enabled()


def test_stage_two_switches_weights_rate_and_best(train: Callable, capsys: pytest.CaptureFixture[str]) -> None:
    recorder = Recorder()
    stage = StageTwo(start=0.5, energy_weight=5000.0, forces_weight=None, lr=1e-3)
    scheduler = functools.partial(schedulers.constant, warmup_epochs=0.0)
    run = train(6, callbacks=(recorder,), scheduler=scheduler, stage_two=stage)
    assert recorder.rates == [0.02] * 9 + [1e-3] * 9
    assert recorder.weights == [1.0] * 9 + [5000.0] * 9
    assert run.module.loss.weights["forces"] == 100.0
    # the loss has grown with its weights: without forgetting, best.ckpt would be of the first stage
    best = torch.load(run.folder / "checkpoints/best.ckpt", weights_only=True)
    assert best["epoch"] >= 3
    assert best["stage_two"]["started"]
    assert "stage two from epoch 4" in capsys.readouterr().out


def test_plateau_in_a_training_with_stage_two(train: Callable) -> None:
    recorder = Recorder()
    # a threshold that nothing reaches: every validation after the first counts as bad
    scheduler = functools.partial(schedulers.plateau, factor=0.5, patience=0, threshold=0.99)
    train(6, callbacks=(recorder,), scheduler=scheduler, stage_two=StageTwo(start=3, lr=0.01))
    assert recorder.rates[::3] == [0.02, 0.02, 0.01, 0.01, 0.01, 0.005]


def test_early_stopping_starts_stage_two_then_stops(train: Callable) -> None:
    recorder = Recorder()
    stopping = EarlyStopping(patience=2, min_delta=1e9)
    train(20, callbacks=(recorder, stopping), stage_two=StageTwo(start=0.9, energy_weight=7.0))
    weights = recorder.weights[::3]
    # one validation to compare with and two without improvement, in each stage
    assert weights == [1.0] * 3 + [7.0] * 3


def test_stage_two_beyond_the_end_is_told_at_the_start(train: Callable) -> None:
    with pytest.raises(UserError, match="only 2 epochs"):
        train(2, stage_two=StageTwo(start=2))


def test_a_loss_that_is_no_number_stops(train: Callable) -> None:
    with pytest.raises(UserError, match=r"loss is (nan|inf).* in epoch 1 .*learning rate 1e\+300"):
        train(3, lr=1e300, trainer={"gradient_clip_val": None})


def test_accumulated_batches_are_one_step(train: Callable) -> None:
    recorder = Recorder()
    scheduler = functools.partial(schedulers.exponential, gamma=0.5)
    run = train(2, callbacks=(recorder,), scheduler=scheduler, trainer={"accumulate_grad_batches": 2})
    assert run.trainer.global_step == 4
    assert run.module.steps_per_epoch == 2
    factors = [rate / 0.02 for rate in recorder.rates]
    assert factors == pytest.approx([1, 1, 0.5**0.5, 0.5, 0.5, 0.5**1.5])


def test_max_steps_plans_the_schedule(train: Callable) -> None:
    run = train(-1, trainer={"max_steps": 5})
    assert (run.module.total_steps, run.module.total_epochs) == (5, 2)


def test_compile_choice() -> None:
    assert [compilation.check_choice(choice) for choice in (True, False, "auto")] == ["on", "off", "auto"]
    with pytest.raises(UserError, match=r"compile='atuo' does not exist. Did you mean 'auto'"):
        compilation.check_choice("atuo")


def test_a_short_training_is_not_compiled(train: Callable, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        train(1, compile="auto")
    assert "3 steps are planned" in caplog.text


def test_a_wrong_compiled_gradient_is_noticed(make_frames: Callable, pair_potential: Callable) -> None:
    from mace_gaunt.model.gradients import edge_gradient

    model, frame = pair_potential(), make_frames(1)[0]

    def wrong(vectors: Any, node_types: Any, pair_index: Any, training: bool) -> Any:
        energy, gradient = edge_gradient(model, vectors, node_types, pair_index, training)
        return energy, gradient.detach()  # loss exact, parameter gradients wrong

    def right(vectors: Any, node_types: Any, pair_index: Any, training: bool) -> Any:
        return edge_gradient(model, vectors, node_types, pair_index, training)

    loss = WeightedLoss()
    compilation.check(compilation.compare(model, loss, frame, right), torch.float64)
    errors = compilation.compare(model, loss, frame, wrong)
    assert errors["energy"] == errors["forces"] == 0
    with pytest.raises(UserError, match=r"differs from the eager one on the first batch .*(strength|decay)"):
        compilation.check(errors, torch.float64)


def test_module_keeps_no_second_copy_of_the_model(pair_potential: Callable) -> None:
    module = PotentialModule(pair_potential(), WeightedLoss(), torch.optim.Adam)
    assert set(module.state_dict()) == {"model.strength", "model.decay"}
