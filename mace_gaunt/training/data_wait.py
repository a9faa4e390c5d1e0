"""How much of the training time goes into waiting for batches, and what to do about it."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

# How Lightning's profilers call the wait for the next training batch, after the name of the loop.
FETCH = ".train_dataloader_next"
# Above this share there is a remark, from so many steps on.
TOO_MUCH = 0.1
ENOUGH_STEPS = 20

Mark = Callable[[], Callable[[], bool]]
"""Sets a mark behind the work that a device has been given; the result tells whether the device has come so far."""


@dataclass(frozen=True)
class Sums:
    """Steps of a training.

    Attributes:
        waited: Time spent waiting for batches (s).
        total: Duration of the steps, waiting included (s).
        steps: Their number.
    """

    waited: float = 0.0
    total: float = 0.0
    steps: int = 0

    @property
    def share(self) -> float | None:
        """Part of the time that was spent waiting; None before the first step."""
        return self.waited / self.total if self.total > 0 else None

    def __add__(self, other: "Sums") -> "Sums":
        return Sums(self.waited + other.waited, self.total + other.total, self.steps + other.steps)

    def __sub__(self, other: "Sums") -> "Sums":
        return Sums(self.waited - other.waited, self.total - other.total, self.steps - other.steps)


class DataWait:
    """Adds up the steps of a training and, within them, the waiting for their batches.

    A step lasts from asking for its batch until the next one is asked for, or until a validation or the end of the
    epoch. The first one is left out: the model is compiled in it. A batch that arrives while the device still computes
    has held nothing up.

    Attributes:
        sums: Of all steps but the first.
    """

    def __init__(self, mark: Mark | None = None, clock: Callable[[], float] = time.perf_counter) -> None:
        """Start with none.

        Args:
            mark: Sets a mark on the device; without, the device has done its work whenever a batch is asked for.
            clock: Gives the time (s).
        """
        self.sums = Sums()
        self._mark, self._clock = mark or (lambda: lambda: True), clock
        self._asked: float | None = None
        self._waited: float | None = None
        self._is_idle: Callable[[], bool] = lambda: True
        self._is_first = True

    def ask(self) -> None:
        """A batch is asked for, and the step before has ended; asked again before it arrives changes nothing."""
        if self._asked is None or self._waited is not None:
            self.end_step()
            self._asked, self._is_idle = self._clock(), self._mark()

    def arrive(self) -> None:
        """The batch is there."""
        if self._asked is not None:
            self._waited = self._clock() - self._asked if self._is_idle() else 0.0

    def end_step(self) -> None:
        """What follows belongs to no step: a validation, or the end of the epoch."""
        if self._asked is not None and self._waited is not None:
            if not self._is_first:
                self.sums += Sums(self._waited, self._clock() - self._asked, 1)
            self._is_first = False
        self._asked = self._waited = None


class FetchWatch:
    """A profiler of Lightning that tells a DataWait when batches are asked for and arrive.

    Args:
        profiler: The trainer's profiler, which is told everything too.
        data_wait: What counts.
    """

    def __init__(self, profiler: Any, data_wait: DataWait) -> None:
        self.profiler, self._data_wait = profiler, data_wait

    def start(self, action_name: str) -> None:
        """An action begins."""
        if action_name.endswith(FETCH):
            self._data_wait.ask()
        self.profiler.start(action_name)

    def stop(self, action_name: str) -> None:
        """An action has ended."""
        self.profiler.stop(action_name)
        if action_name.endswith(FETCH):
            self._data_wait.arrive()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.profiler, name)


def device_mark(device: torch.device) -> Mark | None:
    """What sets marks on a device; None for a CPU, which works while it is called."""
    if device.type != "cuda":
        return None

    def mark() -> Callable[[], bool]:
        event = torch.cuda.Event()
        event.record(torch.cuda.current_stream(device))
        return event.query

    return mark


def remark(sums: Sums, num_workers: int) -> str | None:
    """What to change when too much time is spent waiting, else None.

    Args:
        sums: Of the training so far.
        num_workers: Processes that prepare batches.
    """
    if sums.steps < ENOUGH_STEPS or sums.share is None or sums.share <= TOO_MUCH:
        return None
    advice = (
        f"change data.num_workers (now {num_workers}): more while processors are free, 0 for frames that lie in memory"
        if num_workers
        else "let other processes prepare them with data.num_workers=2 (now 0)"
    )
    return f"remark: {sums.share:.0%} of the training time so far was spent waiting for batches: {advice}"
