"""How time and memory grow with the problem: exponents of power laws, over what a request varies."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from mace_gaunt.benchmark.bars import fit_slope
from mace_gaunt.benchmark.peer.results import Row

FEWEST_POINTS = 3
"""A growth is read off at least so many problems."""
QUANTITIES: dict[str, Callable[[Row], float | None]] = {
    "time": lambda row: row.median_ms,
    "tensors": lambda row: row.peak_tensors_MB,
}


@dataclass(frozen=True)
class Axis:
    """One way in which problems grow.

    Attributes:
        name: What grows.
        value: It, of a row; None where the row lies on no such axis.
        fixed: What must not change along the axis, in words; None where the row lies on no such axis.
    """

    name: str
    value: Callable[[Row], float]
    fixed: Callable[[Row], str | None]


def tied_degrees(row: Row) -> str | None:
    """Fixed where both largest degrees grow together."""
    return f"{row.num_channels} channels, {row.nodes:g} atoms" if row.max_L == row.max_ell else None


AXES = (
    Axis(
        "edges",
        lambda row: row.edges,
        lambda row: f"{row.num_channels} channels, max_L {row.max_L}, max_ell {row.max_ell}",
    ),
    Axis("max_L = max_ell", lambda row: row.max_L, tied_degrees),
    Axis(
        "max_L",
        lambda row: row.max_L,
        lambda row: f"{row.num_channels} channels, max_ell {row.max_ell}, {row.nodes:g} atoms",
    ),
    Axis(
        "max_ell",
        lambda row: row.max_ell,
        lambda row: f"{row.num_channels} channels, max_L {row.max_L}, {row.nodes:g} atoms",
    ),
    Axis(
        "num_channels",
        lambda row: row.num_channels,
        lambda row: f"max_L {row.max_L}, max_ell {row.max_ell}, {row.nodes:g} atoms",
    ),
)


@dataclass(frozen=True)
class Growth:
    """A power law of one side.

    Attributes:
        against: What grows: the name of an axis.
        fixed: What stays.
        what: The quantity that is computed: step, infer or md.
        side: Name of the side.
        quantity: "time" (median) or "tensors" (most memory that a call holds in them).
        points: Problems it is read off.
        first: The smallest of them.
        last: The largest.
        exponent: Least-squares slope of the logarithms.
        lowest: Lowest exponent between neighbours.
        highest: Highest one.
    """

    against: str
    fixed: str
    what: str
    side: str
    quantity: str
    points: int
    first: float
    last: float
    exponent: float
    lowest: float
    highest: float


def group(rows: Iterable[Row], axis: Axis) -> dict[str, list[Row]]:
    """What lies on an axis: what is fixed -> rows that were timed, where at least two problems were."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        fixed = axis.fixed(row)
        if fixed is not None and row.median_ms is not None and axis.value(row) > 0:
            groups.setdefault(fixed, []).append(row)
    return {fixed: found for fixed, found in groups.items() if len({axis.value(row) for row in found}) > 1}


def make_growths(rows: Sequence[Row]) -> list[Growth]:
    """Every power law that a table tells.

    Args:
        rows: The table, of any number of problems.
    """
    found = []
    for axis in AXES:
        for fixed, some in group(rows, axis).items():
            for what, side in dict.fromkeys((row.what, row.side) for row in some):
                line = [row for row in some if (row.what, row.side) == (what, side)]
                for quantity, value in QUANTITIES.items():
                    points = points_of(line, axis, value)
                    if len(points) >= FEWEST_POINTS:
                        found.append(Growth(axis.name, fixed, what, side.name, quantity, *power_law(points)))
    return found


def points_of(rows: Iterable[Row], axis: Axis, value: Callable[[Row], float | None]) -> list[tuple[float, float]]:
    """(place on the axis, value) of the rows that have one, ascending."""
    pairs = ((axis.value(row), value(row)) for row in rows)
    return sorted((place, found) for place, found in pairs if found)


def power_law(points: Sequence[tuple[float, float]]) -> tuple[int, float, float, float, float, float]:
    """Number of points, first, last, exponent, and the lowest and highest exponent between neighbours.

    Args:
        points: (place, value), positive, ascending; at least two.
    """
    x, y = ([math.log(point[index]) for point in points] for index in (0, 1))
    between = [fit_slope(x[i : i + 2], y[i : i + 2]) for i in range(len(points) - 1)]
    return len(points), points[0][0], points[-1][0], fit_slope(x, y), min(between), max(between)
