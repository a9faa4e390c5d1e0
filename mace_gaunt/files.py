"""Files that appear whole or not at all, whatever happens to the process or to the machine."""

import csv
import io
import os
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from mace_gaunt.errors import UserError


def temporary(path: Path) -> Path:
    """Where a file is written before it gets its name: of this process and machine alone."""
    return path.with_name(f".{path.name}.{os.uname().nodename}-{os.getpid()}.partial")


def write_whole(path: Path, content: bytes | str, check: Callable[[Path], None] | None = None) -> None:
    """Write under a temporary name, onto the disk, and rename: what was there stays until the new one is complete.

    Args:
        path: The file.
        content: Its bytes, or its text (UTF-8).
        check: Reads the file before it gets its name, and raises what it finds wrong.

    Raises:
        OSError: If it cannot be written, with the name of the file.
    """
    partial = temporary(path)
    try:
        with partial.open("wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        if check is not None:
            check(partial)
        partial.replace(path)
    except BaseException as error:
        partial.unlink(missing_ok=True)
        if isinstance(error, OSError):
            # A full disk does not say by itself which file it was.
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise
    sync_folder(path.parent)


def open_npz(path: Path) -> Any:
    """An archive of numpy arrays; nothing in it is run.

    Args:
        path: The file.

    Returns:
        What `numpy.load` gives, to be used in a `with`.

    Raises:
        ValueError: If it is no such archive; numpy takes any other file for a pickle, and advises to run it.
        OSError: If it cannot be read.
    """
    import numpy as np  # The command line imports this module before it needs any array.

    with path.open("rb") as file:
        if not zipfile.is_zipfile(file):
            raise ValueError("it is no .npz archive, or was cut off")
    return np.load(path, allow_pickle=False)


@contextmanager
def new_folder(folder: Path) -> Iterator[None]:
    """Make a folder for what is written within; where that fails and the folder is empty, it goes again.

    Args:
        folder: The folder; its parents are made too, and go with it.
    """
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    try:
        yield
    except BaseException:
        with suppress(OSError):
            for path in made:
                path.rmdir()
        raise


def check_writable(path: Path) -> None:
    """Refuse a file or folder that could not be made; makes nothing.

    Args:
        path: It.

    Raises:
        UserError: If what there is of its path may not be written to.
    """
    there = next(part for part in (path.absolute(), *path.absolute().parents) if part.exists())
    if not os.access(there, os.W_OK):
        raise UserError(f"'{path}' cannot be written: '{there}' is read-only. Choose a folder that you may write to.")


def write_csv(
    path: Path, rows: Sequence[Mapping[str, Any]], columns: Sequence[str] | None = None, floats: str = ".6g"
) -> Path:
    """Write rows as a table with a header.

    Args:
        path: The file.
        rows: One mapping per row; None, and what a row lacks, is an empty cell.
        columns: In their order; what else rows have is left out. None: all keys that occur, as they appear.
        floats: Format of floating-point numbers; "" writes all digits.

    Returns:
        The file.
    """
    if columns is None:
        columns = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(
        {name: format(value, floats) if isinstance(value, float) else value for name, value in row.items()}
        for row in rows
    )
    write_whole(path, text.getvalue())
    return path


def sync_folder(folder: Path) -> None:
    """Let renames in a folder survive a loss of power."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
