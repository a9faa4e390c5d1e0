"""Where the step of each side spends its time, beside what the machine can do."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from mace_gaunt.benchmark.peer.results import Sized, size_of
from mace_gaunt.benchmark.peer.settings import EAGER
from mace_gaunt.benchmark.peer.turns import Contestant, noted

REPEATS = 3


@dataclass(frozen=True)
class Share(Sized):
    """One part of the step of one side; or, as side "machine", the measured limits.

    Attributes:
        side: Name of the side.
        part: edge product, node product, radial MLP, Linear, rest; each with its backward passes.
        ms: Time under the profiler, whose own cost weighs on small operations.
        share: Of the step.
        GFLOP: Of matrix products.
        GB: Operands read and written, operation by operation.
        GFLOP_per_s: Over the time.
        GB_per_s: Over the time; above the machine's rate where operands lie in caches.
    """

    side: str
    part: str
    ms: float | None
    share: float | None
    GFLOP: float | None
    GB: float | None
    GFLOP_per_s: float
    GB_per_s: float


def break_down(entrants: Iterable[Contestant], timeout: float, problem: Mapping[str, Any]) -> list[Share]:
    """Profile the step of every eager side that makes one.

    Args:
        entrants: The sides.
        timeout: Longest time of an answer (s).
        problem: See `problem.side_settings`; the machine's limits are measured in its precision.
    """
    shares: list[Share] = []
    for entrant in entrants:
        if entrant.side.variant != EAGER or "step" not in entrant.rounds or "step" in entrant.failed:
            continue
        with noted(entrant, "profile"):
            if not shares:
                shares.append(machine_share(entrant, timeout, problem))
            shares += side_shares(entrant, timeout, problem)
    return shares


def machine_share(entrant: Contestant, timeout: float, problem: Mapping[str, Any]) -> Share:
    """The limits, measured in the process of a side, on its threads."""
    rates = entrant.ask("rates", timeout, dtype=problem["dtype"])
    return Share(
        **size_of(problem),
        side="machine",
        part="matmul, copy",
        ms=None,
        share=None,
        GFLOP=None,
        GB=None,
        GFLOP_per_s=rates["flops_per_s"] / 1e9,
        GB_per_s=rates["bytes_per_s"] / 1e9,
    )


def side_shares(entrant: Contestant, timeout: float, problem: Mapping[str, Any]) -> list[Share]:
    """The parts of a side's step."""
    answer = entrant.ask("profile", timeout, repeats=REPEATS)
    return [
        Share(
            **size_of(problem),
            side=entrant.side.name,
            part=part,
            ms=found["seconds"] * 1e3,
            share=found["seconds"] / answer["seconds"],
            GFLOP=found["flops"] / 1e9,
            GB=found["bytes"] / 1e9,
            GFLOP_per_s=found["flops"] / 1e9 / max(found["seconds"], 1e-9),
            GB_per_s=found["bytes"] / 1e9 / max(found["seconds"], 1e-9),
        )
        for part, found in answer["parts"].items()
    ]
