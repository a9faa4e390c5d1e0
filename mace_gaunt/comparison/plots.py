"""Plots of the frontier: errors against what they cost, and how they fell while training."""

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter

from mace_gaunt.comparison.members import FAMILY, FINISHED, PEER, Member, read_rows
from mace_gaunt.comparison.tables import ENERGY, FORCES, SPLIT_MARK, Row, splits_of

COSTS = {
    "training_time": ("training_s", "training time, compilation counted (min)", 1 / 60),
    "inference_time": ("infer_ms", "energy and forces of one structure (ms)", 1.0),
    "step_time": ("step_ms", "training step (ms)", 1.0),
    "memory": ("step_memory_MB", "tensors held at most in a training step (MB)", 1.0),
}
"""Plot -> column, label and factor of its axis."""
LABELS = {FORCES: "force RMSE (meV/Å)", ENERGY: "energy RMSE (meV)"}
# Okabe and Ito's colours, which the colour-blind tell apart, and markers that tell the families without colour.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8A7A00")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
ORDER = (
    *("gaunt", "clebsch_gordan", "gaunt_mix", "cg_edge_gaunt_node", "gaunt_edge_cg_node", "vector_gaunt", PEER),
    "matrix",
)
"""Families whose colour and marker are the same in every comparison."""
FEWEST_FOR_LOG = 3.0
"""A ratio of the largest to the smallest value from which an axis is logarithmic."""
MOST_COLUMNS = 4
"""Splits beside each other."""
LEAST_RATIO = 1.3
"""An axis of costs spans at least this ratio: differences of a per cent are not to look large."""
PUBLISHED = ("MACE L=2", "MACE-Gaunt")


def style_of(family: str, families: Sequence[str]) -> tuple[str, str]:
    """Colour and marker of a family; one that is not in ORDER gets those that are left.

    Args:
        family: The family.
        families: All that are drawn.
    """
    known = [*ORDER, *(name for name in dict.fromkeys(families) if name not in ORDER)]
    index = known.index(family)
    return COLOURS[index % len(COLOURS)], MARKERS[index % len(MARKERS)]


def plot_frontiers(rows: Sequence[Row], published: Sequence[Row], title: str, folder: Path) -> list[Path]:
    """Errors of every split against each cost that was measured.

    Args:
        rows: From `tables.make_rows`; only finished members are drawn.
        published: From `tables.published_of`; levels of PUBLISHED are drawn.
        title: What was equal.
        folder: Where the PNG files `frontier_COST.png` go.

    Returns:
        The files.
    """
    done = [row for row in rows if row["state"] == FINISHED]
    files = []
    for name, (column, label, factor) in COSTS.items():
        drawn = [row for row in done if row.get(column) is not None]
        splits = [split for split in splits_of(drawn) if has_errors(drawn, split)]
        if not drawn or not splits:
            continue
        figure, panels = make_panels(splits)
        figure.suptitle(f"{title} (a marker is a member)", fontsize=10)
        for split, column_axes in panels.items():
            for axes, error in zip(column_axes, (FORCES, ENERGY), strict=True):
                draw_points(axes, drawn, column, factor, f"{error}{SPLIT_MARK}{split}")
                draw_published(axes, [row for row in published if row["split"] == split], error)
                axes.set(xlabel=label, ylabel=LABELS[error])
            column_axes[0].set_title(split, fontsize=10)
        finish_legend(figure, [axes for column_axes in panels.values() for axes in column_axes])
        files.append(save(figure, folder / f"frontier_{name}.png"))
    return files


def make_panels(splits: Sequence[str]) -> tuple[Figure, dict[str, tuple[Axes, Axes]]]:
    """A figure with a panel for the forces of each split and one for its energies below; MOST_COLUMNS in a row."""
    columns, blocks = min(len(splits), MOST_COLUMNS), math.ceil(len(splits) / MOST_COLUMNS)
    figure = Figure(figsize=(3.6 * columns + 0.8, 6.0 * blocks + 0.6), layout="constrained")
    grid = figure.subplots(2 * blocks, columns, squeeze=False)
    found = {}
    for index, split in enumerate(splits):
        row, column = divmod(index, MOST_COLUMNS)
        found[split] = (grid[2 * row, column], grid[2 * row + 1, column])
    for index in range(len(splits), columns * blocks):
        row, column = divmod(index, MOST_COLUMNS)
        grid[2 * row, column].set_axis_off()
        grid[2 * row + 1, column].set_axis_off()
    return figure, found


def has_errors(rows: Iterable[Row], split: str) -> bool:
    """Whether any row has an error of a split."""
    return any(row.get(f"{error}{SPLIT_MARK}{split}") is not None for row in rows for error in LABELS)


def draw_points(axes: Axes, rows: Sequence[Row], cost: str, factor: float, error: str) -> None:
    """A marker for each member; groups of one family are told apart by their filling and a word beside them."""
    families, seen = [row[FAMILY] for row in rows], []
    for row in rows:
        if row.get(error) is None:
            continue
        colour, marker = style_of(row[FAMILY], families)
        groups = list(dict.fromkeys(other["group"] for other in rows if other[FAMILY] == row[FAMILY]))
        filled = groups.index(row["group"]) % 2 == 0
        label = None if row["group"] in seen else row["group"]
        seen.append(row["group"])
        axes.plot(
            row[cost] * factor, row[error], marker, color=colour, label=label, markersize=7, alpha=0.85,
            markerfacecolor=colour if filled else "none",
        )  # fmt: skip
    if axes.lines:
        costs = [row[cost] * factor for row in rows]
        scale(axes.set_xscale, axes.xaxis, costs)
        axes.margins(0.12)
        if 0 < max(costs) < LEAST_RATIO * min(costs):
            axes.set_xlim(min(costs) / LEAST_RATIO, max(costs) * LEAST_RATIO)
        axes.grid(alpha=0.3, which="both")
    else:
        axes.text(0.5, 0.5, "no labels", ha="center", va="center", transform=axes.transAxes)


class Plain(LogFormatter):
    """20000, where LogFormatter writes 2e+04."""

    def __call__(self, x: float, pos: int | None = None) -> str:
        """The label of a tick; empty for those that would crowd the axis."""
        return f"{x:g}" if super().__call__(x, pos) else ""


def scale(set_scale: Any, axis: Any, values: Sequence[float]) -> None:
    """A logarithmic axis with plain numbers, where the values differ enough for one."""
    if min(values) > 0 and max(values) / min(values) >= FEWEST_FOR_LOG:
        set_scale("log")
        axis.set_major_formatter(Plain())
        axis.set_minor_formatter(Plain(minor_thresholds=(2, 0.4)))


def draw_published(axes: Axes, published: Iterable[Row], error: str) -> None:
    """Levels of published errors, named; of models far larger, trained far longer."""
    for row in published:
        if row["method"] in PUBLISHED:
            style = ("--", ":")[PUBLISHED.index(row["method"])]
            axes.axhline(row[error], color="0.45", linestyle=style, linewidth=1, label=f"{row['method']} (published)")
    if axes.lines:
        scale(
            axes.set_yscale,
            axes.yaxis,
            [float(y) for line in axes.lines for y in np.asarray(line.get_ydata(), dtype=float)],
        )


def plot_curves(members: Iterable[Member], title: str, folder: Path) -> Path | None:
    """Validation errors against the training time so far, compilation counted.

    Args:
        members: Those with a metrics.csv are drawn.
        title: What was equal.
        folder: Where `learning_curves.png` goes.

    Returns:
        The file; None where there is nothing to draw.
    """
    curves = [(member, read_rows(member.path / "metrics.csv")) for member in members]
    curves = [(member, rows) for member, rows in curves if rows]
    if not curves:
        return None
    figure = Figure(figsize=(10.0, 4.2), layout="constrained")
    figure.suptitle(f"validation errors while training; {title}", fontsize=10)
    panels = figure.subplots(1, 2)
    for axes, error in zip(panels, (FORCES, ENERGY), strict=True):
        draw_curves(axes, curves, f"valid/{error}")
        axes.set(xlabel=COSTS["training_time"][1], ylabel=LABELS[error])
    finish_legend(figure, panels)
    return save(figure, folder / "learning_curves.png")


def draw_curves(axes: Axes, curves: Sequence[tuple[Member, list[dict[str, str]]]], column: str) -> None:
    """A line for each member."""
    families, seen, values = [member.family for member, _ in curves], [], []
    for member, rows in curves:
        points = [(float(row["seconds"]) / 60, float(row[column])) for row in rows if row.get(column)]
        points = [point for point in points if math.isfinite(point[1]) and point[1] > 0]
        if not points:
            continue
        colour, marker = style_of(member.family, families)
        label = None if member.group in seen else member.group
        seen.append(member.group)
        values += [point[1] for point in points]
        axes.plot(
            *zip(*points, strict=True), color=colour, marker=marker, markersize=4, linewidth=1.2, label=label,
            markevery=max(1, len(points) // 12),
        )  # fmt: skip
    if values:
        scale(axes.set_yscale, axes.yaxis, values)
        axes.grid(alpha=0.3, which="both")


def finish_legend(figure: Figure, panels: Iterable[Axes]) -> None:
    """One legend for all panels, below them."""
    found: dict[str, Any] = {}
    for axes in panels:
        handles, labels = axes.get_legend_handles_labels()
        found |= {label: handle for label, handle in zip(labels, handles, strict=True) if label not in found}
    if found:
        columns = min(4, len(found))
        figure.legend(
            found.values(), found.keys(), loc="outside lower center", ncols=columns, frameon=False, fontsize=9
        )


def save(figure: Figure, path: Path) -> Path:
    """Write a PNG."""
    FigureCanvasAgg(figure)
    figure.savefig(path, format="png", dpi=150)
    return path
