"""The records of files, folders and slices of them, one after the other, without keeping any."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import ase

from mace_gaunt.data.readers import check_exists, split_slice
from mace_gaunt.data.sources.contract import BadRecord, Source
from mace_gaunt.data.sources.discovery import RefusedFile, find_sources
from mace_gaunt.errors import UserError


@dataclass(frozen=True)
class RecordFile:
    """One file, or a slice of it.

    Attributes:
        name: What it is called in reports: its path, with its slice if there is one.
        source: Its records.
        chosen: Positions of the records that are meant, ascending; None for all.
    """

    name: str
    source: Source
    chosen: range | None = None

    def __iter__(self) -> Iterator[tuple[int, ase.Atoms | BadRecord]]:
        """Position in the file, and record."""
        if self.chosen is None:
            yield from enumerate(self.source.read())
        elif self.chosen:
            wanted = self.source.read(self.chosen[0], self.chosen[-1] + 1)
            yield from ((index, record) for index, record in enumerate(wanted, self.chosen[0]) if index in self.chosen)

    def __len__(self) -> int:
        return len(self.source) if self.chosen is None else len(self.chosen)


def open_records(expressions: Iterable[str | Path]) -> list[RecordFile]:
    """The files that are meant by paths.

    Args:
        expressions: Files or folders, each maybe with a Python slice as "train.xyz[:100]"; the slice of a folder counts
            through its files.

    Returns:
        The files in order. One that is there but cannot be opened has a single bad record that says why.

    Raises:
        UserError: If none is named, one is missing or of an unknown kind, or a folder has no data.
    """
    files: list[RecordFile] = []
    for expression in expressions:
        path, chosen = split_slice(expression)
        check_exists(path)
        sources = find_sources(path) if path.is_dir() else [_open_or_refuse(path)]
        files += (
            [RecordFile(str(source.path), source) for source in sources] if chosen is None else _cut(sources, chosen)
        )
    if not files:
        raise UserError("name at least one file to inspect.")
    return files


def _open_or_refuse(path: Path) -> Source:
    try:
        (source,) = find_sources(path)
    except UserError as error:
        return RefusedFile(path, str(error).removeprefix(f"cannot read {path}: "))
    return source


def _cut(sources: list[Source], chosen: slice) -> list[RecordFile]:
    """The files in which a slice over all of them has records."""
    lengths = [len(source) for source in sources]
    indices = range(*chosen.indices(sum(lengths)))
    indices = indices if indices.step > 0 else indices[::-1]
    files, first = [], 0
    for source, length in zip(sources, lengths, strict=True):
        inside = [index - first for index in (indices[_rank(indices, first) :])[:1] if index < first + length]
        if inside:
            part = range(inside[0], min(length, indices[-1] + 1 - first), indices.step)
            step = f":{part.step}" if part.step > 1 else ""
            files.append(RecordFile(f"{source.path}[{part[0]}:{part[-1] + 1}{step}]", source, part))
        first += length
    if not files:
        raise UserError(f"the slice of {sources[0].path} selects no record; there are {sum(lengths)}.")
    return files


def _rank(indices: range, least: int) -> int:
    """How many of ascending indices are below a number."""
    return min(len(indices), max(0, -(-(least - indices.start) // indices.step)))
