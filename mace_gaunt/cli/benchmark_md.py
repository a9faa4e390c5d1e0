"""`mace-gaunt benchmark md`: molecular dynamics by this program beside mace-torch."""

from mace_gaunt.benchmark.keys import describe, read_pairs
from mace_gaunt.benchmark.peer.settings import MD_KEYS, md_settings

COMMAND = "benchmark md"

HELP = """\
usage: mace-gaunt benchmark md out=FOLDER [key=value ...]

Steps of ASE's velocity Verlet with the calculator of this program and with that of mace-torch: the same structure,
start, model sizes, precision, threads and device, each in a process of its own, in turns. The potentials are random
and nearly flat, so that all sides fly the same way; with mace=FOLDER they are one MACE model, which is converted here.
mace-torch needs an environment of its own, which scripts/make_peer_env.sh makes. Writes results.csv, ratios.csv and
benchmark.json; of several sizes, channels or degrees also growth.csv and growth_*.png.

examples:
  mace-gaunt benchmark md threads=2 out=md
  mace-gaunt benchmark md threads=2 repeat=1,2,3 what=md,infer num_channels=128 out=md_boxes
  mace-gaunt benchmark md mace=water_model structure=water.xyz dtype=float64 out=md_mace
  mace-gaunt benchmark md structure=water.xyz repeat=2 peer=none out=md_water

keys (and defaults):
{keys}"""


def help_text() -> str:
    """What `mace-gaunt benchmark md --help` prints."""
    return HELP.format(keys=describe(MD_KEYS))


def run(argv: list[str]) -> int:
    """Run the instrument.

    Args:
        argv: The words after its name.

    Returns:
        Exit status: 1 if a side failed.

    Raises:
        UserError: For anything the user can mend; then nothing is written.
    """
    from mace_gaunt.cli import side_by_side
    from mace_gaunt.cli.benchmark_run import read_words

    given = read_pairs(read_words(argv, COMMAND), MD_KEYS, COMMAND)
    from mace_gaunt.benchmark.peer.mace_model import take_sizes

    settings = take_sizes(md_settings(given), given)
    settings, arena = side_by_side.prepare(settings)
    from mace_gaunt.benchmark.peer.problem import box_problem

    return side_by_side.run(
        settings, arena, lambda size, place: box_problem(settings, size, place), argv, COMMAND, calls=settings.steps
    )
