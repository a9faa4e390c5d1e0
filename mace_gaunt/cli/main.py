"""`mace-gaunt VERB key=value ...`. Light at import: each verb imports what it needs when it runs."""

import errno
import importlib
import os
import sys
import traceback

from mace_gaunt import __version__
from mace_gaunt.cli.machine import share_processors
from mace_gaunt.errors import UserError, nearest
from mace_gaunt.signals import termination_unwinds

VERBS = {
    "train": "train a potential",
    "sweep": "search for settings that train better ones",
    "compare": "several trainings under one budget: errors against costs",
    "evaluate": "errors of a trained model on test splits",
    "report": "the report of a training, made again from its run folder",
    "md": "molecular dynamics with a trained model",
    "relax": "structures at a minimum of the energy",
    "phonons": "vibrations of crystals",
    "lammps": "molecular dynamics in LAMMPS, on several processes",
    "convert": "a model of mace-torch as a model folder",
    "export": "compile a trained model ahead of time",
    "data": "inspect data files, fetch data sets",
    "benchmark": "time tensor products, and what they can express",
    "doctor": "what this machine has, and which kernels run on it",
}

_RIGHTS = "Choose a folder that you may write to, or change its rights."
_SPACE = "Make room on this disk, or write to another one."
MACHINE = {
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), _RIGHTS),
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EFBIG), _SPACE),
    errno.EIO: "The disk or the connection to it failed: look at the machine, then run the same command again.",
    errno.EMFILE: "Too many files are open: allow more, as with `ulimit -n 4096`.",
    errno.ENAMETOOLONG: "Choose a shorter name.",
}
"""What to do about errors of the machine, by their number."""

HELP = """\
usage: mace-gaunt VERB [file.yaml] [key=value ...] [flags]

{verbs}

  mace-gaunt VERB --help    keys and a worked example
  mace-gaunt --version

example:
  mace-gaunt train experiment=quickstart run=first
  mace-gaunt evaluate model=runs/first data=3bpa_xtb out=report
  mace-gaunt md model=runs/first structure=molecule.xyz out=md"""


def main(argv: list[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: The words after `mace-gaunt`; by default those of the process.

    Returns:
        Exit status: 0 done, 1 failed, 2 a mistake in the command, its files or its structures, 130 interrupted.
    """
    try:
        with termination_unwinds():
            return _run(list(sys.argv[1:] if argv is None else argv))
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader of a pipe, such as `head`, has gone: nothing is left to say.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        return report_error(error)


def report_error(error: Exception) -> int:
    """Tell an error on the terminal: a line for the user's mistakes, a traceback for ours.

    Args:
        error: What was raised.

    Returns:
        Exit status.
    """
    mistake = is_mistake(error)
    if os.environ.get("MACE_GAUNT_DEBUG") == "1" or not mistake:
        traceback.print_exception(error)
    if mistake:
        # What torch or Hydra say within it may have lines of their own.
        print(f"error: {' '.join(mistake.split())}", file=sys.stderr)
        return 2
    print("This is a fault of mace-gaunt, not of your input. Please report it with the lines above.", file=sys.stderr)
    return 1


def is_mistake(error: BaseException) -> str | None:
    """The message, when an error is the user's to mend.

    That is a `UserError`, what MACHINE lists, and a ValueError or OSError that our own package raised; anywhere else in
    the chain of causes counts too, since Hydra wraps what a target raises.

    Args:
        error: What was raised.

    Returns:
        Message, or None for a fault of the program.
    """
    cause: BaseException | None = error
    while cause is not None:
        if fault := _fault_of_machine(cause):
            return fault
        if isinstance(cause, UserError) or (isinstance(cause, (ValueError, OSError)) and _raised_here(cause)):
            return str(cause)
        cause = cause.__cause__
    return None


def _fault_of_machine(error: BaseException) -> str | None:
    """What to say of a disk that is full, rights that are not there and the like, wherever they showed."""
    if isinstance(error, RuntimeError) and str(error) == "Could not determine home directory.":
        # pathlib's, of any of the many paths a command may be given.
        return "a path begins with ~ or ~NAME, whose folder this machine does not know: write the path in full."
    if not isinstance(error, OSError) or error.errno not in MACHINE:
        return None
    where = f"{error.filename}: " if error.filename else ""
    return f"{where}{error.strerror or error}. {MACHINE[error.errno]}"


def _run(argv: list[str]) -> int:
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(HELP.format(verbs="\n".join(f"  {verb:10} {what}" for verb, what in VERBS.items())))
        return 0 if argv else 2
    verb, *rest = argv
    if verb == "--version":
        print(f"mace-gaunt {__version__}")
        return 0
    if verb not in VERBS:
        raise UserError(_unknown_verb(verb))
    module = importlib.import_module(f"mace_gaunt.cli.{verb}")
    if "--help" in rest or "-h" in rest:
        # Each instrument of `benchmark` and each subverb of `data` has a help of its own.
        parts = getattr(module, "INSTRUMENTS", getattr(module, "SUBVERBS", {}))
        topic = importlib.import_module(f"mace_gaunt.cli.{verb}_{rest[0]}") if rest[0] in parts else module
        print(topic.help_text())
        return 0
    if "--version" in rest:
        print(f"mace-gaunt {__version__}")
        return 0
    share_processors()
    return int(module.run(rest))


def _unknown_verb(word: str) -> str:
    if "=" in word or word.endswith((".yaml", ".yml")):
        return f"the verb comes first, as in: mace-gaunt train {word}"
    if word.startswith("-"):
        return f"no flag '{word}'.{nearest(word, ['--help', '--version'])}"
    return f"no verb '{word}'.{nearest(word, VERBS)}"


def _raised_here(error: BaseException) -> bool:
    """Whether the innermost frame of the traceback is in this package."""
    trace = error.__traceback__
    name = ""
    while trace is not None:
        name, trace = trace.tb_frame.f_globals.get("__name__", ""), trace.tb_next
    return str(name).split(".")[0] == "mace_gaunt"


if __name__ == "__main__":
    sys.exit(main())
