"""Text of extxyz files, cut into frames without being parsed: what is damaged costs its own frame and no other."""

import lzma
import zlib
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mace_gaunt.data.sources.names import open_stream

# What a stream raises that is cut off or damaged (OSError: gzip's BadGzipFile, and the disk's own).
STREAM_ERRORS = (EOFError, lzma.LZMAError, zlib.error, OSError)

MAX_LINE = 1 << 24
MAX_ATOMS = 10_000_000


@dataclass(frozen=True)
class FrameText:
    """The lines of one frame, or why there is none.

    Attributes:
        lines: Number of atoms, comment, atoms, cell vectors (VEC) if there are any; empty when damaged.
        reason: What is wrong, None when nothing is.
    """

    lines: list[bytes]
    reason: str | None = None


def split_frames(path: Path) -> Iterator[FrameText]:
    """Cut a file of the extxyz format into frames.

    A number of atoms is wrong when another atom follows them, or when they cover the number of the next frame. After
    damage the next line that can be a number of atoms begins the next frame.

    Args:
        path: The file, maybe compressed.

    Yields:
        Each frame in order; a stream that is cut off or damaged ends with one that says so.
    """
    with _Lines(path) as lines:
        while (line := lines.next_filled()) is not None:
            yield _frame(lines, line)
        if lines.error is not None and not lines.reported:
            yield FrameText([], lines.error)


def _frame(lines: "_Lines", first: bytes) -> FrameText:
    n_atoms = _count(first)
    if n_atoms is None:
        _skip_to_count(lines, [])
        return FrameText([], f"a number of atoms is expected, but there is {_show(first)}")
    block = [first]
    while len(block) < n_atoms + 2:
        line = lines.next()
        if line is None:
            return _cut_off(lines, block, n_atoms)
        block.append(line)
    while (line := lines.next_filled()) is not None and line.lstrip().startswith(b"VEC"):
        block.append(line)
    if line is None:
        return FrameText(block)
    lines.put_back([line])
    if _count(line) is not None or not _is_misnumbered(block, line):
        return FrameText(block)
    _skip_to_count(lines, block[2:])
    return FrameText([], f"{n_atoms} atoms are announced, but {_show(line)} follows them instead of the next frame")


def _is_misnumbered(block: list[bytes], behind: bytes) -> bool:
    """Whether a frame's number of atoms is too small, so that one follows it, or so large that it covers the next one.

    If it is neither, the frame is sound, and what follows it is the damage.
    """
    atoms = block[2:]
    return bool(atoms) and (
        len(behind.split()) == len(atoms[0].split()) or any(_count(line) is not None for line in atoms)
    )


def _cut_off(lines: "_Lines", block: list[bytes], n_atoms: int) -> FrameText:
    """The file ends inside a frame: it is cut off, or the number is too large and hides other frames."""
    reason = f"the file ends after {max(len(block) - 2, 0)} of {n_atoms} atoms"
    if lines.error is not None:
        reason += f" ({lines.error})"
    lines.reported = True
    _skip_to_count(lines, block[2:])
    return FrameText([], reason)


def _skip_to_count(lines: "_Lines", behind: list[bytes]) -> None:
    """Go on at the next line that can be a number of atoms: first in what was read too far, then in the file."""
    lines.put_back(behind)
    while (line := lines.next_filled()) is not None:
        if _count(line) is not None:
            lines.put_back([line])
            return


def _count(line: bytes) -> int | None:
    """A number of atoms, None when the line is something else."""
    text = line.strip()
    if not text.isdigit() or len(text) > 8:
        return None
    return number if (number := int(text)) <= MAX_ATOMS else None


def _show(line: bytes) -> str:
    return repr(line.strip()[:40].decode(errors="replace"))


class _Lines:
    """Lines of a stream that may end in an error, with some put back."""

    def __init__(self, path: Path) -> None:
        self._stream = open_stream(path)
        self._waiting: deque[bytes] = deque()
        self.error: str | None = None
        self.reported = False

    def __enter__(self) -> "_Lines":
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()

    def next(self) -> bytes | None:
        """The next line, None at the end or when the stream fails (`error` says how)."""
        if self._waiting:
            return self._waiting.popleft()
        if self.error is not None:
            return None
        try:
            return self._stream.readline(MAX_LINE) or None
        except STREAM_ERRORS as error:
            self.error = f"the file is cut off or damaged here: {error}"
            if not isinstance(error, EOFError):
                # The checksum of a stream is known at its end, after its frames were given.
                self.error += "; frames before this may be altered, too"
            return None

    def next_filled(self) -> bytes | None:
        """The next line that is not blank."""
        while (line := self.next()) is not None and not line.strip():
            pass
        return line

    def put_back(self, lines: list[bytes]) -> None:
        self._waiting.extendleft(reversed(lines))
