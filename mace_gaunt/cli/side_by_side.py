"""What `benchmark step` and `benchmark md` share: this program and mace-torch side by side."""

import dataclasses
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from mace_gaunt.benchmark.peer.breakdown import Share
    from mace_gaunt.benchmark.peer.results import Ratio, Row
    from mace_gaunt.benchmark.peer.settings import Settings
    from mace_gaunt.benchmark.peer.turns import Contestant

TABLE, RATIOS, PROFILE = "results.csv", "ratios.csv", "profile.csv"
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


def find_peer(settings: "Settings") -> Path | None:
    """The peer's Python, if the peer takes part.

    Raises:
        UserError: If its environment is missing.
    """
    from mace_gaunt.benchmark.peer import sides

    return sides.find_peer(settings.peer_env) if settings.peer else None


def compare(
    settings: "Settings",
    problem: dict[str, Any],
    peer: Path | None,
    scratch: Path,
    calls: int | None = None,
    profiled: Callable[[list["Contestant"]], None] | None = None,
) -> tuple[list["Row"], list["Ratio"]]:
    """Time everything that was asked for, and print it.

    Args:
        settings: The request.
        problem: From `benchmark.peer.problem`.
        peer: The peer's Python.
        scratch: Folder for compiled code.
        calls: Calls of a turn.
        profiled: Called with the sides at last.
    """
    from mace_gaunt.benchmark.peer.results import make_ratios, make_row
    from mace_gaunt.benchmark.peer.sides import list_sides
    from mace_gaunt.benchmark.peer.turns import contestants, race

    warn_if_busy(settings.threads or 1)
    products = load_products(settings.families)
    rows: list[Row] = []
    ratios: list[Ratio] = []
    with contestants(list_sides(settings), settings, problem, products, peer, scratch) as entrants:
        for what in settings.what:
            race(entrants, what, settings, calls, tell)
            found = [make_row(entrant, what) for entrant in entrants]
            compared = make_ratios(entrants, what)
            print(*lines(found, compared, settings), sep="\n", flush=True)
            rows, ratios = rows + found, ratios + compared
        if profiled is not None:
            profiled(entrants)
    return rows, ratios


def warn_if_busy(threads: int) -> None:
    """Say when others use the processors that the sides need."""
    load, processors = os.getloadavg()[0], os.cpu_count() or 1
    if load + threads > processors + 0.5:
        tell(f"the machine is busy (load {load:.1f}, {processors} processors): times are too long, ratios rougher")


def tell(text: str) -> None:
    """A line about what is going on."""
    print(f"... {text}", flush=True)


def lines(rows: Iterable["Row"], ratios: Iterable["Ratio"], settings: "Settings") -> list[str]:
    """The table of one quantity for the terminal."""
    rows = list(rows)
    built = [row for row in rows if row.nodes is not None]
    sizes = f"{built[0].nodes:g} atoms, {built[0].edges:g} edges, " if built else ""
    found = [
        f"{rows[0].what}: {sizes}{settings.num_channels} channels, max_L {settings.max_L}, {settings.dtype}, "
        f"{settings.threads} threads, {settings.device}",
        f"  {'':34} {'ms':>8} {'quartiles':>17} {'per s':>7} {'first s':>8} {'tensors MB':>10} {'process MB':>10} "
        f"{'parameters':>10}",
    ]
    found += [line(row) for row in rows]
    found += [
        f"  {ratio.ours}: {ratio.median:.2f} times as fast as {ratio.peer} (quartiles {ratio.q1:.2f} to {ratio.q3:.2f})"
        for ratio in ratios
    ]
    return found


def line(row: "Row") -> str:
    """One side in the table."""
    name = " ".join(word for word in (row.program, row.family, row.variant) if word)
    if row.median_ms is None:
        return f"  {name:34} failed: {row.failed}"
    tensors, process = (
        f"{value:.0f}" if value is not None else "-" for value in (row.peak_tensors_MB, row.peak_process_MB)
    )
    spread = f"{row.q1_ms:.1f} to {row.q3_ms:.1f}"
    return (
        f"  {name:34} {row.median_ms:8.1f} {spread:>17} {row.per_second:7.2f} {row.first_call_s:8.1f} {tensors:>10} "
        f"{process:>10} {row.parameters:>10,}"
    )


def share_lines(shares: Iterable["Share"]) -> list[str]:
    """The profile for the terminal."""
    return [
        f"  {share.side:32} {share.part:14} "
        + (f"{share.ms:8.1f} ms {share.share:5.0%} " if share.ms is not None and share.share is not None else " " * 18)
        + f"{share.GFLOP_per_s:8.1f} GFLOP/s {share.GB_per_s:7.1f} GB/s"
        for share in shares
    ]


def write(folder: Path, rows: list["Row"], ratios: list["Ratio"]) -> None:
    """Write both tables."""
    from mace_gaunt.benchmark.peer.results import Ratio, Row, write_table

    write_table(folder / TABLE, rows, Row)
    write_table(folder / RATIOS, ratios, Ratio)


def status(rows: Iterable["Row"]) -> int:
    """Exit status: 1 if a side failed in anything."""
    return int(any(row.failed for row in rows))
