"""What the plots of the benchmarks share: colours that colour-blind readers can tell apart, small files, no pyplot."""

import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogFormatter, NullLocator
from PIL import Image

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
"""Okabe, Ito, "Color universal design" (2008)."""
LINES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1)))
MARKERS = ("o", "s", "^", "D", "v", "P")
PALETTE = 48
DOTS_PER_INCH = 85


def style(names: Iterable[tuple[str, str]], order: Sequence[str]) -> dict[tuple[str, str], dict[str, Any]]:
    """How each line is drawn: colour by its family, dashes and marker by its kernel.

    Args:
        names: Families and kernels, each once.
        order: All families there may be, so that each has its colour in every figure.

    Returns:
        Name -> options of `Axes.plot`, ordered by family.
    """
    kernels: dict[str, list[str]] = {family: [] for family in order}
    for family, kernel in names:
        kernels[family].append(kernel)
    return {
        (family, kernel): {
            "color": COLOURS[colour % len(COLOURS)],
            "linestyle": LINES[index % len(LINES)],
            "marker": MARKERS[index % len(MARKERS)],
        }
        for colour, family in enumerate(order)
        for index, kernel in enumerate(kernels[family])
    }


def log_values(axes: Axes) -> None:
    """A logarithmic axis upwards with numbers such as 60, not 6 x 10^1."""
    axes.set_yscale("log")
    plain_numbers(axes.yaxis)


def plain_numbers(axis: Axis) -> None:
    """Numbers such as 60 at a logarithmic axis, also between powers of ten where it spans few."""
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(PlainLogFormatter(minor_thresholds=(1.5, 0.4)))


class PlainLogFormatter(LogFormatter):
    """Chooses ticks as its base does, and writes 0.06 for its 6e-02."""

    def __call__(self, x: float, pos: int | None = None) -> str:
        return f"{x:g}" if super().__call__(x, pos) else ""


def log_degrees(axes: Axes, degrees: Iterable[int]) -> None:
    """A logarithmic axis with the degrees themselves at its ticks."""
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(FixedLocator(sorted(set(degrees))))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def draw_guides(axes: Axes, start: tuple[float, float], end: float, powers: Iterable[int]) -> None:
    """Grey lines that grow as powers of L, or linearly, from one point, named at their ends.

    Args:
        axes: With logarithmic axes, everything else drawn; its limits stay.
        start: Where they begin.
        end: Largest L.
        powers: The powers.
    """
    limits = axes.get_ylim()
    for power in powers:
        reach = min(end, start[0] * (limits[1] / start[1]) ** (1.0 / power))
        last = start[1] * (reach / start[0]) ** power
        axes.plot([start[0], reach], [start[1], last], color="0.6", linewidth=1, linestyle=(0, (1, 1)), zorder=0)
        axes.annotate(
            "linear" if power == 1 else f"$L^{power}$",
            (reach, last),
            color="0.35",
            xytext=(-2, -9),
            textcoords="offset points",
            ha="right",
            fontsize=8,
        )
    axes.set_ylim(limits)


def save(figure: Figure, path: Path) -> Path:
    """Write a PNG of few colours, a third as large.

    Args:
        figure: The figure.
        path: The file.
    """
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DOTS_PER_INCH)
    with Image.open(buffer) as image:
        # This method keeps thin lines apart by colour, where the default merges rare colours.
        few = image.convert("RGB").quantize(PALETTE, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
        few.save(path, optimize=True)
    return path
