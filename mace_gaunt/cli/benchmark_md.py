"""`mace-gaunt benchmark md`: molecular dynamics by this program beside mace-torch."""

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from mace_gaunt.benchmark.keys import describe, read_pairs
from mace_gaunt.benchmark.peer.settings import MD_KEYS, md_settings

if TYPE_CHECKING:
    from mace_gaunt.benchmark.peer.results import Ratio, Row

COMMAND = "benchmark md"

HELP = """\
usage: mace-gaunt benchmark md out=FOLDER [key=value ...]

Steps of ASE's velocity Verlet with the calculator of this program and with that of mace-torch: the same structure,
start, model sizes, precision, threads and device, each in a process of its own, in turns. The potentials are random
and nearly flat, so that all sides fly the same way. mace-torch needs an environment of its own, which
scripts/make_peer_env.sh makes. Writes results.csv, ratios.csv and benchmark.json.

examples:
  mace-gaunt benchmark md threads=2 out=md
  mace-gaunt benchmark md threads=2 repeat=1,2,3 what=md,infer num_channels=128 out=md_boxes
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
    from mace_gaunt.cli.benchmark_run import open_folder, read_words, write_record
    from mace_gaunt.cli.record import now

    settings = md_settings(read_pairs(read_words(argv, COMMAND), MD_KEYS, COMMAND))
    side_by_side.load_products(settings.families)
    peer = side_by_side.find_peer(settings)
    settings = side_by_side.with_threads(settings)
    from mace_gaunt.benchmark.peer.problem import box_problem

    rows: list[Row] = []
    ratios: list[Ratio] = []
    with tempfile.TemporaryDirectory() as scratch:
        boxes = []
        for repeat in settings.repeat:
            place = Path(scratch) / str(repeat)
            place.mkdir()
            boxes.append((place, box_problem(settings, repeat, place)))
        folder = open_folder(settings.out, settings.overwrite, (side_by_side.TABLE, side_by_side.RATIOS))
        started = now()
        for place, problem in boxes:
            found, compared = side_by_side.compare(settings, problem, peer, place, calls=settings.steps)
            rows, ratios = rows + found, ratios + compared
    side_by_side.write(folder, rows, ratios)
    write_record(folder, argv, COMMAND, settings, started)
    print(f"results  {folder / side_by_side.TABLE}\nsee also {folder}")
    return side_by_side.status(rows)
