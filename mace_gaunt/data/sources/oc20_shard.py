"""Shards of OC20's raw release: N.extxyz.xz with frames, N.txt.xz with a line about each."""

import re
from collections.abc import Iterator
from functools import cached_property
from itertools import islice
from pathlib import Path

import ase

from mace_gaunt.data.sources.contract import BadRecord
from mace_gaunt.data.sources.extxyz import Extxyz
from mace_gaunt.data.sources.frame_text import STREAM_ERRORS
from mace_gaunt.data.sources.names import bare_stem, open_stream

LINE = re.compile(rb"random(\d{1,18}),frame(\d{1,18}),([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*")
MAX_LINE = 1000
LINES_LOOKED_AT = 20


def text_beside(path: Path) -> Path | None:
    """The text of a shard, None when the file is no shard of OC20.

    It is one when a text of the same name has lines as OC20 writes them. Where the text is damaged, or the name is a
    number as in the release, no such line is needed: its frames are refused, rather than read without what it says.
    """
    for suffix in (".txt.xz", ".txt.gz", ".txt"):
        text = path.with_name(bare_stem(path) + suffix)
        if text.is_file():
            lines, damage = _read_lines(text, LINES_LOOKED_AT)
            is_shard = damage is not None or bare_stem(path).isdigit() or any(map(LINE.fullmatch, lines))
            return text if is_shard else None
    return None


class Oc20Shard(Extxyz):
    """A shard of the raw release: total energies, and for each frame its system, step and reference energy."""

    format = "OC20 shard"

    def __init__(self, path: Path, text: Path) -> None:
        """Keep the names.

        Args:
            path: The frames.
            text: The lines about them.
        """
        super().__init__(path)
        self.text = text

    def __len__(self) -> int:
        return self._n_frames + (self._behind(self._n_frames) is not None)

    @property
    def files(self) -> tuple[Path, ...]:
        return self.path, self.text

    @property
    def _lines(self) -> list[bytes]:
        return self._text[0]

    @cached_property
    def _text(self) -> tuple[list[bytes], str | None]:
        """The lines, and why there are no more where the file is damaged."""
        return _read_lines(self.text)

    def read(self, start: int = 0, stop: int | None = None) -> Iterator[ase.Atoms | BadRecord]:
        index = start
        for record in super().read(start, stop):
            yield self._join(index, record)
            index += 1
        at_end = stop is None or index < stop
        # Where nothing was read, the start may lie behind the end.
        if at_end and (index > start or index == self._n_frames) and (reason := self._behind(index)):
            yield BadRecord(self.path, index, reason)

    def _behind(self, n_frames: int) -> str | None:
        """What is wrong with the text behind the lines of the frames."""
        n_more = len(self._lines) - n_frames
        if n_more > 0:
            return f"the file ends here, but {self.text.name} has {n_more} more lines: frames are lost"
        damage = self._text[1]
        return f"{self.text.name}: {damage}" if damage and n_more == 0 else None

    def _join(self, index: int, record: ase.Atoms | BadRecord) -> ase.Atoms | BadRecord:
        """A frame with what its line says."""
        if isinstance(record, BadRecord):
            return record
        if index >= len(self._lines):
            reason = self._text[1] or f"it has {len(self._lines)} lines"
            return BadRecord(self.path, index, f"no line of {self.text.name} belongs to it: {reason}")
        line = self._lines[index]
        match = LINE.fullmatch(line)
        if match is None:
            shown = line[:60].decode(errors="replace").strip()
            expected = "random<system>,frame<step>,<reference energy>"
            reason = f"line {index + 1} of {self.text.name} is {shown!r}, expected {expected}"
            return BadRecord(self.path, index, reason)
        record.info |= {"sid": int(match[1]), "fid": int(match[2]), "reference_energy": float(match[3])}
        record.info["energy_reference"] = "total"
        return record


def _read_lines(path: Path, limit: int | None = None) -> tuple[list[bytes], str | None]:
    """Lines that are not blank, and the error that ended them."""
    lines: list[bytes] = []
    try:
        with open_stream(path) as stream:
            for line in islice(iter(lambda: stream.readline(MAX_LINE), b""), limit):
                lines.append(line)
    except STREAM_ERRORS as error:
        return lines, f"it is cut off or damaged after {len(lines)} lines: {error}"
    while lines and not lines[-1].strip():
        lines.pop()
    return lines, None
