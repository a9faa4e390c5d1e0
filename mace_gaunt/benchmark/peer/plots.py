"""Plots of a `benchmark step` or `benchmark md` with several problems: time and memory over what varies."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mace_gaunt.benchmark.figures import draw_guides, log_degrees, log_values, plain_numbers, save, style
from mace_gaunt.benchmark.peer.growth import AXES, QUANTITIES, Axis, group, points_of
from mace_gaunt.benchmark.peer.results import Row
from mace_gaunt.benchmark.peer.sides import Side
from mace_gaunt.tensor_products.families import FAMILIES

PEER_COLOUR = "mace-torch"
LABELS = {"time": "time (ms)", "tensors": "most memory in tensors (MB)"}
TITLES = {"infer": "energies and forces", "step": "optimizer step", "md": "step of molecular dynamics"}
X_LABELS = {"edges": "edges of a batch", "num_channels": "channels"}
DEGREE_GUIDES, OTHER_GUIDES = (2, 4, 6), (1,)


def plot_all(rows: Sequence[Row], conditions: str, out: Path) -> list[Path]:
    """A figure for everything that varies over two problems at least.

    Args:
        rows: The table.
        conditions: What all rows have in common; for the titles.
        out: The folder.

    Returns:
        The files, named after what varies and, where there are several such series, what does not.
    """
    files = []
    for axis in AXES:
        groups = group(rows, axis)
        for fixed, some in groups.items():
            words = f"{axis.name} {fixed if len(groups) > 1 else ''}"
            path = out / f"growth_{'_'.join(re.findall(r'[A-Za-z0-9.]+', words))}.png"
            files.append(plot_axis(some, axis, f"{fixed}\n{conditions}", path))
    return files


def plot_axis(rows: Sequence[Row], axis: Axis, title: str, path: Path) -> Path:
    """A row of panels for each quantity computed; time and memory beside each other.

    Args:
        rows: What lies on the axis.
        axis: The axis.
        title: Above all.
        path: The file.
    """
    titles = list(dict.fromkeys(row.what for row in rows))
    styles = line_styles(list(dict.fromkeys(row.side for row in rows)))
    figure = Figure(figsize=(8.6, 1.6 + 2.9 * len(titles)), layout="constrained")
    grid = figure.subplots(len(titles), len(QUANTITIES), squeeze=False)
    for line, what in zip(grid, titles, strict=True):
        for axes, quantity in zip(line, QUANTITIES, strict=True):
            draw_panel(axes, [row for row in rows if row.what == what], axis, quantity, styles)
            axes.set_title(TITLES[what], fontsize=9)
    handles = {text: line for axes in grid.flat for line, text in zip(*axes.get_legend_handles_labels(), strict=True)}
    figure.legend(handles.values(), handles, loc="outside lower center", ncol=3, frameon=False, fontsize=8)
    figure.suptitle(title, fontsize=10)
    return save(figure, path)


def line_styles(sides: Sequence[Side]) -> dict[Side, dict[str, Any]]:
    """Colour by family, dashes and marker by kernel and variant."""
    names = {side: (side.family or PEER_COLOUR, f"{side.kernel} {side.variant}") for side in sides}
    mixes = list(dict.fromkeys(family for family, _ in names.values() if family not in (*FAMILIES, PEER_COLOUR)))
    # The peer is seventh and black; a mix of families comes before it.
    styles = style(names.values(), (*FAMILIES, *(mixes[:1] or [""]), PEER_COLOUR, *mixes[1:]))
    return {side: styles[name] for side, name in names.items()}


def draw_panel(axes: Axes, rows: Sequence[Row], axis: Axis, quantity: str, styles: dict[Side, dict[str, Any]]) -> None:
    """Lines of the sides, and powers to compare them with."""
    lowest: dict[float, float] = {}
    for side, options in styles.items():
        points = points_of([row for row in rows if row.side == side], axis, QUANTITIES[quantity])
        if points:
            axes.plot(*zip(*points, strict=True), label=side.name, linewidth=1.4, markersize=4, **options)
        for place, value in points:
            lowest[place] = min(value, lowest.get(place, value))
    log_values(axes)
    axes.set(xlabel=X_LABELS.get(axis.name, axis.name), ylabel=LABELS[quantity])
    degrees = axis.name not in X_LABELS
    if axis.name == "edges":
        axes.set_xscale("log")
        plain_numbers(axes.xaxis)
    else:
        log_degrees(axes, [int(axis.value(row)) for row in rows])
    if lowest:
        start = min(lowest)
        draw_guides(axes, (start, 0.8 * lowest[start]), max(lowest), DEGREE_GUIDES if degrees else OTHER_GUIDES)
