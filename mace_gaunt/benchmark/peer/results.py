"""Tables of a comparison: what each side took, and how many times faster ours are than the peer's."""

import csv
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from mace_gaunt.benchmark.peer.sides import OURS, PEER
from mace_gaunt.benchmark.peer.turns import Contestant
from mace_gaunt.benchmark.results import write_value


@dataclass(frozen=True)
class Row:
    """One side and one quantity; times are None where it failed.

    Attributes:
        what: "step" (of the optimizer), "infer" (energy and forces) or "md" (step of molecular dynamics).
        program: "mace_gaunt" or "mace-torch".
        family: Of ours: choice of the group tensor_product.
        variant: eager, compiled, cueq or oeq.
        nodes: Mean number of atoms of a batch.
        edges: Mean number of edges of a batch.
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
        kernels: Of ours: kernels of the products.
        version: Of the program.
        failed: Why there are no times.
    """

    what: str
    program: str
    family: str
    variant: str
    nodes: float | None = None
    edges: float | None = None
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


@dataclass(frozen=True)
class Ratio:
    """How many times faster one of ours is than one of the peer's, round by round.

    Attributes:
        what: The quantity.
        nodes: Mean number of atoms of a batch.
        ours: Name of our side.
        peer: Name of the peer's.
        median: Median over the rounds of the ratio of their median times.
        q1: First quartile.
        q3: Third quartile.
    """

    what: str
    nodes: float
    ours: str
    peer: str
    median: float
    q1: float
    q3: float


def make_row(entrant: Contestant, what: str) -> Row:
    """The row of a side.

    Args:
        entrant: The side.
        what: The quantity.
    """
    side, built = entrant.side, entrant.built
    names: dict[str, Any] = {"what": what, "program": side.program, "family": side.family, "variant": side.variant}
    if not built:
        return Row(**names, failed=entrant.failed["build"])
    known: dict[str, Any] = {
        "nodes": statistics.fmean(built["n_nodes"]),
        "edges": statistics.fmean(built["n_edges"]),
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


def make_ratios(entrants: Sequence[Contestant], what: str) -> list[Ratio]:
    """Each of ours against each of the peer's that were both timed.

    Args:
        entrants: The sides.
        what: The quantity.
    """
    timed = [entrant for entrant in entrants if entrant.built and what not in entrant.failed]
    return [
        make_ratio(ours, peer, what)
        for ours in timed
        for peer in timed
        if ours.side.program == OURS and peer.side.program == PEER
    ]


def make_ratio(ours: Contestant, peer: Contestant, what: str) -> Ratio:
    """Ratio of the medians of each round: of turns that lie side by side."""
    ratios = [
        statistics.median(theirs) / statistics.median(own)
        for own, theirs in zip(ours.rounds[what], peer.rounds[what], strict=True)
    ]
    return Ratio(what, statistics.fmean(ours.built["n_nodes"]), ours.side.name, peer.side.name, *quartiles(ratios))


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
