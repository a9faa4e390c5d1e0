"""`benchmark expressivity`: couplings, reachable maps and cost of the feature products of all families."""

import csv
import inspect
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from mace_gaunt.benchmark.building import attempt, choose
from mace_gaunt.benchmark.candidates import Candidate, classes
from mace_gaunt.benchmark.cells import Cell
from mace_gaunt.benchmark.figures import save
from mace_gaunt.benchmark.passes import prepare
from mace_gaunt.benchmark.results import write_value
from mace_gaunt.benchmark.settings import FORWARD, ExpressivitySettings
from mace_gaunt.benchmark.timing import measure
from mace_gaunt.tensor_products.expressivity import Coupling, Expressivity, expressivity, interactability


@dataclass(frozen=True)
class Reach:
    """One family.

    Attributes:
        family: Its name; with " pseudo" where it has the option of odd couplings and uses it.
        dimension: Of the set of maps that the Linears around the product reach.
        available: Of the set of all equivariant bilinear maps, odd ones only for a family that makes pseudo-tensors.
        free_weights: Weights of the Linears and of the product that have an effect.
        output_irreps: Irreps in the product's result.
        kernel: What "auto" chose.
        median_ms: Median time of a forward pass.
        us_per_dimension: Time over dimension.
        us_per_irrep: Time over output_irreps.
        skipped: Why there is nothing.
    """

    family: str
    dimension: int | None = None
    available: int | None = None
    free_weights: int | None = None
    output_irreps: int | None = None
    kernel: str = ""
    median_ms: float | None = None
    us_per_dimension: float | None = None
    us_per_irrep: float | None = None
    skipped: str = ""


Couplings = dict[str, list[Coupling]]
"""Family -> its triangles."""


def examine(settings: ExpressivitySettings) -> tuple[list[Reach], Couplings]:
    """Couplings, reach and cost of the families.

    Args:
        settings: The request.

    Returns:
        A line for each family, and the couplings of those that can carry the degrees.
    """
    found: dict[str, Expressivity] = {}
    couplings: Couplings = {}
    timed: dict[str, Candidate] = {}
    skipped: dict[str, str] = {}
    for name, family, cell in variants(settings):
        parts = attempt(examine_family, family, cell, settings)
        if isinstance(parts, str):
            skipped[name] = parts
        else:
            couplings[name], found[name], timed[name] = parts
    calls = {name: prepare(made, FORWARD) for name, made in timed.items()}
    times = measure(calls, torch.device("cpu"), settings.seconds)
    reaches = [tell_reach(name, found[name], timed[name], times[name].median) for name in timed]
    return reaches + [Reach(name, skipped=reason) for name, reason in skipped.items()], couplings


def variants(settings: ExpressivitySettings) -> Iterator[tuple[str, str, Cell]]:
    """Names, families and problems; a family with the option of odd couplings comes without and with them."""
    for family, found in classes("feature").items():
        if family not in (settings.families or (family,)):
            continue
        has_option = "pseudo" in inspect.signature(found).parameters
        for pseudo in (False, True) if has_option else (False,):
            yield f"{family}{' pseudo' * pseudo}", family, problem(settings, pseudo)


def problem(settings: ExpressivitySettings, pseudo: bool) -> Cell:
    """What is built and timed."""
    degrees = settings.degrees_x, settings.degrees_y, settings.degrees_out
    channels = settings.channels or settings.multiplicity
    return Cell(
        "feature", "", max(degrees[0]), degrees, settings.rows, channels, pseudo, "float32", "cpu", settings.seed
    )


def examine_family(
    family: str, cell: Cell, settings: ExpressivitySettings
) -> tuple[list[Coupling], Expressivity, Candidate]:
    """Couplings, expressivity and what is timed.

    Raises:
        ValueError: If the family cannot carry the degrees.
    """
    made = choose(family, cell, FORWARD)
    product: Any = made.module
    generator = torch.Generator().manual_seed(settings.seed)
    reach = expressivity(product, settings.multiplicity, cell.channels, generator)
    return interactability(product, generator), reach, made


def tell_reach(name: str, reach: Expressivity, made: Candidate, seconds: float) -> Reach:
    """The line of a family."""
    microseconds = seconds * 1e6
    return Reach(
        family=name,
        dimension=reach.dimension,
        available=reach.available,
        free_weights=reach.free_weights,
        output_irreps=made.output_irreps,
        kernel=str(made.module.kernel_name),
        median_ms=seconds * 1e3,
        us_per_dimension=microseconds / reach.dimension,
        us_per_irrep=microseconds / made.output_irreps if made.output_irreps else None,
    )


def coupling_rows(couplings: Couplings) -> Iterator[tuple[str, int, int, int, str, float, float]]:
    """Rows of the interactability table: family, l1, l2, l3, parity of the sum, strength, share."""
    for family, found in couplings.items():
        for c in found:
            yield family, c.l1, c.l2, c.l3, "odd" if c.pseudo else "even", c.strength, c.relative


COUPLING_COLUMNS = ("family", "l1", "l2", "l3", "sum", "strength", "relative")
REACH_COLUMNS = tuple(field.name for field in fields(Reach))


def write_tables(folder: Path, reaches: Sequence[Reach], couplings: Couplings) -> None:
    """Write expressivity.csv and interactability.csv.

    Args:
        folder: Where.
        reaches: From `examine`.
        couplings: From `examine`.
    """
    write_csv(folder / "expressivity.csv", REACH_COLUMNS, map(astuple, reaches))
    write_csv(folder / "interactability.csv", COUPLING_COLUMNS, coupling_rows(couplings))


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write a table."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows([write_value(value) for value in row] for row in rows)


def plot_couplings(couplings: Couplings, path: Path) -> Path:
    """A panel for each family: which pairs (l1, l2) reach which l3, and how strongly.

    Args:
        couplings: From `examine`.
        path: The file.
    """
    pairs = list(dict.fromkeys((c.l1, c.l2) for found in couplings.values() for c in found))
    pairs.sort()
    degrees = sorted({c.l3 for found in couplings.values() for c in found})
    figure = Figure(
        figsize=(1.6 + (0.5 + 0.33 * len(degrees)) * len(couplings), 1.4 + 0.26 * len(pairs)), layout="constrained"
    )
    panels = figure.subplots(1, len(couplings), sharey=True, squeeze=False)[0]
    strongest = max((c.strength for found in couplings.values() for c in found), default=1.0)
    norm = Normalize(0.0, strongest)
    for axes, (family, found) in zip(panels, couplings.items(), strict=True):
        image = draw_couplings(axes, found, pairs, degrees, norm)
        axes.set_title(family.replace(" ", "\n").replace("_", "\n"), fontsize=8)
    panels[0].set_ylabel("l1, l2")
    figure.colorbar(image, ax=panels, label="strength", fraction=0.05)
    figure.supxlabel("l3; dotted: odd sum, pseudo-tensors; white: no coupling; grey: no triangle", fontsize=8)
    return save(figure, path)


def draw_couplings(
    axes: Axes, found: Sequence[Coupling], pairs: Sequence[tuple[int, int]], degrees: Sequence[int], norm: Normalize
) -> Any:
    """One panel; gives what a colour bar is made of."""
    table = [[float("nan")] * len(degrees) for _ in pairs]
    image = axes.imshow(table, cmap="cividis_r", norm=norm, aspect="auto")
    axes.set_facecolor("0.88")
    for c in found:
        x, y = degrees.index(c.l3), pairs.index((c.l1, c.l2))
        colour = image.cmap(norm(c.strength)) if c.interacts else "white"
        axes.add_patch(Rectangle((x - 0.5, y - 0.5), 1.0, 1.0, facecolor=colour, edgecolor="white", linewidth=0.5))
        if c.pseudo and c.interacts:
            axes.plot(x, y, ".", markersize=4, color="white", markeredgecolor="black", markeredgewidth=0.5)
    axes.set_xticks(range(len(degrees)), [str(degree) for degree in degrees])
    axes.set_yticks(range(len(pairs)), [f"{l1}, {l2}" for l1, l2 in pairs])
    return image
