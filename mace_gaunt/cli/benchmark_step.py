"""`mace-gaunt benchmark step`: a training step of this program beside one of mace-torch."""

from mace_gaunt.benchmark.keys import describe, read_pairs
from mace_gaunt.benchmark.peer.settings import STEP_KEYS, step_settings

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
  mace-gaunt benchmark step data=3bpa threads=2 batch_size=3,10,30,100 batches=1 memory=8 out=edges
  mace-gaunt benchmark step threads=2 max_L=1..6 max_ell=max_L batches=1 families=gaunt,clebsch_gordan out=degrees
  mace-gaunt benchmark step threads=2 kernel=fourier,grid peer=none out=kernels

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
    from mace_gaunt.cli.benchmark_run import read_words

    settings = step_settings(read_pairs(read_words(argv, COMMAND), STEP_KEYS, COMMAND))
    settings, arena = side_by_side.prepare(settings)
    from mace_gaunt.benchmark.peer.problem import training_problem

    wanted = len(settings.sizes) == 1 if settings.profile is None else settings.profile
    return side_by_side.run(
        settings,
        arena,
        lambda size, place: training_problem(settings, size, place),
        argv,
        COMMAND,
        profiled=wanted and settings.device == "cpu" and "step" in settings.what,
    )
