"""The folder of a store: whose it is, who writes to it, and what is left of work that was cut short."""

import fcntl
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mace_gaunt.data.store.manifest import FORMAT, NAME, Manifest, read_manifest
from mace_gaunt.errors import UserError

SHARD = re.compile(r"\d{5,}\.(lmdb|npy)")
PART = re.compile(r"\d{5,}\.json")
PARTIAL = re.compile(r"\.(\d{5,}\.(lmdb|npy|json)|manifest\.json)\..+\.partial")


@contextmanager
def sole_writer(folder: Path) -> Iterator[None]:
    """Make a folder and keep other processes that prepare a store from it.

    Args:
        folder: The store.

    Raises:
        UserError: If it cannot be made, or another process is at it.
    """
    new = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise UserError(f"out={folder} cannot be a folder: {error.strerror}") from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise UserError(f"another process is preparing {folder}.") from None
    finally:
        os.close(handle)
        if new and not any(folder.iterdir()):
            folder.rmdir()


def find_store(folder: Path, overwrite: bool = False) -> Manifest | None:
    """The store in a folder, None when there is none yet.

    Args:
        folder: Maybe of a store.
        overwrite: Whether a store that is there does not matter, be it damaged.

    Raises:
        UserError: If it holds something else, or a store that cannot be read.
    """
    names = sorted(path.name for path in folder.iterdir() if not PARTIAL.fullmatch(path.name))
    if NAME in names and overwrite and FORMAT.encode() in (folder / NAME).read_bytes():
        return None
    if NAME in names:
        return read_manifest(folder)
    if names:
        raise UserError(f"out={folder} is no store, but holds files ({names[0]}, ...). Choose another folder.")
    return None


def has_parts(folder: Path) -> bool:
    """Whether any shard of a store that is not complete is there."""
    return any(PART.fullmatch(path.name) for path in folder.iterdir())


def remove_store(folder: Path) -> None:
    """Remove the files of a store and nothing else; the manifest last, since without it they are nobody's."""
    _remove(folder, SHARD, PART, PARTIAL)
    (folder / NAME).unlink(missing_ok=True)


def remove_partial(folder: Path) -> None:
    """Remove what processes that were killed had begun."""
    _remove(folder, PARTIAL)


def remove_parts(folder: Path) -> None:
    """Remove what only a store that is not complete needs."""
    _remove(folder, PART, PARTIAL)


def _remove(folder: Path, *patterns: re.Pattern[str]) -> None:
    for path in folder.iterdir():
        if any(pattern.fullmatch(path.name) for pattern in patterns):
            path.unlink()
