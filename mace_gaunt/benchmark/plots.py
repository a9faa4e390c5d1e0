"""Plots of a `benchmark tensor_product`: time over L, logarithmic, a panel for each regime and pass."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mace_gaunt.benchmark.bars import FEWEST_DEGREES
from mace_gaunt.benchmark.candidates import AUTO, classes
from mace_gaunt.benchmark.figures import draw_guides, log_degrees, log_values, save, style
from mace_gaunt.benchmark.references import REFERENCES
from mace_gaunt.benchmark.results import Row
from mace_gaunt.benchmark.settings import DOUBLE_BACKWARD, FORWARD, FORWARD_BACKWARD, PASSES, REGIMES
from mace_gaunt.tensor_products.families import FAMILIES

GUIDES = {"siso": (2, 3), "simo": (3, 4), "mimo": (3, 4, 6), "": ()}
"""Orders of the operations: Gaunt by FFT L^2 to L^3, by dense matrices L^4; Clebsch-Gordan L^3, L^4 and L^6."""
FAMILY_ORDER = (*FAMILIES, *(family for family, _ in REFERENCES))
TITLES = {FORWARD: "forward", FORWARD_BACKWARD: "forward + backward", DOUBLE_BACKWARD: "double backward"}
TIME = "time (ms)"
UNITS = {"feature": "rows", "edge": "edges", "node": "nodes"}

Value = Callable[[Row], float | None]


def plot_all(rows: Sequence[Row], out: Path) -> list[Path]:
    """Draw what a table has to show: everything that was timed at two degrees at least.

    Args:
        rows: The table.
        out: The folder.

    Returns:
        The files.
    """
    timed = [row for row in rows if row.median_ms is not None]
    files = []
    for operation, batch, channels in dict.fromkeys((row.operation, row.batch, row.channels) for row in timed):
        some = [row for row in timed if (row.operation, row.batch, row.channels) == (operation, batch, channels)]
        if len({row.degree for row in some}) < 2:
            continue
        stem = f"{operation}_{batch}x{channels}"
        title = f"{operation} product, {batch} {UNITS[operation]} x {channels} channels"
        files.append(plot_times(some, title, out / f"{stem}.png"))
        if operation == "feature":
            files.append(plot_useful(some, title, out / f"{stem}_useful.png"))
            growing = [row for row in some if (row.family, row.regime, row.pass_name) == ("gaunt", "mimo", FORWARD)]
            files += plot_growth(growing, title, out / f"{stem}_growth.png")
    return files


def plot_times(rows: Sequence[Row], title: str, path: Path) -> Path:
    """Median times: a row of panels for each regime, a column for each pass.

    Args:
        rows: Of one operation, batch and number of channels.
        title: Above all.
        path: The file.
    """
    regimes = [name for name in (*REGIMES, "") if any(row.regime == name for row in rows)]
    passes = [name for name in PASSES if any(row.pass_name == name for row in rows)]
    panels = [[(regime, pass_name, TIME, lambda row: row.median_ms) for pass_name in passes] for regime in regimes]
    return plot_panels(rows, panels, title, path)


def plot_useful(rows: Sequence[Row], title: str, path: Path) -> Path:
    """Time of the forward pass per output irrep and per free weight, a column for each regime.

    Args:
        rows: Of the feature product, one batch and number of channels.
        title: Above all.
        path: The file.
    """
    regimes = [name for name in REGIMES if any(row.regime == name for row in rows)]
    quantities: list[tuple[str, Value]] = [
        ("time per output irrep (µs)", lambda row: row.us_per_irrep),
        ("time per free weight (µs)", lambda row: row.us_per_weight),
    ]
    panels = [[(regime, FORWARD, label, value) for regime in regimes] for label, value in quantities]
    return plot_panels(rows, panels, title, path)


def plot_growth(rows: Sequence[Row], title: str, path: Path) -> list[Path]:
    """How the time of the Gaunt family grows from L = 2 on, beside powers of L.

    Args:
        rows: Of its MIMO forward pass, one batch and number of channels.
        title: Above all.
        path: The file.

    Returns:
        The file, or nothing where there are too few degrees.
    """
    larger = [row for row in rows if row.degree >= 2]
    if len({row.degree for row in larger}) < FEWEST_DEGREES:
        return []
    panel = ("mimo", FORWARD, TIME, lambda row: row.median_ms)
    return [plot_panels(larger, [[panel]], title, path)]


def plot_panels(
    rows: Sequence[Row], panels: Sequence[Sequence[tuple[str, str, str, Value]]], title: str, path: Path
) -> Path:
    """A table of panels with one legend.

    Args:
        rows: The rows.
        panels: For each panel regime, pass, label of the y axis, and value of a row.
        title: Above all.
        path: The file.
    """
    height, width = len(panels), max(map(len, panels))
    present = {(row.family, row.kernel) for row in rows if row.kernel != AUTO}
    known = [(family, kernel) for family, found in classes(rows[0].operation).items() for kernel in found.KERNELS]
    styles = style([name for name in [*known, *REFERENCES] if name in present], FAMILY_ORDER)
    figure = Figure(figsize=(1.0 + 3.6 * width, 1.5 + 2.9 * height), layout="constrained")
    grid = figure.subplots(height, width, squeeze=False)
    for line, wanted in zip(grid, panels, strict=True):
        for axes, (regime, pass_name, label, value) in zip(line, wanted, strict=True):
            some = [row for row in rows if (row.regime, row.pass_name) == (regime, pass_name)]
            draw_panel(axes, some, value, styles, guides=label == TIME)
            axes.set_title(", ".join(word for word in (regime.upper(), TITLES[pass_name]) if word), fontsize=9)
            axes.set(xlabel="L", ylabel=label)
    handles = {text: line for axes in grid.flat for line, text in zip(*axes.get_legend_handles_labels(), strict=True)}
    figure.legend(
        handles.values(), handles, loc="outside lower center", ncol=min(4, 2 * width), frameon=False, fontsize=8
    )
    figure.suptitle(title, fontsize=11)
    return save(figure, path)


def draw_panel(
    axes: Axes, rows: Sequence[Row], value: Value, styles: dict[tuple[str, str], dict[str, Any]], guides: bool
) -> None:
    """Lines over L; rings where "auto" had a choice and made it; powers of L beside times."""
    degrees = sorted({row.degree for row in rows})
    lowest: dict[int, float] = {}
    for (family, kernel), options in styles.items():
        points = {
            row.degree: found
            for row in sorted(rows, key=lambda row: row.degree)
            if (row.family, row.kernel) == (family, kernel) and (found := value(row)) is not None
        }
        if points:
            label = f"{family}, {kernel}"
            axes.plot(list(points), list(points.values()), label=label, linewidth=1.4, markersize=4, **options)
        for degree, found in points.items():
            lowest[degree] = min(found, lowest.get(degree, found))
    log_values(axes)
    ring_choices(axes, rows, value, styles)
    if not degrees or degrees[0] < 1 or not rows[0].regime:
        axes.set_xticks(degrees)
        return
    log_degrees(axes, degrees)
    if guides and degrees[0] in lowest:
        draw_guides(axes, (degrees[0], 0.8 * lowest[degrees[0]]), degrees[-1], GUIDES[rows[0].regime])


def ring_choices(axes: Axes, rows: Sequence[Row], value: Value, styles: dict[tuple[str, str], dict[str, Any]]) -> None:
    """A ring around the kernel that "auto" chose, where there was a choice."""
    label: str | None = "chosen by auto"
    for auto in (row for row in rows if row.kernel == AUTO):
        kernels = [row for row in rows if (row.family, row.degree) == (auto.family, auto.degree) and row is not auto]
        chosen = [value(row) for row in kernels if row.kernel == auto.chosen]
        if len(kernels) > 1 and chosen and chosen[0] is not None:
            colour = styles[auto.family, auto.chosen]["color"]
            ring = axes.plot(auto.degree, chosen[0], "o", markersize=9, markeredgewidth=0.8, color=colour, label=label)
            ring[0].set_markerfacecolor("none")
            label = None
