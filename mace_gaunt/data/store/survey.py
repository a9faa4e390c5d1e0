"""The files that a store is made from: what they are, and how their records are cut into shards."""

import hashlib
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import ase

from mace_gaunt.data import sources
from mace_gaunt.data.readers import split_slice
from mace_gaunt.data.sources.contract import Source
from mace_gaunt.data.sources.discovery import RefusedFile, find_sources, open_source
from mace_gaunt.data.store.energies import told_reference
from mace_gaunt.errors import UserError


@dataclass(frozen=True)
class SourceFile:
    """A file as it was.

    Attributes:
        name: Without its folder.
        size: Its size in bytes.
        sha256: Of its content.
    """

    name: str
    size: int
    sha256: str


@dataclass(frozen=True)
class SourceEntry:
    """A source as it was when the store was prepared.

    Attributes:
        path: Absolute path.
        format: Of `Source`.
        records: Their number, bad ones included.
        energy_reference: What its first good record tells, None when it tells nothing.
        files: The file itself, and what lies beside it and belongs to it.
    """

    path: str
    format: str
    records: int
    energy_reference: str | None
    files: tuple[SourceFile, ...]

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "SourceEntry":
        """From what `to_json` gave."""
        return cls(**values | {"files": tuple(SourceFile(**file) for file in values["files"])})


@dataclass(frozen=True)
class Segment:
    """Consecutive records of one source.

    Attributes:
        path: Of the source.
        source: Number of the source in the manifest.
        start: First record.
        stop: After the last record.
    """

    path: str
    source: int
    start: int
    stop: int


def list_sources(paths: Sequence[str | Path], out: Path) -> list[Path]:
    """The data files that some files and folders hold, in order.

    Args:
        paths: Files and folders.
        out: Folder of the store, which must not be in any of them: its shards would be taken for data.

    Raises:
        UserError: If there are none, one is named twice, or a part of one is asked for.
    """
    for path in paths:
        whole, chosen = split_slice(path)
        if chosen is not None:
            raise UserError(
                f"path={path}: a store is made of whole files. Give {whole}, and take the part where it is used: "
                f"train_file='{out}{str(path)[str(path).rindex('[') :]}', or data.max_train_frames=N."
            )
    inside = [path for path in paths if Path(path).expanduser().resolve() in (out, *out.parents)]
    if inside:
        raise UserError(f"out={out} lies in {inside[0]}, whose files it is made from. Choose a folder outside.")
    found = [source.path.resolve() for path in paths for source in find_sources(Path(path).expanduser())]
    if not found:
        raise UserError(f"no data files in {', '.join(map(str, paths)) or 'nothing'}.")
    twice = sorted({str(path) for path in found if found.count(path) > 1}) if len(set(found)) < len(found) else []
    if twice:
        raise UserError(f"{twice[0]} is named twice.")
    return found


def survey(path: Path, known: SourceEntry | None = None) -> SourceEntry:
    """Look at a source: checksums, number of records, energy reference.

    Args:
        path: The file.
        known: What an earlier look gave; it is taken where the checksums are the same.

    Raises:
        UserError: If it cannot be read.
    """
    with said_before():
        return _look(path, known)


def _look(path: Path, known: SourceEntry | None) -> SourceEntry:
    source = reopen(path)
    files = tuple(_checksum(file) for file in source.files)
    if known is not None and known.files == files:
        return known
    first = next((record for record in source.read() if isinstance(record, ase.Atoms)), None)
    reference = None if first is None else told_reference(first)
    return SourceEntry(str(path), source.format, len(source), reference, files)


@contextmanager
def said_before() -> Iterator[None]:
    """Keep quiet what sources log when they are opened: `list_sources` has opened all of them once."""
    log = logging.getLogger(sources.__name__)
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(level)


def reopen(path: Path) -> Source:
    """A source of `list_sources`; a file of a folder that cannot be opened is a source of one bad record."""
    try:
        return open_source(path)
    except UserError as error:
        return RefusedFile(path, str(error))


def cut(entries: Sequence[SourceEntry], shard_size: int) -> list[list[Segment]]:
    """Cut the records of all sources, one source after the other, into shards.

    Args:
        entries: The sources.
        shard_size: Records of every shard but the last.

    Returns:
        The segments of each shard.
    """
    shards: list[list[Segment]] = []
    room = 0
    for number, source in enumerate(entries):
        start = 0
        while start < source.records:
            if not room:
                shards.append([])
                room = shard_size
            stop = min(start + room, source.records)
            shards[-1].append(Segment(source.path, number, start, stop))
            room -= stop - start
            start = stop
    return shards


def _checksum(path: Path) -> SourceFile:
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    return SourceFile(path.name, path.stat().st_size, digest)
