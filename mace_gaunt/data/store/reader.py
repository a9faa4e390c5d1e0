"""Reading a store: frames by their position, sizes without reading frames."""

import os
from collections import OrderedDict
from collections.abc import Sequence
from functools import cached_property
from io import FileIO
from pathlib import Path
from typing import Any

import numpy as np
from torch.utils.data import Dataset

from mace_gaunt.data.atomic_data import AtomicData
from mace_gaunt.data.store.manifest import Manifest, read_manifest
from mace_gaunt.data.store.record import EXTRA_FIELDS, to_frame, unpack
from mace_gaunt.data.store.settings import check_r_max
from mace_gaunt.data.store.shard import FileCheck, ShardFiles, index_path, lmdb_path, read_index
from mace_gaunt.errors import UserError, nearest

REPAIR = "The same `mace-gaunt data prepare` makes shards again that are missing or cut off."


class Store(Dataset[AtomicData]):
    """The frames of a store, as a map-style data set.

    Frames are read with `pread`, never through a memory map: whatever is wrong with a file is an error that names it.
    Every record has a checksum, which is checked whenever it is read, as is that of each index. Files are opened when
    they are needed, in each process anew: a store can be given to the workers of a DataLoader however they are started.

    Attributes:
        folder: Where it is.
        manifest: What it holds and what it was made from.
        atomic_numbers: The elements that node_types count.
        r_max: Cut-off of the neighbour lists (Å).
        starts: Position of the first frame of each shard, and the number of frames, shape [n_shards + 1].
    """

    # An index takes half a MB, and processes may open some 1000 files.
    OPEN_SHARDS = 64

    def __init__(
        self,
        path: str | Path,
        atomic_numbers: Sequence[int] | None = None,
        r_max: float | None = None,
        extra: Sequence[str] = (),
    ) -> None:
        """Read the manifest and look whether all files are there.

        Args:
            path: Folder of the store.
            atomic_numbers: The elements of the model, sorted; None takes those of the store.
            r_max: Cut-off (Å), at most that of the store, which None takes; longer pairs are left out.
            extra: Which of `record.EXTRA_FIELDS` the frames have beside their own.

        Raises:
            UserError: If it is no complete store of this program's schema, a file is missing or has another size, or
                r_max is more than the store has.
        """
        self.folder = Path(path).expanduser()
        self.manifest: Manifest = read_manifest(self.folder)
        if not self.manifest.complete:
            raise UserError(f"{self.folder} is not complete: run the same `mace-gaunt data prepare` again to go on.")
        _check_files(self.folder, self.manifest.shards)
        sums = self.manifest.sums
        self.atomic_numbers = list(sums.atomic_numbers if atomic_numbers is None else atomic_numbers)
        self.r_max = _check_r_max(r_max, self.manifest.settings.r_max, self.folder)
        self.extra = _check_extra(extra)
        self.starts = np.cumsum([0, *(shard.frames for shard in self.manifest.shards)])
        self._open: OrderedDict[int, _OpenShard] = OrderedDict()

    def __len__(self) -> int:
        return int(self.starts[-1])

    def __getitem__(self, position: int) -> AtomicData:
        """The frame at a position, negative ones from the end.

        Raises:
            IndexError: If there is none.
            UserError: If its bytes have changed since the store was prepared, or an element is not in atomic_numbers.
        """
        number, row = self.locate(position)
        shard = self._shard(number)
        try:
            fields = unpack(shard.read(row))
        except (ValueError, OSError) as error:
            raise UserError(
                f"frame {position}, record {row} of {lmdb_path(self.folder, number)}, cannot be read: {error}. "
                f"`mace-gaunt data verify {self.folder}` tells what is damaged."
            ) from error
        if self.r_max < self.manifest.settings.r_max:
            _shorten(fields, self.r_max)
        return to_frame(fields, self.atomic_numbers, self.extra)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_open": OrderedDict()}

    def locate(self, position: int) -> tuple[int, int]:
        """Shard of a frame, and its row there.

        Raises:
            IndexError: If there is no such frame.
        """
        where = position + len(self) if position < 0 else position
        if not 0 <= where < len(self):
            raise IndexError(f"frame {position} of a store with {len(self)} frames")
        number = int(np.searchsorted(self.starts, where, side="right")) - 1
        return number, int(where - self.starts[number])

    def shard_index(self, number: int) -> np.ndarray:
        """What is known of the frames of a shard without reading them, shape [frames], columns `shard.INDEX`.

        Raises:
            UserError: If the index is damaged.
        """
        return self._shard(number).index

    def column(self, name: str) -> np.ndarray:
        """A column of `shard.INDEX`, such as n_atoms or n_pairs (within the store's own cut-off), for all frames.

        Shape [len(self)]. At 134 million frames n_pairs takes half a GB; `shard_index` has one shard's.

        Raises:
            UserError: If an index is damaged.
        """
        return np.concatenate([self._load_index(shard)[name] for shard in self.manifest.shards])

    @cached_property
    def n_atoms(self) -> np.ndarray:
        """Atoms of each frame, shape [len(self)]."""
        return self.column("n_atoms")

    @cached_property
    def n_pairs(self) -> np.ndarray:
        """Pairs of neighbours of each frame within the store's own cut-off, shape [len(self)]."""
        return self.column("n_pairs")

    def _shard(self, number: int) -> "_OpenShard":
        """A shard, opened when it is not; the one unused longest is closed for it."""
        if number in self._open:
            self._open.move_to_end(number)
            return self._open[number]
        shard = self.manifest.shards[number]
        path = lmdb_path(self.folder, number)
        try:
            opened = _OpenShard(FileIO(path), self._load_index(shard))
        except OSError as error:
            raise UserError(f"cannot read {path}: {error.strerror}") from error
        self._open[number] = opened
        if len(self._open) > self.OPEN_SHARDS:
            self._open.popitem(last=False)[1].file.close()
        return opened

    def _load_index(self, shard: ShardFiles) -> np.ndarray:
        path = index_path(self.folder, shard.number)
        try:
            content = path.read_bytes()
            if FileCheck.of(content) != shard.index:
                raise ValueError("its checksum is not that of the manifest")
            index = read_index(content)
            if len(index) != shard.frames:
                raise ValueError(f"it has {len(index)} rows for {shard.frames} frames")
        except (OSError, ValueError) as error:
            raise UserError(f"{path} cannot be read: {error}.") from error
        return index


class _OpenShard:
    """The open LMDB file of a shard and its index."""

    def __init__(self, file: FileIO, index: np.ndarray) -> None:
        self.file, self.index = file, index

    def read(self, row: int) -> bytes:
        """The record of a frame.

        Raises:
            OSError: If the disk fails.
            ValueError: If the file ends before it.
        """
        size = int(self.index["size"][row])
        record = os.pread(self.file.fileno(), size, int(self.index["offset"][row]))
        if len(record) != size:
            raise ValueError("the file ends before it")
        return record


def _check_files(folder: Path, shards: Sequence[ShardFiles]) -> None:
    """Refuse a store that lacks files or has some of another size than the manifest says."""
    for shard in shards:
        for path, check in (
            (lmdb_path(folder, shard.number), shard.lmdb),
            (index_path(folder, shard.number), shard.index),
        ):
            try:
                size = path.stat().st_size
            except OSError as error:
                raise UserError(f"{path} cannot be read: {error.strerror}. {REPAIR}") from error
            if size != check.size:
                raise UserError(f"{path} has {size} bytes; the manifest says {check.size}. {REPAIR}")


def _check_r_max(asked: float | None, there: float, folder: Path) -> float:
    if asked is None:
        return there
    if check_r_max(asked) > there:
        raise UserError(f"r_max={asked:g} is more than the {there:g} Å of the neighbour lists in {folder}.")
    return float(asked)


def _check_extra(names: Sequence[str]) -> tuple[str, ...]:
    for name in names:
        if name not in EXTRA_FIELDS:
            raise UserError(f"a store has no '{name}' beside the fields of frames.{nearest(name, EXTRA_FIELDS)}")
    return tuple(names)


def _shorten(fields: dict[str, Any], r_max: float) -> None:
    """Leave out the pairs that are not nearer than r_max."""
    (senders, receivers), shifts, positions = fields["pair_index"], fields["shifts"], fields["positions"]
    near = np.linalg.norm(positions[receivers] - positions[senders] + shifts, axis=1) < r_max
    fields["pair_index"], fields["shifts"] = fields["pair_index"][:, near], shifts[near]
