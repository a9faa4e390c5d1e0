"""One training at a time in a folder."""

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from mace_gaunt.errors import UserError

LOCK = ".lock"
"""A file of the folder that the process which trains in it keeps locked. A killed one leaves it, unlocked."""


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Keep other processes from training in a folder as long as this one does.

    Args:
        folder: The folder; it is there.

    Raises:
        UserError: If another process trains in it.
    """
    with (folder / LOCK).open("a+") as file:
        if not try_lock(file):
            # Some file systems of clusters are mounted without locks.
            print(f"no lock on {file.name}: do not start this run twice at a time", flush=True)
        try:
            file.truncate(0)
            file.write(f"process {os.getpid()} on {os.uname().nodename}\n")
            file.flush()
            yield
        finally:
            (folder / LOCK).unlink(missing_ok=True)


def check_not_held(folder: Path) -> None:
    """Refuse a folder in which another process trains; changes nothing. Not within `held`: it would end that lock.

    Args:
        folder: The folder; it need not be there.

    Raises:
        UserError: If there is one.
    """
    if os.access(folder / LOCK, os.R_OK | os.W_OK):
        with (folder / LOCK).open("r+") as file:
            try_lock(file)


def is_empty(folder: Path) -> bool:
    """Whether a folder is not there or holds nothing but the file of its lock."""
    return not folder.exists() or all(entry.name == LOCK for entry in folder.iterdir())


def try_lock(file: IO[str]) -> bool:
    """Lock a file until it is closed or this process has ended, however it ends; its children do not inherit the lock.

    Args:
        file: LOCK of a folder, open for reading and writing.

    Returns:
        False where the file system knows no locks.

    Raises:
        UserError: If another process has locked it.
    """
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EAGAIN):
            return False
        raise in_use(file) from error
    if os.fstat(file.fileno()).st_nlink == 0:
        # Its holder removed it between our opening and our locking: the next one would lock another file.
        raise in_use(file)
    return True


def in_use(file: IO[str]) -> UserError:
    """The error that says who holds the lock of a folder."""
    file.seek(0)
    holder = file.read().strip() or "another process"
    return UserError(
        f"{Path(file.name).parent} is in use: {holder} trains in it. Wait for its end, stop it (SIGTERM: it saves "
        "first), or choose another run=NAME."
    )
