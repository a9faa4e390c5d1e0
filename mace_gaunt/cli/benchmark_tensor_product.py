"""`mace-gaunt benchmark tensor_product`: time and memory of the products."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mace_gaunt.benchmark.keys import describe, read_pairs
from mace_gaunt.benchmark.settings import OPERATIONS, TENSOR_PRODUCT_KEYS, ProductSettings, product_settings

if TYPE_CHECKING:
    from mace_gaunt.benchmark.results import Row

COMMAND = "benchmark tensor_product"
TABLE, BARS = "results.csv", "bars.csv"
PLOTS = tuple(f"{operation}_*x*.png" for operation in OPERATIONS)

HELP = """\
usage: mace-gaunt benchmark tensor_product out=FOLDER [key=value ...]

Times feature products (one irrep by one to one or all, or all by all: siso, simo, mimo), edge products with gather and
scatter, and node products: every family and kernel, what kernel=auto chooses, and e3nn beside them. Kernels of a family
are checked to agree first. Writes results.csv, benchmark.json, plots and, for one thread of a CPU in float32, bars.csv.

examples:
  mace-gaunt benchmark tensor_product preset=small threads=1 out=small
  mace-gaunt benchmark tensor_product preset=full threads=1 out=full
  mace-gaunt benchmark tensor_product operations=feature regimes=mimo degrees=1..6 rows=10000 families=gaunt out=gaunt
  mace-gaunt benchmark tensor_product operations=edge degrees=1,2 edges=20000 channels=128 device=cuda out=edge_gpu

keys (and defaults):
{keys}"""


def help_text() -> str:
    """What `mace-gaunt benchmark tensor_product --help` prints."""
    return HELP.format(keys=describe(TENSOR_PRODUCT_KEYS))


def run(argv: list[str]) -> int:
    """Run the instrument.

    Args:
        argv: The words after its name.

    Returns:
        Exit status: 1 if a kernel does not compute what its family does.

    Raises:
        UserError: For anything the user can mend; then nothing is written.
    """
    from mace_gaunt.cli.benchmark_run import open_folder, read_words, use_machine, write_record
    from mace_gaunt.cli.record import now

    settings = product_settings(read_pairs(read_words(argv, COMMAND), TENSOR_PRODUCT_KEYS, COMMAND))
    from mace_gaunt.benchmark.candidates import check_names

    check_names(tuple(family for plan in settings.plans for family in plan.families), settings.kernels)
    use_machine(settings.threads, settings.device)
    folder = open_folder(settings.out, settings.overwrite, (TABLE, BARS, *PLOTS))
    started = now()
    status = time_and_tell(settings, folder)
    record = write_record(folder, argv, COMMAND, settings, started)
    if is_for_bars(settings, record["hardware"]["threads"]):
        tell_bars(folder)
    print(f"results  {folder / TABLE}\nsee also {folder / 'benchmark.json'}, {folder / '*.png'}")
    return status


def time_and_tell(settings: ProductSettings, folder: Path) -> int:
    """Write the table cell by cell, and draw it.

    Args:
        settings: The request.
        folder: Where.

    Returns:
        Exit status.
    """
    from mace_gaunt.benchmark.agreement import DISAGREES
    from mace_gaunt.benchmark.plots import plot_all
    from mace_gaunt.benchmark.results import read_rows, write_rows
    from mace_gaunt.benchmark.tensor_product import count_cells, time_cells

    total = count_cells(settings)
    for done, (cell, rows) in enumerate(time_cells(settings), start=1):
        write_rows(folder / TABLE, rows)
        print(f"[{done}/{total}] {cell}", *told(rows), sep="\n", flush=True)
    rows = read_rows(folder / TABLE)
    plot_all(rows, folder)
    return int(any(row.skipped.startswith(DISAGREES) for row in rows))


def told(rows: "Sequence[Row]") -> list[str]:
    """Lines about a cell: each pass with its candidates by time, and what was skipped and why."""
    lines = []
    for pass_name in dict.fromkeys(row.pass_name for row in rows):
        timed = [row for row in rows if row.pass_name == pass_name and row.median_ms is not None]
        words = [
            f"{row.family} {row.chosen and 'auto='}{row.chosen or row.kernel} {row.ms:.3g}" for row in by_time(timed)
        ]
        lines += [f"  {pass_name} (ms): {', '.join(words)}"] if words else []
    reasons: dict[str, list[str]] = {}
    for row in rows:
        if row.skipped:
            reasons.setdefault(row.skipped, []).append(f"{row.name} {row.pass_name}".strip())
    return lines + [f"  skipped {', '.join(names)}: {reason}" for reason, names in reasons.items()]


def by_time(rows: "Sequence[Row]") -> "list[Row]":
    """The fastest first."""
    return sorted(rows, key=lambda row: row.ms)


def is_for_bars(settings: ProductSettings, threads: int) -> bool:
    """Whether a run was made as the bars demand."""
    return (settings.device, settings.dtype, threads) == ("cpu", "float32", 1)


def tell_bars(folder: Path) -> None:
    """Read the bars from the table, print and write them.

    Args:
        folder: Where the table lies.
    """
    from mace_gaunt.benchmark.bars import CONDITIONS, read_bars, write_bars
    from mace_gaunt.benchmark.results import read_rows

    bars = read_bars(read_rows(folder / TABLE))
    write_bars(folder / BARS, bars)
    print(f"bars ({CONDITIONS}):")
    for bar in bars:
        if bar.measured:
            print(f"  {bar.what}, {bar.pass_name}: {bar.measured}{bar.bar and f', bar {bar.bar}: {bar.met}'}")
    missing = sum(not bar.measured for bar in bars)
    if missing:
        print(f"  {missing} others need cells that were not timed: preset=bars has all of them")
