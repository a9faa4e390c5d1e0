"""The clock: candidates of one cell take turns, warm-up is not counted, devices are waited for."""

import os
import random
import statistics
import sys
import time
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch.profiler import ProfilerActivity, profile

Call = Callable[[], object]
Name = TypeVar("Name", bound=Hashable)

SHORTEST_SAMPLE = 5e-4
"""A sample lasts at least this long (s): fast calls are repeated within one."""
FEWEST_ROUNDS, MOST_ROUNDS = 9, 200
FEWEST_SLOW_ROUNDS = 5
WARM_UP_CALLS = 3


@dataclass(frozen=True)
class Timing:
    """Times of one candidate.

    Attributes:
        samples: Seconds per call, one per round.
    """

    samples: tuple[float, ...]

    @property
    def median(self) -> float:
        """Median (s)."""
        return statistics.median(self.samples)

    @property
    def quartiles(self) -> tuple[float, float]:
        """First and third quartile (s)."""
        if len(self.samples) < 2:
            return self.samples[0], self.samples[0]
        first, _, third = statistics.quantiles(self.samples, n=4, method="inclusive")
        return first, third


def measure(candidates: Mapping[Name, Call], device: torch.device, seconds: float) -> dict[Name, Timing]:
    """Time candidates in turns, so that whatever disturbs the machine disturbs all of them alike.

    Args:
        candidates: Name -> what to call.
        device: Where they compute; waited for before and after each sample.
        seconds: Measuring time for each candidate: one that has used it up, and has had `FEWEST_ROUNDS`, leaves the
            others to themselves; one that has used ten times as much, after `FEWEST_SLOW_ROUNDS`.

    Returns:
        Name -> times, in the order of the candidates.
    """
    repeats = {name: warm_up(call, device, seconds) for name, call in candidates.items()}
    samples: dict[Name, list[float]] = {name: [] for name in candidates}
    going, order = list(candidates), random.Random(0)
    while going:
        # In another order each time: what one leaves in the caches is not always the same other's burden.
        for name in order.sample(going, len(going)):
            samples[name].append(take(candidates[name], repeats[name], device))
        going = [name for name in going if not is_enough(samples[name], seconds)]
    return {name: Timing(tuple(sample / repeats[name] for sample in taken)) for name, taken in samples.items()}


def is_enough(samples: list[float], seconds: float) -> bool:
    """Whether a candidate has been measured long and often enough."""
    spent, rounds = sum(samples), len(samples)
    used_up = spent >= seconds and rounds >= FEWEST_ROUNDS
    return used_up or rounds >= MOST_ROUNDS or (spent >= 10 * seconds and rounds >= FEWEST_SLOW_ROUNDS)


def warm_up(call: Call, device: torch.device, seconds: float) -> int:
    """Call a few times, a slow one once or twice, and find out how many calls fill a sample."""
    taken: list[float] = []
    while len(taken) < WARM_UP_CALLS and sum(taken) < 2 * seconds:
        taken.append(take(call, 1, device))
    return max(1, round(SHORTEST_SAMPLE / max(min(taken), 1e-7)))


def take(call: Call, repeats: int, device: torch.device) -> float:
    """Seconds of some calls, one after the other."""
    wait_for(device)
    start = time.perf_counter()
    for _ in range(repeats):
        call()
    wait_for(device)
    return time.perf_counter() - start


def wait_for(device: torch.device) -> None:
    """Wait until a device has done its work; a CPU always has."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def peak_memory(call: Call, device: torch.device) -> int:
    """Most memory that one call holds beyond what it found, in bytes.

    On a CPU the running sum of the allocations and releases that torch's profiler sees: tensors, without what libraries
    such as MKL take for themselves. On a GPU `max_memory_allocated`.

    Args:
        call: What to call; call it once before, so that nothing is made for the first time.
        device: Where it computes.
    """
    if device.type == "cuda":
        wait_for(device)
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        call()
        wait_for(device)
        return torch.cuda.max_memory_allocated(device) - before
    with silent_stderr(), profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        call()
    assert recorded.profiler is not None and recorded.profiler.kineto_results is not None
    events = [event for event in recorded.profiler.kineto_results.events() if event.name() == "[memory]"]
    held = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    return peak


@contextmanager
def silent_stderr() -> Iterator[None]:
    """Drop what is written to the process's standard error: the profiler announces its start and stop there."""
    sys.stderr.flush()
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
