"""Files of structures in memory: any format of `sources`, a folder of files, and slices of them."""

import hashlib
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import ase

from mace_gaunt.data.elements import check_numbers
from mace_gaunt.data.sources.contract import BadRecord, Source
from mace_gaunt.data.sources.discovery import check_kind, find_sources
from mace_gaunt.data.sources.names import COMPRESSORS, bare_stem, bare_suffix
from mace_gaunt.errors import UserError, nearest

__all__ = [
    "COMPRESSION",
    "Frames",
    "bare_stem",
    "bare_suffix",
    "check_exists",
    "read_frames",
    "split_slice",
    "window",
]

COMPRESSION: dict[str, Callable[[bytes], bytes]] = {suffix: module.decompress for suffix, module in COMPRESSORS.items()}
BOUND = r"(?:-?\d{1,18})?"
SLICE = re.compile(rf"(?P<file>.+)\[(?P<slice>{BOUND}(?::{BOUND}(?::{BOUND})?)?)\]")


@dataclass(frozen=True)
class Frames:
    """The structures of one file, of the files of a folder, or of a slice of them.

    Attributes:
        name: What the file was called by the user, for messages.
        path: The file, or the folder.
        atoms: The structures.
        indices: Position of each in the file, or in all files of the folder one after the other, from 0.
        sha256: Of the file as it lies there (compressed or not); of several, of the list of their names and checksums.
    """

    name: str
    path: Path
    atoms: list[ase.Atoms]
    indices: list[int]
    sha256: str

    def __len__(self) -> int:
        return len(self.atoms)

    def select(self, name: str, positions: Iterable[int]) -> "Frames":
        """Some of the frames, under a name of their own."""
        chosen = list(positions)
        return Frames(name, self.path, [self.atoms[i] for i in chosen], [self.indices[i] for i in chosen], self.sha256)


def read_frames(expression: str | Path) -> Frames:
    """Read a file of structures, or a folder of them.

    Labels stay where ASE puts them (an attached calculator for extxyz, .db and .traj); nothing is computed.

    Args:
        expression: A file or folder, maybe with a Python slice: "train.xyz.gz", "train_mixedT.xyz[334:]",
            "s2ef_train_200K/", "data.0000.lmdb[:1000]", "all.db[::10]".

    Returns:
        At least one frame.

    Raises:
        UserError: If the file is missing, empty or of an unknown kind, a record of it (of the slice, where there is
            one) cannot be read, or the slice selects nothing.
    """
    path, chosen = split_slice(expression)
    check_exists(path)
    sources = find_sources(path)
    start, stop = window(chosen)
    atoms = _read(sources, start, stop)
    indices = list(range(start + len(atoms)))[chosen or slice(None)]
    if not indices:
        n_records = sum(map(len, sources))
        if not n_records:
            raise UserError(f"no structures in {path}.")
        raise UserError(f"{expression} selects no frame; the file has {n_records}.")
    return Frames(str(expression), path, [atoms[i - start] for i in indices], indices, _checksum(sources, path))


def split_slice(expression: str | Path) -> tuple[Path, slice | None]:
    """Split "FILE[a:b]" into the file and the slice, None when there is none (a file so named goes first).

    Raises:
        UserError: If the slice is empty or has the step 0.
    """
    # Other than those of Path, these raise nothing where there is no such user or the name is too long for a file.
    path = Path(os.path.expanduser(expression))
    match = SLICE.fullmatch(str(path))
    if match is None or os.path.exists(path):
        return path, None
    parts = [int(part) if part else None for part in match["slice"].split(":")]
    if parts[2:] == [0]:
        raise UserError(f"{expression}: the step of a slice cannot be 0.")
    if len(parts) > 1:
        return Path(match["file"]), slice(*parts)
    if parts[0] is None:
        raise UserError(f"{expression}: write a slice such as [10:20] or a frame such as [3] in the brackets.")
    return Path(match["file"]), slice(parts[0], parts[0] + 1 or None)


def check_exists(path: Path) -> None:
    """Stop when there is no such file of a known kind.

    Args:
        path: The file, without a slice.

    Raises:
        UserError: Names the nearest file that exists, or the kinds of file that can be read.
    """
    if not os.path.exists(path):
        beside = [entry.name for entry in path.parent.iterdir()] if os.path.isdir(path.parent) else []
        hint = nearest(path.name, beside) if beside else f" The folder {path.parent} does not exist or is empty."
        raise UserError(f"no file {path}.{hint}")
    if not path.is_dir():
        check_kind(path)


def window(chosen: slice | None) -> tuple[int, int | None]:
    """What has to be read, and held in memory meanwhile, for a slice: all where it counts from the end.

    Args:
        chosen: The slice; None for all.

    Returns:
        The first record and the one after the last, None for the end.
    """
    if chosen is None or (chosen.step or 1) < 0 or any((bound or 0) < 0 for bound in (chosen.start, chosen.stop)):
        return 0, None
    return chosen.start or 0, chosen.stop


def _read(sources: Sequence[Source], start: int, stop: int | None) -> list[ase.Atoms]:
    """The records from `start` to before `stop` of all sources one after the other."""
    atoms: list[ase.Atoms] = []
    for record in _chain(sources, start, stop):
        if isinstance(record, BadRecord):
            raise UserError(f"cannot read {record} ({len(atoms)} good frames before it)")
        try:
            check_numbers(record.numbers)
        except UserError as error:
            raise UserError(f"{sources[0].path}, frame {start + len(atoms)}: {error}") from error
        atoms.append(record)
    return atoms


def _chain(sources: Sequence[Source], start: int, stop: int | None) -> Iterator[ase.Atoms | BadRecord]:
    first = 0
    for source in sources:
        last = first + len(source) if len(sources) > 1 else None
        if last is None or last > start:
            yield from source.read(max(start - first, 0), None if stop is None else max(stop - first, 0))
        if last is not None:
            first = last


def _checksum(sources: Sequence[Source], folder: Path) -> str:
    """Of the one file that the sources have, or of the names and checksums of several."""
    files = [file for source in sources for file in source.files]
    sums = [_sha256(file) for file in files]
    if len(files) == 1:
        return sums[0]
    names = [str(file.relative_to(folder)) if folder.is_dir() else file.name for file in files]
    return hashlib.sha256("".join(f"{s}  {n}\n" for s, n in zip(sums, names, strict=True)).encode()).hexdigest()


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
