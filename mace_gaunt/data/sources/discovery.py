"""From a path to its sources: the format of a file by name and content, the data files of a folder."""

import logging
import os
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import ase

from mace_gaunt.data.sources.ase_database import AseDatabase
from mace_gaunt.data.sources.ase_trajectory import AseTrajectory
from mace_gaunt.data.sources.aselmdb import AseLmdb
from mace_gaunt.data.sources.contract import BadRecord, Source
from mace_gaunt.data.sources.extxyz import Extxyz
from mace_gaunt.data.sources.lmdb_pages import DamagedPageError, LmdbFile
from mace_gaunt.data.sources.names import bare_suffix, in_numeric_order
from mace_gaunt.data.sources.oc20_shard import Oc20Shard, text_beside
from mace_gaunt.data.sources.ocp_lmdb import OcpLmdb
from mace_gaunt.data.sources.pickle_files import PickledGraphs
from mace_gaunt.errors import UserError

log = logging.getLogger(__name__)

# Files that lie beside data and are none themselves, by their suffix or the end of their name.
SIDE_FILES = (".txt", ".txt.xz", ".txt.gz", ".json", ".npz", "-lock", "lock.mdb")

# What files begin with, at a position.
CONTENTS = {
    "an LMDB file": (16, b"\xde\xc0\xef\xbe"),
    "an SQLite database": (0, b"SQLite format 3\0"),
    "an ASE trajectory": (0, b"- of Ulm"),
    "a zip archive": (0, b"PK\x03\x04"),
    "compressed by gzip": (0, b"\x1f\x8b"),
    "compressed by xz": (0, b"\xfd7zXZ\0"),
    "an HDF5 file": (0, b"\x89HDF\r\n\x1a\n"),
    "a pickle": (0, b"\x80"),
}
EMPTY = "empty"
LOOKED_AT = 64
RECORDS_LOOKED_AT = 9


def open_source(path: Path) -> Source:
    """A file of records.

    Args:
        path: The file. Its suffix says what it is; whether an LMDB holds OCP's graphs or ASE's rows, and whether an
            extxyz file is a shard of OC20, is seen from the content.

    Returns:
        Its records.

    Raises:
        UserError: If it is missing, of an unknown kind, not what its name says, or damaged so that no record can be
            found in it.
    """
    check_kind(path)
    opener, expected = KINDS[bare_suffix(path)]
    expected = COMPRESSED.get(path.suffix, expected)
    content = _content(path)
    if content == EMPTY:
        raise UserError(f"no structures in {path}: the file is empty.")
    if content is not None and content not in expected:
        raise UserError(f"cannot read {path}: it is {content}, not {' or '.join(expected)} as its name says.")
    return opener(path)


def check_kind(path: Path) -> None:
    """Stop when the name of a file is not that of a file of structures.

    Raises:
        UserError: Names the kinds that can be read.
    """
    if not _is_known(path):
        raise UserError(_unknown(path))


def find_sources(path: Path) -> list[Source]:
    """All data files at a path.

    Args:
        path: A file, or a folder that is searched with all it contains. `*.txt[.xz]`, `*.json`, `*.npz` and `*-lock`
            are side files; others of unknown kinds are left out with a warning. Where a file is there plain and
            compressed, the plain one is taken.

    Returns:
        At least one source, in numeric order (2.lmdb before 10.lmdb). A file of a folder that cannot be opened is a
        source of one bad record.

    Raises:
        UserError: If a file cannot be opened, or a folder has no data.
    """
    if not path.is_dir():
        return [open_source(path)]
    files = sorted(_walk(path), key=lambda file: in_numeric_order(file.relative_to(path)))
    known = [file for file in files if _is_known(file)]
    there = set(known)
    sources = [
        _open_or_refuse(file) for file in known if file.suffix not in COMPRESSED or file.with_suffix("") not in there
    ]
    unknown = [file.name for file in files if file not in there]
    if unknown:
        log.warning("%s: %d files of unknown kinds are left out: %s", path, len(unknown), ", ".join(unknown[:5]))
    if not sources:
        raise UserError(f"{path} is a folder without files of structures; known are {', '.join(KINDS)}.")
    return sources


def is_side_file(path: Path) -> bool:
    """Whether a file lies beside data and holds none."""
    return path.name.endswith(SIDE_FILES) or path.name.startswith(".")


class RefusedFile(Source):
    """A file that cannot be opened, as one bad record, so that it is counted with the others."""

    format = "refused"

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(path)
        self.reason = reason

    def __len__(self) -> int:
        return 1

    def read(self, start: int = 0, stop: int | None = None) -> Iterator[ase.Atoms | BadRecord]:
        yield from [BadRecord(self.path, 0, self.reason)][start:stop]


def _walk(folder: Path) -> Iterator[Path]:
    for root, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (file for name in names if not is_side_file(file := Path(root, name)))


def _open_or_refuse(path: Path) -> Source:
    try:
        return open_source(path)
    except UserError as error:
        return RefusedFile(path, str(error).removeprefix(f"cannot read {path}: "))


def _is_known(path: Path) -> bool:
    return bare_suffix(path) in (TEXT if path.suffix in COMPRESSED else KINDS)


def _open_text(path: Path) -> Source:
    text = text_beside(path)
    return Extxyz(path) if text is None else Oc20Shard(path, text)


def _open_lmdb(path: Path) -> Source:
    """Graphs are pickles, rows of ASE zlib streams; damage of some records does not decide."""
    file = LmdbFile(path)
    if not file.n_entries:
        raise UserError(f"no structures in {path}: its table is empty.")
    firsts = []
    with path.open("rb") as stream:
        for entry in islice(file.entries(), RECORDS_LOOKED_AT):
            try:
                firsts.append(b"" if isinstance(entry, DamagedPageError) else file.read(stream.fileno(), entry[1])[:1])
            except DamagedPageError:
                continue
    n_pickles, n_rows = firsts.count(b"\x80"), firsts.count(b"x")
    is_rows = n_rows > n_pickles or (n_rows == n_pickles and path.suffix == ".aselmdb")
    return AseLmdb(path) if is_rows else OcpLmdb(path)


def _content(path: Path) -> str | None:
    """What a file is by its first bytes, EMPTY when it has none, None when that cannot be told."""
    try:
        with path.open("rb") as stream:
            head = stream.read(LOOKED_AT)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    if not head:
        return EMPTY
    return next((name for name, (start, magic) in CONTENTS.items() if head[start : start + len(magic)] == magic), None)


def _unknown(path: Path) -> str:
    known = f"known are {', '.join(KINDS)}, the first two also as .gz and .xz"
    if path.suffix == ".json":
        return f"cannot tell what {path} is: JSON is not read (`ase convert` makes an .extxyz of a database); {known}."
    if is_side_file(path):
        return f"{path} is a side file, which holds no structures of its own; {known}."
    return f"cannot tell what {path} is: {known}."


TEXT = (".xyz", ".extxyz")
_PICKLES = ("a pickle", "a zip archive")
# Suffix -> how it is opened, and what its content can be.
KINDS: dict[str, tuple[Callable[[Path], Source], tuple[str, ...]]] = {
    ".xyz": (_open_text, ("text",)),
    ".extxyz": (_open_text, ("text",)),
    ".db": (AseDatabase, ("an SQLite database",)),
    ".traj": (AseTrajectory, ("an ASE trajectory",)),
    ".lmdb": (_open_lmdb, ("an LMDB file",)),
    ".aselmdb": (_open_lmdb, ("an LMDB file",)),
    ".mdb": (_open_lmdb, ("an LMDB file",)),
    ".pt": (PickledGraphs, _PICKLES),
    ".pth": (PickledGraphs, _PICKLES),
    ".pkl": (PickledGraphs, _PICKLES),
    ".pickle": (PickledGraphs, _PICKLES),
}
COMPRESSED = {".gz": ("compressed by gzip",), ".xz": ("compressed by xz",)}
