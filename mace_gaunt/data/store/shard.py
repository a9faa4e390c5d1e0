"""A shard: an LMDB file of records, and beside it an index that says where each lies and what size its frame has."""

import hashlib
import io
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import lmdb
import numpy as np

from mace_gaunt.data.atomic_data import AtomicData
from mace_gaunt.data.store.record import pack, read_content
from mace_gaunt.files import sync_folder, temporary, write_whole

# One row per frame. `offset` counts from the start of the LMDB file, so that reading needs no memory map: a file cut
# off or on a failing disk is an error message, where a map would be a bus error.
INDEX = np.dtype(
    [
        ("offset", "<u8"),
        ("size", "<u4"),
        ("n_atoms", "<u4"),
        ("n_pairs", "<u4"),
        ("source", "<u4"),
        ("record", "<u8"),
        ("energy", "<f8"),
        ("sid", "<i8"),
        ("fid", "<i8"),
    ]
)

# LMDB gives each value whole pages of 4 kB; a value of many records wastes little of its last page.
BLOCK_BYTES = 2**17


@dataclass(frozen=True)
class FileCheck:
    """What a file has to be.

    Attributes:
        size: Its size in bytes.
        sha256: Of its content.
    """

    size: int
    sha256: str

    @classmethod
    def of(cls, content: bytes) -> "FileCheck":
        """The check of some content."""
        return cls(len(content), hashlib.sha256(content).hexdigest())


@dataclass(frozen=True)
class ShardFiles:
    """The files of a shard.

    Attributes:
        number: Position in the store, from 0.
        frames: Number of records.
        lmdb: Check of the LMDB file.
        index: Check of the index.
        content_sha256: Of the uncompressed records in their order: the same whatever compressed them.
    """

    number: int
    frames: int
    lmdb: FileCheck
    index: FileCheck
    content_sha256: str

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "ShardFiles":
        """From what `to_json` gave."""
        return cls(**values | {"lmdb": FileCheck(**values["lmdb"]), "index": FileCheck(**values["index"])})

    def intact(self, folder: Path) -> bool:
        """Whether both files are there with the right sizes."""
        return all(
            path.is_file() and path.stat().st_size == check.size
            for path, check in (
                (lmdb_path(folder, self.number), self.lmdb),
                (index_path(folder, self.number), self.index),
            )
        )


def lmdb_path(folder: Path, number: int) -> Path:
    """The LMDB file of a shard."""
    return folder / f"{number:05d}.lmdb"


def index_path(folder: Path, number: int) -> Path:
    """The index of a shard."""
    return folder / f"{number:05d}.npy"


class ShardContent:
    """The records of a shard while they are gathered, in memory."""

    def __init__(self) -> None:
        """No records yet."""
        self.records: list[bytes] = []
        self.rows: list[tuple[Any, ...]] = []
        self._content = hashlib.sha256()

    def add(self, frame: AtomicData, extra: dict[str, Any], source: int, record: int) -> None:
        """Append a frame.

        Args:
            frame: The frame.
            extra: See `record.pack`.
            source: Number of its source in the manifest.
            record: Position in the source.
        """
        packed = pack(frame, extra)
        self.records.append(packed)
        self._content.update(read_content(packed))
        energy, sid, fid = (frame[name].item() for name in ("energy", "sid", "fid"))
        n_pairs = frame.pair_index.shape[1]
        self.rows.append((0, len(packed), frame.num_nodes, n_pairs, source, record, energy, sid, fid))

    @property
    def sha256(self) -> str:
        """Of the uncompressed records so far."""
        return self._content.hexdigest()

    def write(self, folder: Path, number: int) -> ShardFiles:
        """Write both files: under temporary names, synced, then renamed.

        Args:
            folder: The store.
            number: Of the shard.

        Returns:
            What was written.

        Raises:
            OSError: If they cannot be written.
        """
        blocks = _blocks(self.records)
        partial = temporary(lmdb_path(folder, number))
        _write_lmdb(partial, blocks)
        content = partial.read_bytes()
        index = np.array(self.rows, dtype=INDEX)
        index["offset"] = _offsets(content, blocks, index["size"])
        table = io.BytesIO()
        np.save(table, index, allow_pickle=False)
        write_whole(index_path(folder, number), table.getvalue())
        partial.replace(lmdb_path(folder, number))
        files = ShardFiles(number, len(index), FileCheck.of(content), FileCheck.of(table.getvalue()), self.sha256)
        sync_folder(folder)
        return files


def read_index(content: bytes) -> np.ndarray:
    """The index in the content of its file.

    Returns:
        Shape [frames], dtype INDEX.

    Raises:
        ValueError: If it is none.
    """
    try:
        index = np.load(io.BytesIO(content), allow_pickle=False)
    except Exception as error:  # numpy's reader raises whatever it stumbles over, SyntaxError among them
        raise ValueError(f"it is no .npy file: {error}") from error
    if not isinstance(index, np.ndarray):
        raise ValueError("it holds several arrays")
    if index.dtype != INDEX or index.ndim != 1:
        raise ValueError(f"an index has the columns {', '.join(INDEX.names or ())}, this file has {index.dtype}")
    return index


def _blocks(records: Sequence[bytes]) -> list[bytes]:
    """The records joined into values of at least BLOCK_BYTES."""
    blocks: list[list[bytes]] = []
    size = BLOCK_BYTES
    for record in records:
        if size >= BLOCK_BYTES:
            blocks.append([])
            size = 0
        blocks[-1].append(record)
        size += len(record)
    return [b"".join(block) for block in blocks]


def _write_lmdb(path: Path, blocks: Sequence[bytes]) -> None:
    """Keys are b"00000000", b"00000001", ..., values the blocks; the same blocks give the same bytes."""
    path.unlink(missing_ok=True)
    pages = sum(len(block) // 4096 + 2 for block in blocks)
    try:
        with lmdb.open(str(path), subdir=False, lock=False, map_size=2**20 + 2 * 4096 * pages) as environment:
            with environment.begin(write=True) as transaction:
                for number, block in enumerate(blocks):
                    transaction.put(b"%08d" % number, block, append=True)
            environment.sync(True)
    except lmdb.Error as error:
        raise OSError(f"cannot write {path}: {error}") from error


def _offsets(content: bytes, blocks: Sequence[bytes], sizes: np.ndarray) -> np.ndarray:
    """Where each record lies in an LMDB file that holds the blocks."""
    starts: list[int] = []
    for block in blocks:
        # LMDB keeps a large value in one piece; any place with the same bytes is as good.
        found = content.find(block, starts[-1] if starts else 0)
        starts.append(found if found >= 0 else content.index(block))
    ends = np.cumsum(sizes)
    block_ends = np.cumsum([len(block) for block in blocks])
    within = np.searchsorted(block_ends, ends)
    block_starts = block_ends - np.array([len(block) for block in blocks], dtype=np.int64)
    return np.array(starts, dtype=np.int64)[within] + (ends - sizes) - block_starts[within] if len(ends) else ends
