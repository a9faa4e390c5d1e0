"""The share of the training time that goes into waiting for batches, on a clock that is set by hand."""

import csv
import functools
from collections.abc import Callable, Iterator
from typing import Any

import lightning
import pytest
import torch
from lightning.pytorch.profilers import SimpleProfiler
from torch_geometric.loader import DataLoader

from mace_gaunt.data.loader import batch_loader
from mace_gaunt.training import progress
from mace_gaunt.training.data_wait import ENOUGH_STEPS, DataWait, Sums, device_mark, remark


class Clock:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def steps(wait: DataWait, clock: Clock, *times: tuple[float, float]) -> None:
    """(waiting, computing) of some steps."""
    for waiting, computing in times:
        wait.ask()
        clock.now += waiting
        wait.arrive()
        clock.now += computing


def test_waiting_over_total_without_the_first_step() -> None:
    clock = Clock()
    wait = DataWait(clock=clock)
    assert wait.sums.share is None
    steps(wait, clock, (50.0, 900.0), (1.0, 3.0), (2.0, 2.0))
    assert wait.sums == Sums(1.0, 4.0, 1)  # the third step has not ended
    wait.end_step()
    clock.now += 1000.0  # a validation
    steps(wait, clock, (0.0, 2.0))
    wait.end_step()
    assert wait.sums == Sums(3.0, 10.0, 3) and wait.sums.share == pytest.approx(0.3)


def test_waiting_begins_with_the_epoch() -> None:
    clock = Clock()
    wait = DataWait(clock=clock)
    steps(wait, clock, (1.0, 1.0))
    wait.ask()
    clock.now += 4.0  # the loader's processes start
    steps(wait, clock, (1.0, 5.0))
    wait.end_step()
    assert wait.sums == Sums(5.0, 10.0, 1)
    wait.end_step()
    wait.arrive()
    assert wait.sums.steps == 1


def test_a_busy_device_waits_for_nothing() -> None:
    clock, work = Clock(), iter([True, False, True])
    wait = DataWait(lambda: functools.partial(next, work), clock)
    steps(wait, clock, (1.0, 1.0), (2.0, 1.0), (3.0, 1.0))
    wait.end_step()
    assert wait.sums == Sums(3.0, 7.0, 2)
    assert device_mark(torch.device("cpu")) is None


def test_what_to_change() -> None:
    slow = Sums(2.0, 10.0, ENOUGH_STEPS)
    assert "20% of the training time" in remark(slow, 0) and "data.num_workers=2 (now 0)" in remark(slow, 0)
    assert "change data.num_workers (now 3): more" in remark(slow, 3)
    assert remark(Sums(2.0, 10.0, ENOUGH_STEPS - 1), 0) is None and remark(Sums(1.0, 10.0, 100), 0) is None


class Passing(lightning.Callback):
    """Lets a second pass with every training step, and a thousand with every validation."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock

    def on_train_batch_end(self, *args: Any) -> None:
        self.clock.now += 1.0

    def on_validation_batch_end(self, *args: Any) -> None:
        self.clock.now += 1000.0


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[Clock]:
    clock = Clock()
    monkeypatch.setattr(progress, "DataWait", functools.partial(DataWait, clock=clock))
    return clock


def slow_loader(make: Callable[..., Any], clock: Clock, seconds: float) -> Callable[..., Any]:
    """Makes loaders whose batches take their time."""

    def build(*arguments: Any) -> Any:
        loader = make(*arguments)

        class Slow(type(loader)):  # type: ignore[misc]
            def __iter__(self) -> Iterator[Any]:
                for batch in super().__iter__():
                    clock.now += seconds
                    yield batch

        loader.__class__ = Slow
        return loader

    return build


def shares(run: Any) -> list[float]:
    with (run.folder / "metrics.csv").open() as file:
        return [float(row["data_wait"]) for row in csv.DictReader(file)]


def test_a_slow_loader_is_told(
    train: Callable, clock: Clock, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(train.__globals__, "batch_loader", slow_loader(batch_loader, clock, 3.0))
    monkeypatch.setitem(train.__globals__, "DataLoader", slow_loader(DataLoader, clock, 100.0))
    profiler = SimpleProfiler()
    run = train(8, callbacks=(Passing(clock),), trainer={"profiler": profiler})
    assert shares(run) == pytest.approx([0.75] * 8)
    out = capsys.readouterr().out
    assert "data wait 75%" in out
    assert out.count("remark: 75% of the training time") == 1 and "data.num_workers=2 (now 0)" in out
    assert run.trainer.profiler is profiler and len(profiler.recorded_durations["run_training_batch"]) == 24


def test_batches_of_other_processes(train: Callable) -> None:
    assert all(0 < share < 1 for share in shares(train(2, num_workers=2)))
