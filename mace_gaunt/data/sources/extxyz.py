"""Extended XYZ, plain, .gz or .xz: any data set's, and the relaxations of OC20."""

import io
from collections.abc import Iterator
from functools import cached_property, partial
from itertools import islice
from pathlib import Path
from typing import Any

import ase
from ase.io.extxyz import key_val_str_to_dict, read_extxyz

from mace_gaunt.data.sources.contract import BadRecord, Source
from mace_gaunt.data.sources.frame_text import FrameText, split_frames
from mace_gaunt.data.sources.oc20_info import mark_relaxation, number_identifiers
from mace_gaunt.errors import UserError


class Extxyz(Source):
    """A file of the extxyz format; random<sid>.extxyz is a relaxation of OC20, whose energies are total."""

    format = "extxyz"

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        try:
            path.open("rb").close()
        except OSError as error:
            raise UserError(f"cannot read {path}: {error.strerror}") from error

    def __len__(self) -> int:
        return self._n_frames

    @cached_property
    def _n_frames(self) -> int:
        return sum(1 for _ in split_frames(self.path))

    def read(self, start: int = 0, stop: int | None = None) -> Iterator[ase.Atoms | BadRecord]:
        for index, text in enumerate(islice(split_frames(self.path), start, stop), start):
            yield self._record(index, text)

    def _record(self, index: int, text: FrameText) -> ase.Atoms | BadRecord:
        found = parse_frame(text)
        if isinstance(found, str):
            return BadRecord(self.path, index, found)
        number_identifiers(found)
        mark_relaxation(found, self.path, index)
        return found


def parse_frame(text: FrameText) -> ase.Atoms | str:
    """The structure of a frame, or the reason why there is none."""
    if text.reason is not None:
        return text.reason
    for key in (b"Lattice=", b"Properties="):
        if text.lines[1].count(key) > 1:
            return f"{key.decode()} is there twice"
    try:
        lines = b"".join(text.lines).decode().replace("\r\n", "\n")
        n_values = max((len(line.split()) for line in text.lines[2:3]), default=0)
        atoms = next(iter(read_extxyz(io.StringIO(lines), 0, properties_parser=partial(_read_comment, n_values))))
    except Exception as error:  # the parser raises whatever it stumbles over
        return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return atoms if len(atoms) else "it has no atoms"


def _read_comment(n_values: int, line: str) -> dict[str, Any]:
    """What the line of a frame says, if an atom has the columns that it tells: the parser makes all of them first."""
    info: dict[str, Any] = key_val_str_to_dict(line)
    columns = max(map(int, str(info.get("Properties", "")).split(":")[2::3]), default=0)
    if columns > n_values:
        raise ValueError(f"Properties tells of {columns} columns, but the first atom has {n_values} values")
    return info
