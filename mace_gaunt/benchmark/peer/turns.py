"""Sides take turns: in every round each computes for a while, so that what disturbs the machine disturbs all."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mace_gaunt.benchmark.peer.client import Client, WorkerError
from mace_gaunt.benchmark.peer.settings import COMPILED, Settings
from mace_gaunt.benchmark.peer.sides import Side, build_settings, start

TURN_SECONDS = 0.5
LONG_SECONDS = 2.0
"""Calls that take longer do not notice what others left in the caches: all of them count."""
MOST_CALLS, MOST_ROUNDS = 50, 200
MOVED_ALIKE = 1e-3
"""Mean distance (Å) in which simulations of the same flight may differ."""
VALUES_ALIKE = 1e-3
"""Relative difference in which two forms of a program may differ."""

Tell = Callable[[str], None]


@dataclass
class Contestant:
    """A side in the race.

    Attributes:
        side: The side.
        client: Its process; None where it did not start.
        built: What it says that it built; empty where it could not.
        failed: "build" or a quantity -> why the side is out of it.
        first_call: Quantity -> seconds of the first call, which compiles where something is compiled.
        first_value: Quantity -> what it gave: a loss or an energy.
        rounds: Quantity -> seconds per call in each round.
        peaks: Quantity -> the worker's answer to `peak`.
        moved: Mean distance (Å) that the atoms have flown at the end of a turn of molecular dynamics.
    """

    side: Side
    client: Client | None = None
    built: dict[str, Any] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    first_call: dict[str, float] = field(default_factory=dict)
    first_value: dict[str, float] = field(default_factory=dict)
    rounds: dict[str, list[list[float]]] = field(default_factory=dict)
    peaks: dict[str, dict[str, Any]] = field(default_factory=dict)
    moved: float | None = None

    def ask(self, command: str, timeout: float, **arguments: Any) -> dict[str, Any]:
        """Let the process of the side execute a command."""
        assert self.client is not None
        return self.client.ask(command, timeout, **arguments)


@contextmanager
def contestants(
    sides: Iterable[Side],
    settings: Settings,
    problem: Mapping[str, Any],
    products: Mapping[str, Any],
    peer: Path | None,
    cache: Path,
) -> Iterator[list[Contestant]]:
    """Start all sides and build what they compute; end them at last.

    Args:
        sides: The sides.
        settings: The request.
        problem: See `problem.side_settings`.
        products: Family -> its two factories as the config group describes them.
        peer: Python of the peer's environment.
        cache: Folder for compiled code.

    Raises:
        RuntimeError: If two sides see different graphs: they would be compared in vain.
    """
    entrants = [Contestant(side) for side in sides]
    try:
        for entrant in entrants:
            with noted(entrant, "build"):
                entrant.client = start(entrant.side, settings, peer, cache)
                entrant.built = entrant.ask(
                    "build", settings.timeout, **build_settings(entrant.side, problem, products)
                )
        check_same_graphs(entrants)
        yield entrants
    finally:
        for entrant in entrants:
            if entrant.client is not None:
                entrant.client.close()


@contextmanager
def noted(entrant: Contestant, what: str) -> Iterator[None]:
    """Note a failure of a side, and go on without it."""
    try:
        yield
    except WorkerError as error:
        entrant.failed[what] = str(error)


def check_same_graphs(entrants: Iterable[Contestant]) -> None:
    """Stop when sides do not have the same numbers of nodes and edges."""
    sizes = {e.side.name: (e.built["n_nodes"], e.built["n_edges"]) for e in entrants if e.built}
    if len({str(size) for size in sizes.values()}) > 1:
        raise RuntimeError(f"the sides do not see the same graphs (nodes, edges of the batches): {sizes}")


def race(entrants: list[Contestant], what: str, settings: Settings, calls: int | None, tell: Tell) -> None:
    """Time one quantity.

    Args:
        entrants: The sides; what they took is noted in them.
        what: "step", "infer" or "md".
        settings: Rounds and seconds.
        calls: Calls of a turn; by default as many as fill it.
        tell: Told what takes long.

    Raises:
        RuntimeError: If sides do not simulate the same flight.
    """
    counts = {}
    for entrant in entrants:
        if entrant.built:
            tell(f"{entrant.side.name}: first {what}{', compiles' * (entrant.side.variant == COMPILED)}")
            with noted(entrant, what):
                counts[entrant.side] = prepare(entrant, what, settings.timeout, calls)
                check_value(entrant, what, entrants)
    active = [entrant for entrant in entrants if entrant.built and what not in entrant.failed]
    tell(f"{what}: {len(active)} sides in turns")
    began, done = time.monotonic(), 0
    while active and is_wanted(done, time.monotonic() - began, settings, len(active)):
        for entrant in active:
            with noted(entrant, what):
                take_turn(entrant, what, settings.timeout, *counts[entrant.side])
        active = [entrant for entrant in active if what not in entrant.failed]
        done += 1
    if what == "md":
        check_same_flight(active)
    else:
        measure_peaks(active, what, settings.timeout)


def check_value(entrant: Contestant, what: str, entrants: Iterable[Contestant]) -> None:
    """Let a side out whose first value is not that of another form of the same program with the same weights.

    Raises:
        WorkerError: With both values.
    """
    value = entrant.first_value[what]
    for other in entrants:
        same = (other.side.program, other.side.family) == (entrant.side.program, entrant.side.family)
        if other is entrant or not same or what in other.failed or what not in other.first_value:
            continue
        expected = other.first_value[what]
        if not abs(value - expected) <= VALUES_ALIKE * abs(expected):
            raise WorkerError(f"its first {what} gives {value:g}, that of {other.side.name} {expected:g}")


def is_wanted(done: int, elapsed: float, settings: Settings, n_sides: int) -> bool:
    """Whether another round is to be made."""
    return done < settings.rounds or (done < MOST_ROUNDS and elapsed < settings.seconds * n_sides)


def measure_peaks(entrants: Iterable[Contestant], what: str, timeout: float) -> None:
    """Ask for the memory that a quantity takes."""
    for entrant in entrants:
        with noted(entrant, f"peak of {what}"):
            entrant.peaks[what] = entrant.ask("peak", timeout, what=what)


def check_same_flight(entrants: Iterable[Contestant]) -> None:
    """Stop when atoms have flown differently far on different sides."""
    moved = {entrant.side.name: entrant.moved for entrant in entrants if entrant.moved is not None}
    if moved and max(moved.values()) - min(moved.values()) > MOVED_ALIKE:
        raise RuntimeError(f"the sides do not simulate the same flight (mean distance in Å): {moved}")


def prepare(entrant: Contestant, what: str, timeout: float, calls: int | None) -> tuple[int, int]:
    """The first call, and one more for every batch, since compiled code may be made anew for another shape.

    Returns:
        Calls of a turn that count, and before them that do not.
    """
    answer = entrant.ask(what, timeout, count=1)
    entrant.first_call[what], entrant.first_value[what] = answer["seconds"][0], answer["value"]
    again = entrant.ask(what, timeout, count=calls or len(entrant.built["n_edges"]))["seconds"]
    entrant.rounds[what] = []
    count = calls or max(1, min(MOST_CALLS, round(TURN_SECONDS / min(again))))
    return count, int(min(again) < LONG_SECONDS)


def take_turn(entrant: Contestant, what: str, timeout: float, count: int, before: int) -> None:
    """A side's part of a round; a first call on caches that others have filled is not counted."""
    if what == "md":
        answer = entrant.ask(what, timeout, count=count)
        entrant.moved, seconds = answer["moved"], answer["seconds"]
    else:
        seconds = entrant.ask(what, timeout, count=count + before)["seconds"][before:]
    entrant.rounds[what].append(seconds)
