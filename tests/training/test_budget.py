"""A budget of time: the plan of epochs, schedules that follow it, the last validation, continuation."""

import functools
from typing import Any

import lightning
import pytest

from mace_gaunt.errors import UserError
from mace_gaunt.training import budget, schedulers
from mace_gaunt.training.budget import TimeBudget
from mace_gaunt.training.stage_two import StageTwo

STEPS = 3  # of an epoch of the fixture


class Clock(lightning.Callback):
    """Seconds that pass: some for compiling in the first step of a process, then some for each step."""

    def __init__(self, compiling: float = 20.0, step: float = 1.0, slow_from: int = 10**6) -> None:
        self.now, self.compiling, self.step, self.slow_from = 1000.0, compiling, step, slow_from
        self.rates: list[float] = []
        self.validated: list[int] = []
        self.stage_two: list[bool] = []

    def __call__(self) -> float:
        return self.now

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        self.first = True

    def on_train_batch_start(self, trainer: Any, pl_module: Any, *args: Any) -> None:
        self.rates.append(trainer.optimizers[0].param_groups[0]["lr"])
        self.stage_two.append(pl_module.stage_two_started)

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *args: Any) -> None:
        slow = 3.0 if trainer.current_epoch >= self.slow_from else 1.0
        self.now += self.step * slow + self.compiling * self.first
        self.first = False

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        self.validated.append(trainer.current_epoch + 1)


class Kill(lightning.Callback):
    """Ends a training before its fifth epoch."""

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        if trainer.current_epoch == 4:
            raise RuntimeError("killed")


@pytest.fixture
def limited(train, monkeypatch, tmp_path):
    """limited(seconds, clock, ...): a training with a budget on a clock of its own."""

    def fit(seconds, clock, epochs=100_000, further=(), resume=False, **settings):
        monkeypatch.setattr(budget, "monotonic", clock)
        limit, last = TimeBudget(seconds), tmp_path / "run" / "checkpoints" / "last.ckpt"
        watched = (clock, limit, *further)
        return train(epochs, callbacks=watched, lr=0.01, ckpt_path=last if resume else None, **settings), limit

    return fit


def test_as_many_epochs_as_fit_after_compiling(limited):
    run, limit = limited(20 + 3 * 10 + 1, clock := Clock())
    assert (run.trainer.current_epoch, limit.plan) == (10, 10)
    assert limit.elapsed() == 20 + 3 * 10 and len(clock.rates) == 30


def test_the_schedule_is_that_of_the_epochs_that_fit(limited, train):
    cosine = functools.partial(schedulers.cosine, warmup_epochs=2.0)
    limited(20 + 3 * 12, clock := Clock(), scheduler=cosine)
    plain = Clock()
    train(12, callbacks=(plain,), lr=0.01, scheduler=cosine, folder="plain")
    # The plan is known after the second epoch, when warming up ends.
    assert clock.rates == pytest.approx(plain.rates)
    assert clock.rates[-1] == pytest.approx(0.01 * 0.01)


def test_a_machine_that_becomes_slower_shortens_the_plan(limited):
    run, limit = limited(20 + 3 * 20, clock := Clock(slow_from=8), scheduler=schedulers.cosine)
    assert 8 < run.trainer.current_epoch < 20
    assert 60 <= limit.elapsed() <= 20 + 3 * 20 + 9
    assert clock.rates[-1] == pytest.approx(0.01 * 0.01, rel=0.5)


def test_the_second_stage_begins_at_its_fraction_and_the_last_epoch_is_validated(limited):
    stage = StageTwo(start=0.75, lr=None)
    _, limit = limited(20 + 3 * 8, clock := Clock(), stage_two=stage, trainer={"check_val_every_n_epoch": 3})
    assert limit.plan == 8
    assert clock.stage_two.index(True) == 6 * STEPS
    assert clock.validated == [3, 6, 8]


def test_a_budget_shorter_than_an_epoch_gives_one_epoch(limited):
    run, limit = limited(5, Clock())
    assert (run.trainer.current_epoch, limit.plan) == (1, 1)


def test_max_epochs_remains_a_bound(limited):
    run, _ = limited(1000, Clock(), epochs=4)
    assert run.trainer.current_epoch == 4


def test_a_continuation_has_what_is_left(limited):
    with pytest.raises(RuntimeError, match="killed"):
        limited(20 + 20 + 3 * 10, Clock(), scheduler=schedulers.cosine, further=(Kill(),))
    run, limit = limited(20 + 20 + 3 * 10, clock := Clock(), scheduler=schedulers.cosine, resume=True)
    # Four epochs and one compilation were paid for before; another compilation, and six epochs, are left.
    assert limit.used == 20 + 3 * 4 and run.trainer.current_epoch == 10
    assert len(clock.rates) == 6 * STEPS and clock.rates[-1] == pytest.approx(0.01 * 0.01)


@pytest.mark.parametrize("seconds", [0, -1.0])
def test_no_budget(seconds):
    with pytest.raises(UserError, match="positive number of seconds"):
        TimeBudget(seconds)


def test_a_stage_at_a_fixed_epoch_is_refused(limited):
    with pytest.raises(UserError, match="fraction below 1"):
        limited(10, Clock(), stage_two=StageTwo(start=5))
