"""The bars this project has set itself, read from the table of a `benchmark tensor_product`."""

import csv
import math
from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path

from mace_gaunt.benchmark.candidates import AUTO
from mace_gaunt.benchmark.results import Row
from mace_gaunt.benchmark.settings import DOUBLE_BACKWARD, FORWARD, PASSES

CONDITIONS = "one thread, float32, CPU"
LEAST_MS = 0.2
"""Cells whose best kernel is faster (ms) say nothing about a choice."""
FEATURE_CELL = ("feature", "mimo", 3, 10000, 1)
EDGE_CELL = ("edge", "", 2, 2242, 64)
FEWEST_DEGREES = 4
"""A growth is read off at least so many degrees."""


@dataclass(frozen=True)
class Bar:
    """One bar.

    Attributes:
        what: What is compared.
        pass_name: In which pass.
        bar: What was to be reached.
        measured: What was.
        met: "yes" or "no"; "not measured" where the table lacks a cell; empty where nothing was set and the figure is
            shown only.
    """

    what: str
    pass_name: str
    bar: str
    measured: str
    met: str


def read_bars(rows: Sequence[Row]) -> list[Bar]:
    """Every bar with what was measured.

    Args:
        rows: The table.
    """
    timed = [row for row in rows if row.median_ms is not None]
    bars = []
    for pass_name in PASSES:
        bars.append(ratio_bar(timed, pass_name, "gaunt/fourier", "rfft2/convolution", FEATURE_CELL, at_most=2.0))
    for pass_name in PASSES:
        bars.append(ratio_bar(timed, pass_name, "gaunt/fourier", "gaunt/grid", FEATURE_CELL))
    for pass_name in PASSES:
        bars.append(ratio_bar(timed, pass_name, "e3nn/TensorProduct", "gaunt/grid", FEATURE_CELL, at_least=3.0))
    bars.append(ratio_bar(timed, DOUBLE_BACKWARD, "e3nn/TensorProduct", "gaunt/auto", EDGE_CELL, at_least=5.0))
    bars += auto_bars(timed)
    return bars + [growth_bar(timed, kernel) for kernel in (AUTO, "grid")]


def write_bars(path: Path, bars: Sequence[Bar]) -> None:
    """Write the bars as CSV.

    Args:
        path: The file.
        bars: The bars.
    """
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([field.name for field in fields(Bar)])
        writer.writerows(astuple(bar) for bar in bars)


def ratio_bar(
    rows: Sequence[Row],
    pass_name: str,
    over: str,
    under: str,
    cell: tuple[str, str, int, int, int],
    *,
    at_most: float = math.inf,
    at_least: float = 0.0,
) -> Bar:
    """A ratio of two median times.

    Args:
        rows: Rows that were timed.
        pass_name: The pass.
        over: Name of the one whose time is divided.
        under: Name of the one it is divided by.
        cell: The cell.
        at_most: Largest ratio that is good.
        at_least: Smallest ratio that is good.
    """
    times = {row.name: row.ms for row in rows if row.cell == cell and row.pass_name == pass_name}
    what = f"{over} : {under}, {tell_cell(cell)}"
    bar = f"<= {at_most:g}" if at_most < math.inf else f">= {at_least:g}" if at_least else ""
    if over not in times or under not in times:
        return Bar(what, pass_name, bar, "", "not measured")
    ratio = times[over] / times[under]
    measured = f"{ratio:.2f} ({times[over]:.3g} : {times[under]:.3g} ms)"
    return Bar(what, pass_name, bar, measured, tell(at_least <= ratio <= at_most) if bar else "")


def auto_bars(rows: Sequence[Row]) -> list[Bar]:
    """What "auto" costs over the best kernel: over all passes, and for each in figures only."""
    ratios, choices = auto_ratios(rows), choice_ratios(rows)
    mean_bar, worst_bar = "<= 1.05", "<= 1.25"
    what = f"auto : best kernel, cells above {LEAST_MS} ms"
    if not ratios:
        return [
            Bar(f"{what}, {kind}", "all", bar, "", "not measured")
            for kind, bar in (("mean", mean_bar), ("worst", worst_bar))
        ]
    worst = max(ratios, key=lambda row: ratios[row])
    mean = geometric_mean(list(ratios.values()))
    place = f"{worst.family} chose {worst.chosen}, {tell_cell(worst.cell)}, {worst.pass_name}"
    bars = [
        Bar(f"{what}, geometric mean", "all", mean_bar, f"{mean:.3f} ({len(ratios)} cells)", tell(mean <= 1.05)),
        Bar(f"{what}, worst", "all", worst_bar, f"{ratios[worst]:.2f} ({place})", tell(ratios[worst] <= 1.25)),
    ]
    found = f"{geometric_mean(list(choices.values())):.3f}, worst {max(choices.values()):.2f}"
    bars.append(Bar("kernel that auto chose, timed by its name : best kernel, geometric mean", "all", "", found, ""))
    for pass_name in PASSES:
        some = [ratio for row, ratio in ratios.items() if row.pass_name == pass_name]
        if some:
            found = f"{geometric_mean(some):.3f}, worst {max(some):.2f} ({len(some)} cells)"
            bars.append(Bar(f"{what}, geometric mean", pass_name, "", found, ""))
    return bars


def auto_ratios(rows: Sequence[Row]) -> dict[Row, float]:
    """Row of "auto" -> its time over that of the best kernel it could have chosen, where there was a choice."""
    return {auto: auto.ms / min(times.values()) for auto, times in with_choice(rows).items()}


def choice_ratios(rows: Sequence[Row]) -> dict[Row, float]:
    """Row of "auto" -> time of the kernel it chose, in the row of that name, over that of the best.

    Free of the noise between two rows of one kernel: 1 wherever the best was chosen.
    """
    found = with_choice(rows).items()
    return {auto: times[auto.chosen] / min(times.values()) for auto, times in found if auto.chosen in times}


def with_choice(rows: Sequence[Row]) -> dict[Row, dict[str, float]]:
    """Row of "auto" -> kernel -> time (ms), where there was a choice and the best is above `LEAST_MS`."""
    kernels: dict[tuple[object, ...], dict[str, float]] = {}
    for row in rows:
        if row.kernel != AUTO and not row.reference:
            kernels.setdefault((*row.cell, row.family, row.pass_name), {})[row.kernel] = row.ms
    autos = {row: kernels.get((*row.cell, row.family, row.pass_name), {}) for row in rows if row.kernel == AUTO}
    return {row: times for row, times in autos.items() if len(times) > 1 and min(times.values()) >= LEAST_MS}


def growth_bar(rows: Sequence[Row], kernel: str) -> Bar:
    """The exponent of L with which a Gaunt kernel's time grows, by least squares over log L and log time."""
    points = {
        row.degree: row.ms
        for row in rows
        if row.cell == (*FEATURE_CELL[:2], row.degree, *FEATURE_CELL[3:])
        and (row.family, row.kernel, row.pass_name) == ("gaunt", kernel, FORWARD)
        and 2 <= row.degree <= 10
    }
    what = f"exponent of L, gaunt/{kernel}, feature mimo, batch {FEATURE_CELL[3]}"
    if len(points) < FEWEST_DEGREES:
        return Bar(what, FORWARD, "<= 3", "", "not measured")
    low, high = min(points), max(points)
    slope = fit_slope([math.log(degree) for degree in points], [math.log(time) for time in points.values()])
    ends = f"{points[high] / points[low]:.0f} times from L={low} ({points[low]:.3g} ms) to L={high}"
    measured = f"{slope:.2f} ({ends}; L^3 gives {(high / low) ** 3:.0f})"
    return Bar(what, FORWARD, "<= 3", measured, tell(slope <= 3.0))


def fit_slope(x: Sequence[float], y: Sequence[float]) -> float:
    """Slope of a straight line by least squares."""
    mean_x, mean_y = sum(x) / len(x), sum(y) / len(y)
    covariance = sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True))
    return covariance / sum((a - mean_x) ** 2 for a in x)


def geometric_mean(values: Sequence[float]) -> float:
    """exp of the mean logarithm."""
    return math.exp(sum(math.log(value) for value in values) / len(values))


def tell(met: bool) -> str:
    """As the table has it."""
    return "yes" if met else "no"


def tell_cell(cell: tuple[str, str, int, int, int]) -> str:
    """A cell in words."""
    operation, regime, degree, batch, channels = cell
    return " ".join(word for word in (operation, regime, f"L={degree} batch {batch} x {channels}") if word)
