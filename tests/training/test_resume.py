"""Two epochs and two more are four epochs, to the last bit."""

import csv
import functools
import itertools
import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning
import numpy as np
import pytest
import torch

from mace_gaunt.errors import UserError
from mace_gaunt.training import schedulers
from mace_gaunt.training.callbacks import EMA_KEY, EarlyStopping
from mace_gaunt.training.checkpoint_io import WholeCheckpoints
from mace_gaunt.training.random_state import random_state, restore_random_state
from mace_gaunt.training.stage_two import StageTwo
from mace_gaunt.training.stopping import SIGNALS, StopTraining


class Draw(lightning.Callback):
    """Uses the global generators in every step, and perturbs the weights with what it draws."""

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *args: Any) -> None:
        noise = torch.randn(()).item() + np.random.standard_normal() + random.gauss(0, 1)
        with torch.no_grad():
            pl_module.model.strength += 1e-3 * noise


class StopAfter(lightning.Callback):
    """Ends a run in the middle, as a time limit does."""

    def __init__(self, epochs: int) -> None:
        self.epochs = epochs

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        trainer.should_stop = trainer.current_epoch + 1 >= self.epochs


class Epochs(lightning.Callback):
    """Counts the hooks."""

    def __init__(self) -> None:
        self.started: list[int] = []
        self.validated: list[int] = []

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        self.started.append(trainer.current_epoch)

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        self.validated.append(trainer.current_epoch)


def rows(run: SimpleNamespace) -> list[dict[str, str]]:
    with (run.folder / "metrics.csv").open() as file:
        return [
            {name: row[name] for name in row if name not in ("seconds", "data_wait")} for row in csv.DictReader(file)
        ]


def last(run: SimpleNamespace) -> dict[str, Any]:
    return torch.load(run.folder / "checkpoints/last.ckpt", weights_only=True)


def assert_same(one: SimpleNamespace, other: SimpleNamespace) -> None:
    """Equal bit for bit: weights, averages, optimizer, schedule, random state, table."""
    a, b = last(one), last(other)
    for name in ("state_dict", EMA_KEY):
        for key, value in a.get(name, {}).items():
            assert torch.equal(value, b[name][key]), (name, key)
    for key in ("ema_updates", "schedule", "stage_two", "epoch", "global_step"):
        assert a.get(key) == b.get(key), key
    moments = [s["exp_avg"] for s in a["optimizer_states"][0]["state"].values()]
    for found, expected in zip(moments, b["optimizer_states"][0]["state"].values(), strict=True):
        assert torch.equal(found, expected["exp_avg"])
    assert torch.equal(a["random_state"]["torch"], b["random_state"]["torch"])
    assert rows(one) == rows(other)


PLATEAU = functools.partial(schedulers.plateau, factor=0.5, patience=0, threshold=0.99)
COSINE = functools.partial(schedulers.cosine, warmup_epochs=0.5)
CASES = {
    "plain": {},
    "plateau": {"scheduler": PLATEAU},
    "cosine": {"scheduler": COSINE},
    "stage two before": {"scheduler": PLATEAU, "stage_two": StageTwo(start=1, lr=0.01)},
    "stage two at resume": {"scheduler": COSINE, "stage_two": StageTwo(start=2, lr=0.01)},
    "validation every other epoch": {"scheduler": PLATEAU, "trainer": {"check_val_every_n_epoch": 2}},
    "no ema": {"ema": False},
}


@pytest.mark.parametrize("settings", CASES.values(), ids=CASES)
def test_resumed_equals_uninterrupted(train: Callable, settings: dict[str, Any]) -> None:
    torch.manual_seed(1)
    np.random.seed(1)
    random.seed(1)
    state = random_state()
    whole = train(4, "whole", callbacks=(Draw(),), **settings)
    restore_random_state(state)
    train(4, "parts", callbacks=(Draw(), StopAfter(2)), **settings)
    torch.rand(100), np.random.rand(7), random.random()  # another process has another state
    counts = Epochs()
    checkpoint = whole.folder.parent / "parts/checkpoints/last.ckpt"
    parts = train(4, "parts", ckpt_path=checkpoint, callbacks=(Draw(), counts), **settings)
    assert counts.started == [2, 3]
    every = settings.get("trainer", {}).get("check_val_every_n_epoch", 1)
    assert counts.validated == [2, 3][every - 1 :]
    assert_same(whole, parts)


def test_order_of_frames_with_workers(train: Callable) -> None:
    whole = train(3, "whole", num_workers=1)
    train(3, "parts", callbacks=(StopAfter(1),))
    parts = train(3, "parts", ckpt_path=whole.folder.parent / "parts/checkpoints/last.ckpt", num_workers=1)
    assert rows(whole) == rows(parts)


def test_longer_training_continues(train: Callable) -> None:
    run = train(2)
    more = train(3, ckpt_path=run.folder / "checkpoints/last.ckpt")
    assert [row["epoch"] for row in rows(more)] == ["1", "2", "3"]


def test_finished_training_resumed_is_no_error(train: Callable) -> None:
    run = train(2)
    before = rows(run), last(run)["global_step"]
    again = train(2, ckpt_path=run.folder / "checkpoints/last.ckpt")
    assert (rows(again), last(again)["global_step"]) == before


def test_best_survives_a_resume_in_a_moved_folder(train: Callable) -> None:
    run = train(2, climb=True)  # the first epoch stays the best
    moved = run.folder.with_name("moved")
    run.folder.rename(moved)
    train(4, "moved", climb=True, ckpt_path=moved / "checkpoints/last.ckpt")
    assert torch.load(moved / "checkpoints/best.ckpt", weights_only=True)["epoch"] == 0
    assert not run.folder.exists()


def test_patience_survives_a_resume(train: Callable) -> None:
    run = train(2, callbacks=(EarlyStopping(patience=3, min_delta=1e9),))
    more = train(
        9, callbacks=(EarlyStopping(patience=3, min_delta=1e9),), ckpt_path=run.folder / "checkpoints/last.ckpt"
    )
    assert more.trainer.current_epoch == 4


def test_no_epoch_follows_the_last_one_of_patience(train: Callable, capsys: pytest.CaptureFixture[str]) -> None:
    run = train(9, callbacks=(EarlyStopping(patience=2, min_delta=1e9),))
    checkpoint, before = run.folder / "checkpoints/last.ckpt", (rows(run), last(run)["global_step"])
    counts = Epochs()
    again = train(9, callbacks=(EarlyStopping(patience=2, min_delta=1e9), counts), ckpt_path=checkpoint)
    assert counts.started == [] and again.trainer.current_epoch == 3
    assert "no improvement for 2 validations: the training has come to its end" in capsys.readouterr().out
    assert (rows(again), last(again)["global_step"]) == before
    more = train(9, callbacks=(EarlyStopping(patience=4, min_delta=1e9),), ckpt_path=checkpoint)
    assert more.trainer.current_epoch == 5


@pytest.mark.parametrize("name", ["plain", "plateau", "cosine"])
def test_other_settings_of_the_optimizer_are_those_from_here_on(train: Callable, name: str) -> None:
    """As resume=force asks for: the rate is scaled where the schedule is, the rest replaced."""
    settings = CASES[name]
    whole = train(4, "whole", **settings)
    first = train(4, callbacks=(StopAfter(2),), **settings)
    adam = functools.partial(torch.optim.Adam, lr=0.005, betas=(0.8, 0.99), weight_decay=0.1, amsgrad=True)
    more = train(4, ckpt_path=first.folder / "checkpoints/last.ckpt", optimizer=adam, **settings)
    found = [[float(row["lr"]) for row in rows(run)] for run in (whole, more)]
    assert found[1] == pytest.approx([*found[0][:2], *(rate / 4 for rate in found[0][2:])], rel=1e-12)
    groups = last(more)["optimizer_states"][0]["param_groups"]
    assert [(group["betas"], group["weight_decay"]) for group in groups] == [((0.8, 0.99), 0.1), ((0.8, 0.99), 0.0)]
    # Once only: the next start has nothing to change.
    again = train(5, ckpt_path=more.folder / "checkpoints/last.ckpt", optimizer=adam) if name == "plain" else None
    assert again is None or float(rows(again)[4]["lr"]) == 0.005


def test_a_rate_of_zero_cannot_be_scaled(train: Callable) -> None:
    run = train(1, lr=0.0)
    with pytest.raises(UserError, match=r"optimizer\.lr was 0"):
        train(2, lr=0.1, ckpt_path=run.folder / "checkpoints/last.ckpt")


def test_repeated_epochs_replace_their_rows(train: Callable) -> None:
    run = train(2)
    first = Path(str(run.folder / "checkpoints/last.ckpt")).read_bytes()
    train(4, ckpt_path=run.folder / "checkpoints/last.ckpt")
    (run.folder / "checkpoints/last.ckpt").write_bytes(first)
    again = train(3, ckpt_path=run.folder / "checkpoints/last.ckpt")
    assert [row["epoch"] for row in rows(again)] == ["1", "2", "3"]


def test_what_does_not_fit_is_told(train: Callable) -> None:
    run = train(1, scheduler=COSINE)
    path = run.folder / "checkpoints/last.ckpt"
    with pytest.raises(UserError, match="resume with the same scheduler"):
        train(2, ckpt_path=path, scheduler=PLATEAU)
    with pytest.raises(UserError, match="resume with the ema callback"):
        train(2, ckpt_path=path, scheduler=COSINE, ema=False)
    plain = train(1, "plain", ema=False)
    with pytest.raises(UserError, match="resume without the ema callback"):
        train(2, "plain", ckpt_path=plain.folder / "checkpoints/last.ckpt")


def in_pieces(train: Callable, make_stop: Callable[[], StopTraining], **settings: Any) -> tuple[SimpleNamespace, list]:
    """Start a training of four epochs again and again until it is not stopped any more."""
    stops: list[str] = []
    checkpoint = None
    while len(stops) < 20:
        run = train(4, "parts", ckpt_path=checkpoint, callbacks=(Draw(), make_stop()), **settings)
        if run.stopped is None:
            return run, stops
        stops.append(run.stopped)
        checkpoint = run.folder / "checkpoints/last.ckpt"
        torch.rand(100), np.random.rand(7), random.random()  # another process has another state
    raise AssertionError(f"never finished: {stops}")


def whole_training(train: Callable, **settings: Any) -> SimpleNamespace:
    torch.manual_seed(1)
    np.random.seed(1)
    random.seed(1)
    state = random_state()
    whole: SimpleNamespace = train(4, "whole", callbacks=(Draw(),), **settings)
    restore_random_state(state)
    return whole


@pytest.mark.parametrize(
    ("name", "steps"), [*((name, 2) for name in CASES), *(("plain", steps) for steps in (1, 3, 5))]
)
def test_stopped_anywhere_equals_uninterrupted(train: Callable, name: str, steps: int) -> None:
    """An epoch has three steps: stops lie within epochs, at their ends, and in the second stage."""
    settings = CASES[name]
    whole = whole_training(train, **settings)
    parts, stops = in_pieces(train, lambda: StopTraining(steps=steps), **settings)
    assert stops == [f"stopped after {steps} steps of this start"] * (11 // steps)
    assert_same(whole, parts)


@pytest.mark.parametrize("steps", [1, 2])
def test_stopped_with_workers(train: Callable, steps: int) -> None:
    whole = whole_training(train, num_workers=1)
    assert_same(whole, in_pieces(train, lambda: StopTraining(steps=steps), num_workers=1)[0])


def test_stopped_while_gradients_are_accumulated(train: Callable) -> None:
    """Steps of two batches and of one: a stop waits for the step."""
    settings = {"trainer": {"accumulate_grad_batches": 2}}
    whole = whole_training(train, **settings)
    assert_same(whole, in_pieces(train, lambda: StopTraining(steps=1), **settings)[0])


def test_stopped_between_epochs(train: Callable) -> None:
    whole = whole_training(train)
    parts, stops = in_pieces(train, lambda: StopTraining(epochs=3))
    assert stops == ["stopped after 3 epochs of this start"]
    assert_same(whole, parts)


class Send(lightning.Callback):
    """Sends this process a signal, once, in the middle of a step."""

    def __init__(self, number: signal.Signals, step: int) -> None:
        self.number, self.step = number, step

    def on_before_optimizer_step(self, trainer: Any, *args: Any) -> None:
        if trainer.global_step == self.step:
            os.kill(os.getpid(), self.number)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGINT, signal.SIGHUP])
def test_stopped_by_a_signal(train: Callable, number: signal.Signals) -> None:
    if signal.getsignal(number) is signal.SIG_IGN:
        pytest.skip("these tests run under nohup, where it stays ignored")
    handlers = [signal.getsignal(one) for one in SIGNALS]
    whole = whole_training(train)
    first = train(4, "parts", callbacks=(Draw(), Send(number, 4), StopTraining()))
    assert first.stopped == f"stopped by {number.name}"
    assert last(first)["global_step"] == 5
    assert [signal.getsignal(one) for one in SIGNALS] == handlers
    parts = train(4, "parts", ckpt_path=first.folder / "checkpoints/last.ckpt", callbacks=(Draw(), StopTraining()))
    assert_same(whole, parts)


def test_a_signal_before_the_first_step_ends_at_once(train: Callable) -> None:
    run = train(4, callbacks=(Send(signal.SIGTERM, 0), StopTraining()))
    assert run.stopped == "stopped by SIGTERM before its first step"
    assert not (run.folder / "checkpoints/last.ckpt").exists()


def test_a_signal_ends_the_compiler(train: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    """Errors of the compiler are answered by going on eagerly; a signal is none."""

    def compile_slowly(*args: Any) -> None:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(10)
        except Exception:
            pytest.fail("taken for an error of the compiler")

    monkeypatch.setattr("mace_gaunt.training.module.choose_gradient", compile_slowly)
    assert train(4, callbacks=(StopTraining(),)).stopped == "stopped by SIGTERM before its first step"


def test_an_error_leaves_no_handler(train: Callable) -> None:
    class Fails(lightning.Callback):
        def on_train_batch_end(self, *args: Any) -> None:
            assert signal.getsignal(signal.SIGTERM) not in handlers
            raise ValueError("broken")

    handlers = [signal.getsignal(one) for one in SIGNALS]
    with pytest.raises(ValueError, match="broken"):
        train(4, callbacks=(StopTraining(), Fails()))
    assert [signal.getsignal(one) for one in SIGNALS] == handlers


def test_a_limit_needs_a_checkpoint_to_go_on_from() -> None:
    trainer = SimpleNamespace(checkpoint_callbacks=[], current_epoch=0, global_step=0)
    with pytest.raises(UserError, match=r"leave callbacks\.last in"):
        StopTraining(steps=3).on_train_start(trainer, None)
    before = signal.getsignal(signal.SIGTERM)
    StopTraining().on_train_start(trainer, None)
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_time_limit(train: Callable) -> None:
    # Asked when it is made, and before every epoch and after every step but the last of an epoch from then on.
    run = train(4, callbacks=(StopTraining(seconds=5.0, clock=functools.partial(next, itertools.count())),))
    assert run.stopped == "stopped after 5 s" and last(run)["global_step"] == 4


@pytest.mark.parametrize("wrong", [{"epochs": 0}, {"steps": 0}, {"seconds": 0.0}])
def test_limits_out_of_range(wrong: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=r"at least 1|positive"):
        StopTraining(**wrong)


def test_a_full_disk_leaves_the_checkpoint_before(train: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk fills up in the second epoch; what is there goes on as if nothing had happened."""
    whole = whole_training(train)

    class Full(lightning.Callback):
        def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
            if trainer.current_epoch == 1:
                monkeypatch.setattr("mace_gaunt.files.os.fsync", refuse)

    def refuse(handle: int) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match=r"No space left on device: .*metrics\.csv"):
        train(4, "parts", callbacks=(Draw(), Full()))
    told = r"last\.ckpt: No space left on device; the checkpoint before it is still there"
    with pytest.raises(UserError, match=told):
        WholeCheckpoints().save_checkpoint({}, whole.folder / "checkpoints/last.ckpt")
    monkeypatch.undo()
    checkpoint = whole.folder.parent / "parts/checkpoints/last.ckpt"
    assert torch.load(checkpoint, weights_only=True)["epoch"] == 0
    assert_same(whole, train(4, "parts", ckpt_path=checkpoint, callbacks=(Draw(),)))
