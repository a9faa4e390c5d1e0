"""What the instruments of `mace-gaunt benchmark` share: their words, folder, machine and record."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mace_gaunt.cli.arguments import parse_arguments
from mace_gaunt.errors import UserError

RECORD = "benchmark.json"


def read_words(argv: list[str], command: str) -> list[tuple[str, str]]:
    """The keys of an instrument, which has neither flags nor files.

    Args:
        argv: The words after its name.
        command: The words up to there; named in messages.

    Returns:
        (key, text) in their order.

    Raises:
        UserError: If there is anything else.
    """
    arguments = parse_arguments(argv)
    config_dir = ["--config-dir"] if arguments.config_dir else []
    wrong = [*sorted(arguments.flags), *config_dir, *arguments.removed, *arguments.words]
    if wrong:
        raise UserError(f"'{command}' has no '{wrong[0]}'. Keys are written key=value: mace-gaunt {command} --help")
    return arguments.pairs


def check_folder(out: str, overwrite: bool, written: Sequence[str]) -> Path:
    """Refuse a folder that cannot be used; makes nothing.

    Args:
        out: The folder.
        overwrite: Whether earlier results may be replaced.
        written: Patterns of the files that the instrument writes, besides its record.

    Raises:
        UserError: If it lies under a file, or holds results that may not be replaced.
    """
    from mace_gaunt.simulation.output import check_output

    return check_output(out, [name for name in (*written, RECORD) if "*" not in name], overwrite)


def open_folder(out: str, overwrite: bool, written: Sequence[str]) -> Path:
    """Make the folder for the results; what an earlier run left there goes.

    Patterns are of such a run alone: where no result of it lies, what they match is somebody else's.

    Args:
        out: See `check_folder`.
        overwrite: See `check_folder`.
        written: See `check_folder`.

    Raises:
        UserError: See `check_folder`.
    """
    folder = check_folder(out, overwrite, written)
    names = (*written, RECORD)
    if any((folder / name).exists() for name in names if "*" not in name):
        for path in [path for name in names for path in folder.glob(name)]:
            path.unlink()
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def use_machine(threads: int | None, device: str = "cpu") -> None:
    """Settings of the process that the times depend on.

    Args:
        threads: Processor threads; as torch and the container have it when None.
        device: "cpu" or "cuda".

    Raises:
        UserError: If there is no such device.
    """
    import torch

    from mace_gaunt.cli.machine import use_machine_well
    from mace_gaunt.cli.quiet import quiet

    if device == "cuda" and not torch.cuda.is_available():
        raise UserError("device=cuda is not possible: torch finds no CUDA device here.")
    quiet()
    use_machine_well()
    if threads is not None:
        torch.set_num_threads(threads)


def write_record(folder: Path, argv: list[str], command: str, settings: Any, started: str) -> dict[str, Any]:
    """Write with what and on what a benchmark was made.

    Args:
        folder: Where.
        argv: The words after the instrument's name.
        command: The words up to there.
        settings: A dataclass, the request with its defaults.
        started: When it began, as `record.now` gives it.

    Returns:
        What was written.
    """
    from mace_gaunt.cli.record import git_state, hardware, now, versions
    from mace_gaunt.cli.run_folder import write_json

    record = {
        "command": ["mace-gaunt", *command.split(), *argv],
        "started": started,
        "finished": now(),
        "hardware": hardware(),
        "versions": versions(),
        "git": git_state(),
        "settings": dataclasses.asdict(settings),
    }
    write_json(folder / RECORD, record)
    return record
