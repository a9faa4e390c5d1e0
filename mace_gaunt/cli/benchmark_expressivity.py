"""`mace-gaunt benchmark expressivity`: what the feature products can say."""

from typing import TYPE_CHECKING

from mace_gaunt.benchmark.keys import describe, read_pairs
from mace_gaunt.benchmark.settings import EXPRESSIVITY_KEYS, expressivity_settings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mace_gaunt.benchmark.expressivity import Couplings, Reach

COMMAND = "benchmark expressivity"
WRITTEN = ("expressivity.csv", "interactability.csv", "interactability.png")

HELP = """\
usage: mace-gaunt benchmark expressivity out=FOLDER [key=value ...]

For the degrees of x, y and z = T(x, y), and every family T: which triples (l1, l2, l3) couple and how strongly, the
dimension of the set of equivariant bilinear maps that the Linears around T reach, free weights, and time. Writes
expressivity.csv, interactability.csv, interactability.png and benchmark.json.

examples:
  mace-gaunt benchmark expressivity out=up_to_2
  mace-gaunt benchmark expressivity degrees_x=1 degrees_y=1 degrees_out=0..2 out=vectors
  mace-gaunt benchmark expressivity degrees_x=0..3 degrees_y=0..3 degrees_out=0..3 multiplicity=2 out=up_to_3

keys (and defaults):
{keys}"""


def help_text() -> str:
    """What `mace-gaunt benchmark expressivity --help` prints."""
    return HELP.format(keys=describe(EXPRESSIVITY_KEYS))


def run(argv: list[str]) -> int:
    """Run the instrument.

    Args:
        argv: The words after its name.

    Returns:
        Exit status.

    Raises:
        UserError: For anything the user can mend; then nothing is written.
    """
    from mace_gaunt.cli.benchmark_run import check_folder, open_folder, read_words, use_machine, write_record
    from mace_gaunt.cli.record import now

    settings = expressivity_settings(read_pairs(read_words(argv, COMMAND), EXPRESSIVITY_KEYS, COMMAND))
    from mace_gaunt.benchmark.candidates import check_names
    from mace_gaunt.benchmark.expressivity import examine, plot_couplings, write_tables
    from mace_gaunt.errors import UserError

    check_names(settings.families, ())
    check_folder(settings.out, settings.overwrite, WRITTEN)
    use_machine(settings.threads)
    started = now()
    reaches, couplings = examine(settings)
    if not couplings:
        raise UserError(f"no family carries these degrees. {reaches[0].family}: {reaches[0].skipped}")
    folder = open_folder(settings.out, settings.overwrite, WRITTEN)
    write_tables(folder, reaches, couplings)
    plot_couplings(couplings, folder / WRITTEN[-1])
    write_record(folder, argv, COMMAND, settings, started)
    tell_couplings(couplings)
    tell_reaches(reaches, settings.rows)
    print(f"results  {folder}: {', '.join(WRITTEN)}, benchmark.json")
    return 0


def tell_couplings(couplings: "Couplings") -> None:
    """Print a line for each triangle, a column for each family: the strength, "-" where nothing couples."""
    table: dict[tuple[int, int, int], dict[str, str]] = {}
    for family, found in couplings.items():
        for c in found:
            table.setdefault((c.l3, c.l1, c.l2), {})[family] = f"{c.strength:.3f}" if c.interacts else "-"
    print("strength of the coupling (l1, l2, l3)")
    print(f"  {'':16}" + "".join(f"{family:>24}" for family in couplings))
    for (l3, l1, l2), strengths in sorted(table.items()):
        parity = "odd" if (l1 + l2 + l3) % 2 else "even"
        cells = "".join(f"{strengths[family]:>24}" for family in couplings)
        print(f"  {f'{l1} x {l2} -> {l3}  {parity}':16}{cells}")


def tell_reaches(reaches: "Sequence[Reach]", rows: int) -> None:
    """Print a line for each family."""
    print(f"maps that the Linears around the product reach, and time of {rows} rows")
    for r in reaches:
        if r.skipped:
            print(f"  {r.family:24} {r.skipped}")
            continue
        print(
            f"  {r.family:24} dimension {r.dimension} of {r.available}, {r.free_weights} weights, "
            f"{r.output_irreps} irreps, {r.kernel} {r.median_ms:.3g} ms, {r.us_per_dimension:.3g} µs per dimension"
        )
