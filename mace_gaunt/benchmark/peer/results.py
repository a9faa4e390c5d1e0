"""Tables of a comparison: what each side took, and how many times faster ours are than the peer's."""

import csv
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from mace_gaunt.benchmark.peer.sides import OURS, PEER, Side
from mace_gaunt.benchmark.peer.turns import Contestant
from mace_gaunt.benchmark.results import write_value


@dataclass(frozen=True)
class Sized:
    """The problem that a row of a table belongs to.

    Attributes:
        num_channels: Channels.
        max_L: Largest degree of the features between layers.
        max_ell: Largest degree of harmonics and messages.
        nodes: Mean number of atoms of a batch.
        edges: Mean number of edges of a batch.
    """

    num_channels: int
    max_L: int
    max_ell: int
    nodes: float
    edges: float


SIZE_COLUMNS = tuple(field.name for field in fields(Sized))


@dataclass(frozen=True)
class Row(Sized):
    """One side, one quantity, one problem; times are None where it failed or was left out.

    Attributes:
        what: "step" (of the optimizer), "infer" (energy and forces) or "md" (step of molecular dynamics).
        program: "mace_gaunt" or "mace-torch".
        family: Of ours: choice of the group tensor_product.
        kernel: Of ours: the kernels asked for.
        variant: eager, compiled, cueq or oeq.
        parameters: Of the model.
        median_ms: Median time of a call.
        q1_ms: First quartile.
        q3_ms: Third quartile.
        samples: Calls timed; in molecular dynamics, turns.
        per_second: Calls per second at the median.
        first_call_s: Time of the first call, which compiles where something is compiled.
        first_value: What the first call gave: the loss, or the sum of the interaction energies (eV).
        peak_tensors_MB: Most memory that a call holds beyond what it found.
        peak_process_MB: Most memory of the process so far beyond what it had before the model was built; with
            compilation, and with what the allocator keeps.
        kernels: Of ours: kernels that computed.
        version: Of the program.
        failed: What went wrong.
        left_out: Why it was not tried: what a smaller problem took.
    """

    what: str
    program: str
    family: str
    kernel: str
    variant: str
    parameters: int | None = None
    median_ms: float | None = None
    q1_ms: float | None = None
    q3_ms: float | None = None
    samples: int | None = None
    per_second: float | None = None
    first_call_s: float | None = None
    first_value: float | None = None
    peak_tensors_MB: float | None = None
    peak_process_MB: float | None = None
    kernels: str = ""
    version: str = ""
    failed: str = ""
    left_out: str = ""

    @property
    def side(self) -> Side:
        """Whose it is."""
        return Side(self.program, self.family, self.variant, self.kernel)


@dataclass(frozen=True)
class Ratio(Sized):
    """How many times as fast one of ours is as one of the peer's, or as itself by another kernel, round by round.

    Attributes:
        what: The quantity.
        ours: Name of our side.
        other: Name of the other side.
        median: Median over the rounds of the ratio of their median times.
        q1: First quartile.
        q3: Third quartile.
    """

    what: str
    ours: str
    other: str
    median: float
    q1: float
    q3: float


def columns_of(side: Side, what: str, problem: Mapping[str, Any]) -> dict[str, Any]:
    """What tells a row from others.

    Args:
        side: The side.
        what: The quantity.
        problem: See `problem.side_settings`.
    """
    names = ("program", "family", "kernel", "variant")
    return {**size_of(problem), "what": what, **{name: getattr(side, name) for name in names}}


def size_of(problem: Mapping[str, Any]) -> dict[str, Any]:
    """The columns of `Sized`."""
    return {name: problem[name] for name in SIZE_COLUMNS}


def make_row(entrant: Contestant, what: str, problem: Mapping[str, Any]) -> Row:
    """The row of a side.

    Args:
        entrant: The side.
        what: The quantity.
        problem: See `problem.side_settings`.
    """
    built = entrant.built
    names = columns_of(entrant.side, what, problem)
    if not built:
        return Row(**names, failed=entrant.failed["build"])
    known: dict[str, Any] = {
        "parameters": built["parameters"],
        "kernels": tell_kernels(built.get("kernels", {}).get("step" if what == "step" else "infer", {})),
        "version": f"{built['version']}, torch {built['torch']}",
    }
    if what in entrant.failed:
        return Row(**names, **known, failed=entrant.failed[what])
    samples = [seconds * 1e3 for turn in entrant.rounds[what] for seconds in turn]
    median, first, third = quartiles(samples)
    peaks = entrant.peaks.get(what, {})
    return Row(
        **names,
        **known,
        median_ms=median,
        q1_ms=first,
        q3_ms=third,
        samples=len(samples),
        per_second=1e3 / median,
        first_call_s=entrant.first_call[what],
        first_value=entrant.first_value[what],
        peak_tensors_MB=megabytes(peaks.get("tensors")),
        peak_process_MB=megabytes(peaks.get("process")),
    )


def tell_kernels(kernels: dict[str, str]) -> str:
    """Kernels by place, once where all layers have the same."""
    places: dict[str, list[str]] = {}
    for name, kernel in kernels.items():
        places.setdefault("edge" if "edge" in name else "node", []).append(kernel)
    return ", ".join(f"{place} {'/'.join(dict.fromkeys(names))}" for place, names in places.items())


def make_ratios(entrants: Sequence[Contestant], what: str, problem: Mapping[str, Any]) -> list[Ratio]:
    """Each of ours against each of the peer's, and against those before it with other kernels, where both were timed.

    Args:
        entrants: The sides, ours first.
        what: The quantity.
        problem: See `problem.side_settings`.
    """
    timed = [entrant for entrant in entrants if entrant.built and what not in entrant.failed]
    pairs = [
        (ours, other)
        for position, ours in enumerate(timed)
        for other in timed
        if ours.side.program == OURS
        and (other.side.program == PEER or (other in timed[:position] and same_function(ours.side, other.side)))
    ]
    found = []
    for ours, other in pairs:
        median, first, third = quartiles(ratios_of(ours, other, what))
        names: dict[str, Any] = {"what": what, "ours": ours.side.name, "other": other.side.name}
        found.append(Ratio(**size_of(problem), **names, median=median, q1=first, q3=third))
    return found


def same_function(one: Side, other: Side) -> bool:
    """Whether two sides differ in their kernels only."""
    return (one.program, one.family, one.variant) == (other.program, other.family, other.variant)


def ratios_of(ours: Contestant, other: Contestant, what: str) -> list[float]:
    """Ratios of the medians of each round: of turns that lie side by side."""
    return [
        statistics.median(theirs) / statistics.median(own)
        for own, theirs in zip(ours.rounds[what], other.rounds[what], strict=True)
    ]


def quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    """Median, first and third quartile."""
    if len(values) < 2:
        return values[0], values[0], values[0]
    first, median, third = statistics.quantiles(values, n=4, method="inclusive")
    return median, first, third


def megabytes(size: int | None) -> float | None:
    """Of bytes."""
    return None if size is None else size / 1e6


def write_table(path: Path, rows: Iterable[Any], kind: type) -> None:
    """Write dataclasses as a CSV file.

    Args:
        path: The file.
        rows: The dataclasses.
        kind: Their class.
    """
    columns = [field.name for field in fields(kind)]
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows([write_value(getattr(row, name)) for name in columns] for row in rows)
