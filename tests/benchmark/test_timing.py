"""The clock: turns, warm-up and memory; times themselves are not tested."""

import torch

from mace_gaunt.benchmark import timing
from mace_gaunt.benchmark.timing import Timing, measure, peak_memory

CPU = torch.device("cpu")


def test_candidates_take_turns_after_their_warm_up(monkeypatch):
    monkeypatch.setattr(timing, "SHORTEST_SAMPLE", 0.0)
    called = []
    timings = measure({name: lambda name=name: called.append(name) for name in "ab"}, CPU, seconds=1e-9)
    # One call each to warm up, since that has used the time up already; then rounds in any order.
    rounds = [called[i : i + 2] for i in range(0, len(called), 2)]
    assert len(rounds) == 1 + timing.FEWEST_SLOW_ROUNDS
    assert all(sorted(round_) == ["a", "b"] for round_ in rounds)
    assert len({tuple(round_) for round_ in rounds}) == 2
    assert {len(found.samples) for found in timings.values()} == {timing.FEWEST_SLOW_ROUNDS}


def test_a_slow_candidate_leaves_the_others_to_themselves(monkeypatch):
    times = {"slow": 1.0, "fast": 0.011}
    monkeypatch.setattr(timing, "take", lambda call, repeats, device: times[call()] * repeats)
    timings = measure({name: lambda name=name: name for name in times}, CPU, seconds=0.1)
    assert len(timings["slow"].samples) == timing.FEWEST_SLOW_ROUNDS
    assert len(timings["fast"].samples) == 10
    assert (timings["slow"].median, timings["fast"].median) == (1.0, 0.011)


def test_fast_calls_are_repeated_within_a_sample(monkeypatch):
    monkeypatch.setattr(timing, "take", lambda call, repeats, device: 1e-6 * repeats)
    timings = measure({"a": lambda: None}, CPU, seconds=1.0)
    assert len(timings["a"].samples) == timing.MOST_ROUNDS
    assert round(timings["a"].median * 1e6, 6) == 1.0


def test_quartiles():
    assert Timing((1.0, 2.0, 3.0, 4.0, 5.0)).quartiles == (2.0, 4.0)
    assert Timing((1.0,)).quartiles == (1.0, 1.0)


def test_peak_memory_counts_what_is_held_at_once():
    def call():
        big = torch.ones(1000, 1000)
        total = float(big.sum())
        del big
        return torch.full((500, 1000), total)

    call()
    peak = peak_memory(call, CPU)
    assert 4_000_000 <= peak < 4_100_000
