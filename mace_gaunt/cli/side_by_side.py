"""What `benchmark step` and `benchmark md` share: this program and mace-torch side by side, problem after problem."""

import dataclasses
import os
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from mace_gaunt.benchmark.peer.breakdown import Share
    from mace_gaunt.benchmark.peer.kernel_choice import Known
    from mace_gaunt.benchmark.peer.limits import Limits
    from mace_gaunt.benchmark.peer.results import Ratio, Row
    from mace_gaunt.benchmark.peer.settings import Settings, Size
    from mace_gaunt.benchmark.peer.turns import Contestant

TABLE, RATIOS, PROFILE, GROWTH = "results.csv", "ratios.csv", "profile.csv", "growth.csv"
WRITTEN = (TABLE, RATIOS, PROFILE, GROWTH, "growth_*.png")
S = TypeVar("S", bound="Settings")


def load_products(families: Sequence[str]) -> dict[str, Any]:
    """The two factories of choices of the group tensor_product, as their files describe them.

    Args:
        families: The choices.

    Raises:
        UserError: If one does not exist.
    """
    from omegaconf import OmegaConf

    from mace_gaunt.cli.choices import check_choice, config_dir

    check_choice("tensor_product", list(families), [config_dir()])
    files = {family: config_dir() / "tensor_product" / f"{family}.yaml" for family in families}
    return {family: OmegaConf.to_container(OmegaConf.load(path)) for family, path in files.items()}


def known_kernels(products: dict[str, Any]) -> "dict[str, Known]":
    """Kernels of the edge and node products of each choice.

    Args:
        products: From `load_products`.
    """
    from hydra.utils import get_class

    from mace_gaunt.model.kernels import PLACES

    found: dict[str, Known] = {}
    for family, factories in products.items():
        classes: dict[str, Any] = {place: get_class(factories[f"{place}_product"]["_target_"]) for place in PLACES}
        found[family] = {place: tuple(product.KERNELS) for place, product in classes.items()}
    return found


def with_threads(settings: S) -> S:
    """Use the machine well, and note how many threads each side gets.

    Args:
        settings: The request.

    Raises:
        UserError: If the device is not there.
    """
    import torch

    from mace_gaunt.cli.benchmark_run import use_machine

    use_machine(settings.threads, settings.device)
    return dataclasses.replace(settings, threads=torch.get_num_threads())


def prepare(settings: S) -> "tuple[S, Arena]":
    """Check what can be checked before anything is written, and find what the sides need.

    Args:
        settings: The request.

    Returns:
        The request with its threads, and the arena.

    Raises:
        UserError: For a family, kernel, environment or device that does not exist.
    """
    from mace_gaunt.benchmark.peer import sides
    from mace_gaunt.benchmark.peer.kernel_choice import check_kernels
    from mace_gaunt.benchmark.peer.limits import Limits

    products = load_products(settings.families)
    kernels = known_kernels(products)
    check_kernels(settings.kernel, kernels)
    peer = sides.find_peer(settings.peer_env) if settings.peer else None
    return with_threads(settings), Arena(products, kernels, peer, Limits(settings.limit))


@dataclass
class Arena:
    """What the problems of one command share.

    Attributes:
        products: See `load_products`.
        kernels: See `known_kernels`.
        peer: The peer's Python.
        limits: Where sides ended.
        rows: The table so far.
        ratios: The ratios so far.
        shares: The profile so far.
    """

    products: dict[str, Any]
    kernels: "dict[str, Known]"
    peer: Path | None
    limits: "Limits"
    rows: "list[Row]" = field(default_factory=list)
    ratios: "list[Ratio]" = field(default_factory=list)
    shares: "list[Share]" = field(default_factory=list)


def run(
    settings: "Settings",
    arena: Arena,
    make_problem: "Callable[[Size, Path], dict[str, Any]]",
    argv: list[str],
    command: str,
    *,
    calls: int | None = None,
    profiled: bool = False,
) -> int:
    """Time all problems of a request and write what was found, after each problem.

    Args:
        settings: The request.
        arena: From `prepare`.
        make_problem: Writes the structures of a problem into a folder, and gives what `problem.side_settings` does.
        argv: The words after the instrument's name.
        command: The words up to there.
        calls: Calls of a turn.
        profiled: Whether the eager sides' steps are profiled.

    Returns:
        Exit status: 1 if a side failed.

    Raises:
        UserError: If a problem cannot be made, or the folder may not be used; then nothing is written.
    """
    from mace_gaunt.cli.benchmark_run import open_folder, write_record
    from mace_gaunt.cli.record import now

    with tempfile.TemporaryDirectory() as scratch:
        problems = []
        for number, size in enumerate(settings.sizes):
            place = Path(scratch) / str(number)
            place.mkdir()
            problems.append(make_problem(size, place))
        folder, started = open_folder(settings.out, settings.overwrite, WRITTEN), now()
        warn_if_busy(settings.threads or 1)
        for problem in problems:
            compare(settings, problem, arena, Path(scratch) / "compiled", calls, profiled)
            write(folder, arena)
    if len(problems) > 1:
        write_growth(folder, arena, settings)
    write_record(folder, argv, command, settings, started)
    print(f"results  {folder / TABLE}\nsee also {folder}")
    return int(any(row.failed for row in arena.rows))


def compare(
    settings: "Settings", problem: dict[str, Any], arena: Arena, cache: Path, calls: int | None, profiled: bool
) -> None:
    """Time one problem, and print it; what was found goes to the arena.

    Args:
        settings: The request.
        problem: See `problem.side_settings`.
        arena: What the problems share.
        cache: Folder for compiled code.
        calls: Calls of a turn.
        profiled: Whether the eager sides' steps are profiled.
    """
    from mace_gaunt.benchmark.peer.breakdown import break_down
    from mace_gaunt.benchmark.peer.results import make_ratios
    from mace_gaunt.benchmark.peer.sides import list_sides
    from mace_gaunt.benchmark.peer.turns import contestants, race
    from mace_gaunt.cli.benchmark_lines import share_lines, table_lines

    sides = list_sides(settings, arena.kernels)
    reasons = {(side, what): arena.limits.reason(side, what, problem) for side in sides for what in settings.what}
    trying = [side for side in sides if not all(reasons[side, what] for what in settings.what)]
    with contestants(trying, settings, problem, arena.products, arena.peer, cache) as entrants:
        for what in settings.what:
            active = [entrant for entrant in entrants if not reasons[entrant.side, what]]
            race(active, what, settings, calls, tell)
            arena.limits.note(active, what, problem)
            rows = [make_any_row(side, active, what, problem, reasons[side, what]) for side in sides]
            ratios = make_ratios(active, what, problem)
            print(*table_lines(rows, ratios, settings), sep="\n", flush=True)
            arena.rows += rows
            arena.ratios += ratios
        if profiled:
            tell("profiles of the eager sides")
            shares = break_down(entrants, settings.timeout, problem)
            print(*share_lines(shares), sep="\n", flush=True)
            arena.shares += shares


def make_any_row(side: Any, active: "Iterable[Contestant]", what: str, problem: dict[str, Any], reason: str) -> "Row":
    """The row of a side that tried, or of one that was left out."""
    from mace_gaunt.benchmark.peer.results import Row, columns_of, make_row

    if reason:
        return Row(**columns_of(side, what, problem), left_out=reason)
    return make_row(next(entrant for entrant in active if entrant.side == side), what, problem)


def warn_if_busy(threads: int) -> None:
    """Say when others use the processors that the sides need."""
    load, processors = os.getloadavg()[0], os.cpu_count() or 1
    if load + threads > processors + 0.5:
        tell(f"the machine is busy (load {load:.1f}, {processors} processors): times are too long, ratios rougher")


def tell(text: str) -> None:
    """A line about what is going on."""
    print(f"... {text}", flush=True)


def write(folder: Path, arena: Arena) -> None:
    """Write the tables."""
    from mace_gaunt.benchmark.peer.breakdown import Share
    from mace_gaunt.benchmark.peer.results import Ratio, Row, write_table

    write_table(folder / TABLE, arena.rows, Row)
    write_table(folder / RATIOS, arena.ratios, Ratio)
    if arena.shares:
        write_table(folder / PROFILE, arena.shares, Share)


def write_growth(folder: Path, arena: Arena, settings: "Settings") -> None:
    """Write and print how time and memory grow, and draw it."""
    from mace_gaunt.benchmark.peer.growth import Growth, make_growths
    from mace_gaunt.benchmark.peer.plots import plot_all
    from mace_gaunt.benchmark.peer.results import write_table
    from mace_gaunt.cli.benchmark_lines import conditions, growth_lines

    growths = make_growths(arena.rows)
    write_table(folder / GROWTH, growths, Growth)
    for line in growth_lines(growths):
        print(line)
    plot_all(arena.rows, conditions(settings), folder)
