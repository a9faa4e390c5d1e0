"""Plots of force errors by element, by size of the force, and by split."""

from collections.abc import Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import StrMethodFormatter

from mace_gaunt.evaluation.plots import COLOURS, save

MARKERS = "os^Dvx*P"
FORCES = "force RMSE (meV/Å)"
# More groups of bars than this are unreadable in one figure.
MOST_SPLITS = 8


def plot_by_element(rows: Sequence[Mapping[str, Any]], out: str | Path) -> Path | None:
    """Force RMSE of every element in every split.

    Args:
        rows: Of `Breakdown.by_element`, of all splits.
        out: The PNG file.

    Returns:
        The file; None where there are no rows.
    """
    if not rows:
        return None
    elements = list(dict.fromkeys(row["element"] for row in rows))
    figure = Figure(figsize=(min(6 + 0.6 * len(elements), 14), 4.6), layout="constrained")
    axes = figure.subplots()
    _bars(axes, rows, "element", elements, "forces_rmse_meV_A")
    axes.set(xlabel="element", ylabel=FORCES)
    _legend(figure, axes)
    return save(figure, out)


def plot_by_size(rows: Sequence[Mapping[str, Any]], out: str | Path) -> Path | None:
    """Force RMSE against the length of the reference force, beside the reference's own size.

    Args:
        rows: Of `Breakdown.by_size`, of all splits.
        out: The PNG file.

    Returns:
        The file; None where there are no rows.
    """
    if not rows:
        return None
    figure = Figure(figsize=(7.5, 4.6), layout="constrained")
    axes = figure.subplots()
    for split, own, colour, marker in _by_split(rows):
        # Where the atoms of a bin are: at their root mean square length.
        lengths = [row["reference_rms_meV_A"] * 3**0.5 / 1000 for row in own]
        errors = [row["forces_rmse_meV_A"] for row in own]
        axes.plot(lengths, errors, color=colour, marker=marker, markersize=5, label=split)
    reach = np.array(axes.get_xlim()).clip(min=0.02)  # the linear axis may begin below zero
    axes.plot(reach, reach * 1000 / 3**0.5, color="0.55", linestyle="--", linewidth=1, label="predicting no force")
    axes.set(xlabel="length of the reference force (eV/Å)", ylabel=FORCES, xscale="log", yscale="log")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(StrMethodFormatter("{x:g}"))  # 0.1, not 10⁻¹
    axes.grid(alpha=0.3, which="both")
    _legend(figure, axes)
    return save(figure, out)


def plot_by_split(rows: Sequence[Mapping[str, Any]], out: str | Path, by: str = "model") -> Path | None:
    """Energy and force RMSE of several models in every split.

    Args:
        rows: Of `ErrorSums.row`, with a key `by`.
        out: The PNG file.
        by: What differs between the bars of a split.

    Returns:
        The file; None where no split has errors.
    """
    panels = [("energy_rmse_meV_per_atom", "energy RMSE (meV/atom)"), ("forces_rmse_meV_A", FORCES)]
    if not any(row[name] is not None for row in rows for name, _ in panels):
        return None
    splits = list(dict.fromkeys(row["split"] for row in rows))
    figure = Figure(figsize=(11, 4.4), layout="constrained")
    for axes, (name, label) in zip(figure.subplots(1, 2), panels, strict=True):
        _bars(axes, rows, "split", splits, name, by=by)
        axes.set(ylabel=label)
        axes.tick_params(axis="x", labelrotation=20)
    _legend(figure, axes)
    return save(figure, out)


def _bars(
    axes: Axes, rows: Sequence[Mapping[str, Any]], group: str, groups: Sequence[str], value: str, by: str = "split"
) -> None:
    members = list(_by_split(rows, by))[:MOST_SPLITS]
    width = 0.8 / len(members)
    for index, (name, own, colour, _) in enumerate(members):
        known = {row[group]: row[value] for row in own if row[value] is not None}
        places = [place for place, entry in enumerate(groups) if entry in known]
        heights = [known[groups[place]] for place in places]
        offset = (index - (len(members) - 1) / 2) * width
        axes.bar(np.array(places) + offset, heights, width, color=colour, label=name, edgecolor="white", linewidth=0.5)
    axes.set_xticks(range(len(groups)), groups)
    axes.grid(alpha=0.3, axis="y")
    axes.set_axisbelow(True)


def _legend(figure: Figure, axes: Axes) -> None:
    """A legend above the axes, where it covers nothing."""
    handles, labels = axes.get_legend_handles_labels()
    if len(handles) > 1:
        figure.legend(handles, labels, loc="outside upper center", ncols=4, frameon=False, fontsize=8)


def _by_split(
    rows: Sequence[Mapping[str, Any]], by: str = "split"
) -> list[tuple[str, list[Mapping[str, Any]], str, str]]:
    names = list(dict.fromkeys(row[by] for row in rows))
    styles = zip(names, cycle(COLOURS), cycle(MARKERS), strict=False)
    return [(name, [row for row in rows if row[by] == name], colour, marker) for name, colour, marker in styles]
