"""`mace-gaunt benchmark step`: a training step of this program beside one of mace-torch."""

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from mace_gaunt.benchmark.keys import describe, read_pairs
from mace_gaunt.benchmark.peer.settings import STEP_KEYS, step_settings

if TYPE_CHECKING:
    from mace_gaunt.benchmark.peer.turns import Contestant

COMMAND = "benchmark step"

HELP = """\
usage: mace-gaunt benchmark step out=FOLDER [key=value ...]

Runs an optimizer step (energies, forces, loss, gradients, Adam) and the computation of energies and forces, by this
program and by mace-torch: the same structures, model sizes, precision, threads and device, each in a process of its
own, in turns. mace-torch needs an environment of its own, which scripts/make_peer_env.sh makes. Writes results.csv,
ratios.csv, profile.csv and benchmark.json.

examples:
  mace-gaunt benchmark step threads=2 out=step
  mace-gaunt benchmark step threads=2 num_channels=128 families=gaunt,clebsch_gordan peer=eager,compiled out=all
  mace-gaunt benchmark step what=infer batch_size=1 data=3bpa threads=1 out=one_molecule
  mace-gaunt benchmark step peer=none ours=eager num_channels=16 out=ours

keys (and defaults):
{keys}"""


def help_text() -> str:
    """What `mace-gaunt benchmark step --help` prints."""
    return HELP.format(keys=describe(STEP_KEYS))


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

    settings = step_settings(read_pairs(read_words(argv, COMMAND), STEP_KEYS, COMMAND))
    side_by_side.load_products(settings.families)
    peer = side_by_side.find_peer(settings)
    settings = side_by_side.with_threads(settings)
    from mace_gaunt.benchmark.peer.problem import training_problem

    with tempfile.TemporaryDirectory() as scratch:
        problem = training_problem(settings, Path(scratch))
        folder = open_folder(
            settings.out, settings.overwrite, (side_by_side.TABLE, side_by_side.RATIOS, side_by_side.PROFILE)
        )
        started = now()

        def profile(entrants: list["Contestant"]) -> None:
            if settings.profile and settings.device == "cpu" and "step" in settings.what:
                tell_profile(entrants, settings.timeout, settings.dtype, folder)

        rows, ratios = side_by_side.compare(settings, problem, peer, Path(scratch), profiled=profile)
    side_by_side.write(folder, rows, ratios)
    write_record(folder, argv, COMMAND, settings, started)
    print(f"results  {folder / side_by_side.TABLE}\nsee also {folder}")
    return side_by_side.status(rows)


def tell_profile(entrants: list["Contestant"], timeout: float, dtype: str, folder: Path) -> None:
    """Print and write where the eager steps spend their time.

    Args:
        entrants: The sides.
        timeout: Longest time of an answer (s).
        dtype: Precision of the sides.
        folder: Where the table is written.
    """
    from mace_gaunt.benchmark.peer.breakdown import Share, break_down
    from mace_gaunt.benchmark.peer.results import write_table
    from mace_gaunt.cli.side_by_side import PROFILE, share_lines, tell

    tell("profiles of the eager sides")
    shares = break_down(entrants, timeout, dtype)
    print(*share_lines(shares), sep="\n")
    write_table(folder / PROFILE, shares, Share)
