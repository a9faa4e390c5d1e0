"""Files of structures: extxyz (also .gz, .xz), ASE databases and trajectories, and slices of them."""

import gzip
import hashlib
import io
import lzma
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ase
import ase.db
from ase.io.extxyz import read_extxyz
from ase.io.trajectory import Trajectory

from mace_gaunt.errors import UserError, nearest

COMPRESSION: dict[str, Callable[[bytes], bytes]] = {".gz": gzip.decompress, ".xz": lzma.decompress}
SLICE = re.compile(r"(?P<file>.+)\[(?P<slice>-?\d*:?-?\d*(?::-?\d*)?)\]")


@dataclass(frozen=True)
class Frames:
    """The structures of one file, or of a slice of it.

    Attributes:
        name: What the file was called by the user, for messages.
        path: The file.
        atoms: The structures.
        indices: Position of each in the file, from 0.
        sha256: Of the file as it lies there (compressed or not).
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
    """Read a file of structures.

    Labels stay where ASE puts them (an attached calculator for extxyz, .db and .traj); nothing is computed.

    Args:
        expression: A file, or a file with a Python slice: "train.xyz.gz", "train_mixedT.xyz[334:]", "all.db[::10]".

    Returns:
        At least one frame.

    Raises:
        UserError: If the file is missing, unreadable, empty or of an unknown kind, or the slice selects nothing.
    """
    path, chosen = split_slice(expression)
    check_exists(path)
    sha256, atoms = _read(path)
    if not atoms:
        raise UserError(f"no structures in {path}.")
    indices = list(range(len(atoms)))
    if chosen is not None:
        indices = indices[chosen]
        if not indices:
            raise UserError(f"{expression} selects no frame; the file has {len(atoms)}.")
    return Frames(str(expression), path, [atoms[i] for i in indices], indices, sha256)


def split_slice(expression: str | Path) -> tuple[Path, slice | None]:
    """Split "FILE[a:b]" into the file and the slice, None when there is none (a file so named goes first)."""
    path = Path(expression).expanduser()
    match = SLICE.fullmatch(str(path))
    if match is None or path.exists():
        return path, None
    parts = [int(part) if part else None for part in match["slice"].split(":")]
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
    if path.is_dir():
        raise UserError(f"{path} is a folder; a file of structures is needed.")
    if not path.exists():
        beside = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
        hint = nearest(path.name, beside) if beside else f" The folder {path.parent} does not exist or is empty."
        raise UserError(f"no file {path}.{hint}")
    if bare_suffix(path) not in READERS:
        known = ", ".join(READERS)
        raise UserError(f"cannot tell what {path} is: known are {known}, the first two also as .gz and .xz.")


def bare_suffix(path: Path) -> str:
    """The suffix without that of the compression: ".xyz" for train.xyz.gz."""
    return Path(path.stem).suffix if path.suffix in COMPRESSION else path.suffix


def bare_stem(path: Path) -> str:
    """The name without its suffixes: "train" for train.xyz.gz."""
    return Path(path.stem).stem if path.suffix in COMPRESSION else path.stem


def _read(path: Path) -> tuple[str, list[ase.Atoms]]:
    """Checksum and structures of a whole file."""
    atoms: list[ase.Atoms] = []
    try:
        content = path.read_bytes()
        for frame in READERS[bare_suffix(path)](path, content):
            atoms.append(frame)
    except Exception as error:  # parsers raise whatever they stumble over
        reason = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        raise UserError(f"cannot read {path}, after {len(atoms)} good frames: {reason}") from error
    return hashlib.sha256(content).hexdigest(), atoms


def _read_extxyz(path: Path, content: bytes) -> Iterator[ase.Atoms]:
    # ase.io.read seeks back and forth in the file, which takes 20 times as long when it is compressed.
    text = COMPRESSION.get(path.suffix, bytes)(content).decode()
    return read_extxyz(io.StringIO(text, newline=None), slice(None))


def _read_db(path: Path, _: bytes) -> Iterator[ase.Atoms]:
    with ase.db.connect(path) as database:
        for row in database.select():
            atoms = row.toatoms()
            atoms.info.update(row.key_value_pairs)
            atoms.info.update(row.data)
            yield atoms


def _read_traj(path: Path, _: bytes) -> Iterator[ase.Atoms]:
    with Trajectory(path) as trajectory:
        yield from trajectory


READERS: dict[str, Callable[[Path, bytes], Iterator[Any]]] = {
    ".xyz": _read_extxyz,
    ".extxyz": _read_extxyz,
    ".db": _read_db,
    ".traj": _read_traj,
}
