"""What the names of files tell: format, compression, and their order."""

import gzip
import lzma
import re
from io import BufferedReader, RawIOBase
from pathlib import Path
from typing import Any, BinaryIO

# Both modules have `open` and `decompress`.
COMPRESSORS = {".gz": gzip, ".xz": lzma}

NUMBER = re.compile(r"(\d+)")


def bare_suffix(path: Path) -> str:
    """The suffix without that of the compression: ".xyz" for train.xyz.gz."""
    return Path(path.stem).suffix if path.suffix in COMPRESSORS else path.suffix


def bare_stem(path: Path) -> str:
    """The name without its suffixes: "train" for train.xyz.gz."""
    return Path(path.stem).stem if path.suffix in COMPRESSORS else path.stem


def open_stream(path: Path) -> BinaryIO:
    """The bytes of a file, decompressed where its suffix says so.

    Raises:
        OSError: If it cannot be opened. What is wrong with a compressed stream shows when it is read.
    """
    if path.suffix not in COMPRESSORS:
        return path.open("rb")
    # Without a buffer in C, lines of a compressed file take five times as long.
    return BufferedReader(_Decompressed(COMPRESSORS[path.suffix].open(path, "rb")), 1 << 16)


class _Decompressed(RawIOBase):
    """A compressed file in pieces as they come: of one that is cut off, all that is there."""

    def __init__(self, file: gzip.GzipFile | lzma.LZMAFile) -> None:
        self._file = file

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        piece = self._file.read1(len(buffer))
        buffer[: len(piece)] = piece
        return len(piece)

    def close(self) -> None:
        self._file.close()
        super().close()


def in_numeric_order(path: Path) -> list[tuple[int, str]]:
    """Sort key that puts 2.lmdb before 10.lmdb."""
    # Split by groups of digits, every second part is one.
    return [(int(part), "") if k % 2 else (0, part) for k, part in enumerate(NUMBER.split(str(path)))]
