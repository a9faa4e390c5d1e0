"""Arrays that grow on disk, and .npz files written from them: memory does not grow with the number of frames."""

import os
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np


class Spool:
    """An array to which rows are added. What exceeds `BUFFER` bytes lies in a temporary file without a name.

    Such a file is gone when the process ends, however it ends.

    Attributes:
        dtype: Of the numbers.
        row: Shape of one row.
        length: Number of rows.
    """

    BUFFER = 2**20

    def __init__(self, folder: str | Path, dtype: Any, row: tuple[int, ...] = ()) -> None:
        """Start without rows.

        Args:
            folder: Where the file goes; it exists and has room.
            dtype: Of the numbers.
            row: Shape of one row.
        """
        self.folder, self.dtype, self.row, self.length = folder, np.dtype(dtype), row, 0
        self._file: IO[bytes] | None = None
        self._buffer = bytearray()

    @property
    def row_bytes(self) -> int:
        """Bytes of a row."""
        return self.dtype.itemsize * int(np.prod(self.row, dtype=int))

    def append(self, rows: np.ndarray) -> None:
        """Add rows.

        Args:
            rows: Shape [n, *row]; kept as `dtype`.
        """
        added = np.asarray(rows, dtype=self.dtype).reshape(-1, *self.row)
        self._buffer += added.tobytes()
        self.length += len(added)
        if len(self._buffer) > self.BUFFER:
            self._flush()

    def read(self, start: int, stop: int) -> np.ndarray:
        """The rows from `start` to before `stop`, shape [stop - start, *row]."""
        self._flush()
        size = (stop - start) * self.row_bytes
        content = os.pread(self._file.fileno(), size, start * self.row_bytes) if self._file and size else b""
        return np.frombuffer(content, dtype=self.dtype).reshape(-1, *self.row)

    def chunks(self) -> Iterator[np.ndarray]:
        """All rows in order, at most `BUFFER` bytes at a time."""
        step = max(1, self.BUFFER // self.row_bytes)
        for start in range(0, self.length, step):
            yield self.read(start, min(start + step, self.length))

    def streamed(self) -> "Streamed":
        """All rows as `write_npz` takes them."""
        return Streamed(self.dtype, (self.length, *self.row), self.chunks())

    def _flush(self) -> None:
        if not self._buffer:
            return
        if self._file is None:
            self._file = tempfile.TemporaryFile(dir=self.folder)  # noqa: SIM115 - it lives as long as the spool
        self._file.write(self._buffer)
        self._file.flush()
        self._buffer = bytearray()


@dataclass(frozen=True)
class Streamed:
    """An array that comes in pieces.

    Attributes:
        dtype: Of the numbers.
        shape: Of the whole.
        chunks: Its rows, in order.
    """

    dtype: np.dtype
    shape: tuple[int, ...]
    chunks: Iterator[np.ndarray]


def write_npz(path: str | Path, arrays: Mapping[str, np.ndarray | Streamed]) -> Path:
    """Write arrays as `numpy.savez_compressed` does, without holding those that come in pieces.

    Args:
        path: The file; it appears when it is complete.
        arrays: By name.

    Returns:
        The file as a path.
    """
    path = Path(path)
    part = path.with_name(f"{path.name}.part")
    try:
        with zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, array in arrays.items():
                with archive.open(f"{name}.npy", "w", force_zip64=True) as entry:
                    _write_array(entry, array)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return path


def nearest_folder(path: str | Path) -> Path:
    """The folder itself where it exists, else the nearest above it that does: on the disk where it will be made."""
    folder = Path(path).expanduser().absolute()
    return next(parent for parent in (folder, *folder.parents) if parent.is_dir())


def _write_array(entry: IO[bytes], array: np.ndarray | Streamed) -> None:
    if isinstance(array, np.ndarray):
        np.lib.format.write_array(entry, array, allow_pickle=False)
        return
    description = {
        "descr": np.lib.format.dtype_to_descr(array.dtype), "fortran_order": False, "shape": array.shape
    }  # fmt: skip
    np.lib.format.write_array_header_2_0(entry, description)
    for rows in array.chunks:
        entry.write(np.ascontiguousarray(rows, dtype=array.dtype).tobytes())
