"""What `benchmark step` and `benchmark md` print: the tables of one quantity, and of growth over several problems."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mace_gaunt.benchmark.peer.breakdown import Share
    from mace_gaunt.benchmark.peer.growth import Growth
    from mace_gaunt.benchmark.peer.results import Ratio, Row
    from mace_gaunt.benchmark.peer.settings import Settings


def conditions(settings: "Settings") -> str:
    """What all problems of a request have in common."""
    threads = f"{settings.threads} thread{'s' if settings.threads != 1 else ''}"
    return f"{settings.dtype}, {threads}, {settings.device}"


def table_lines(rows: Iterable["Row"], ratios: Iterable["Ratio"], settings: "Settings") -> list[str]:
    """The table of one quantity of one problem."""
    rows = list(rows)
    first, width = rows[0], max(34, *(len(row.side.name) for row in rows))
    found = [
        f"{first.what}: {first.nodes:g} atoms, {first.edges:g} edges, {first.num_channels} channels, "
        f"max_L {first.max_L}, max_ell {first.max_ell}, {conditions(settings)}",
        f"  {'':{width}} {'ms':>8} {'quartiles':>17} {'per s':>7} {'first s':>8} {'tensors MB':>10} {'process MB':>10} "
        f"{'parameters':>10}",
    ]
    found += [row_line(row, width) for row in rows]
    found += [
        f"  {one.ours}: {one.median:.2f} times as fast as {one.other} (quartiles {one.q1:.2f} to {one.q3:.2f})"
        for one in ratios
    ]
    return found


def row_line(row: "Row", width: int) -> str:
    """One side in the table."""
    name = f"  {row.side.name:{width}}"
    if row.left_out:
        return f"{name} left out: {row.left_out}"
    if row.median_ms is None:
        return f"{name} failed: {row.failed}"
    tensors, process = (
        f"{value:.0f}" if value is not None else "-" for value in (row.peak_tensors_MB, row.peak_process_MB)
    )
    spread = f"{row.q1_ms:.1f} to {row.q3_ms:.1f}"
    return (
        f"{name} {row.median_ms:8.1f} {spread:>17} {row.per_second:7.2f} {row.first_call_s:8.1f} {tensors:>10} "
        f"{process:>10} {row.parameters:>10,}"
    )


def share_lines(shares: Iterable["Share"]) -> list[str]:
    """The profile."""
    return [
        f"  {share.side:32} {share.part:14} "
        + (f"{share.ms:8.1f} ms {share.share:5.0%} " if share.ms is not None and share.share is not None else " " * 18)
        + f"{share.GFLOP_per_s:8.1f} GFLOP/s {share.GB_per_s:7.1f} GB/s"
        for share in shares
    ]


def growth_lines(growths: Iterable["Growth"]) -> list[str]:
    """The exponents."""
    growths = list(growths)
    width = max((len(growth.side) for growth in growths), default=0)
    lines, heading = [], ""
    for one in growths:
        if heading != (heading := f"exponents of {one.against}: {one.fixed}"):
            lines.append(heading)
        lines.append(
            f"  {one.what:6} {one.quantity:8} {one.side:{width}} {one.exponent:5.2f} from {one.first:g} to "
            f"{one.last:g} (between neighbours {one.lowest:.2f} to {one.highest:.2f})"
        )
    return lines
