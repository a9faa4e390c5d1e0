"""ASE's databases in LMDB files (.aselmdb), as fairchem 2 keeps OC20: compressed JSON under the numbers 1, 2, 3, ...

They are read without the package that writes them (`ase-db-backends`), with zlib and json alone.
"""

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import ase

from mace_gaunt.data.sources.contract import BadRecord, Source
from mace_gaunt.data.sources.json_rows import row_structure, unpack
from mace_gaunt.data.sources.lmdb_pages import LmdbFile
from mace_gaunt.data.sources.numbered_records import Slots, find_slots, read_slots

NEXT, DELETED = b"nextid", b"deleted_ids"
SIDE_KEYS = (NEXT, DELETED, b"metadata")


class AseLmdb(Source):
    """An .aselmdb file. Where a record names its reference energy (`ref_energy`), its energy is the total one."""

    format = "aselmdb"

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._file = LmdbFile(path)

    def __len__(self) -> int:
        return len(self._slots)

    @cached_property
    def _slots(self) -> Slots:
        slots = find_slots(self._file, SIDE_KEYS.__contains__)
        try:
            next_number, deleted = self._side(slots, NEXT), self._side(slots, DELETED) or []
            slots.forget(deleted)
            last = max([*slots.numbers[-1:], *deleted], default=0)
            if next_number is not None and next_number > last + 1:
                slots.problems.append(
                    f"the key nextid tells of records up to {next_number - 1}, but the last is {last}"
                )
        except (ValueError, TypeError, OverflowError, RecursionError) as error:
            slots.problems.append(f"the keys nextid or deleted_ids: {error}")
        return slots

    def _side(self, slots: Slots, key: bytes) -> Any:
        if key not in slots.others:
            return None
        with self.path.open("rb") as stream:
            return unpack(self._file.read(stream.fileno(), slots.others[key]))

    def read(self, start: int = 0, stop: int | None = None) -> Iterator[ase.Atoms | BadRecord]:
        slots = self._slots
        for index, value in read_slots(self._file, slots, start, len(slots) if stop is None else stop):
            yield BadRecord(self.path, index, value) if isinstance(value, str) else self._record(index, value)

    def _record(self, index: int, value: bytes) -> ase.Atoms | BadRecord:
        try:
            return row_structure(unpack(value))
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError) as error:
            return BadRecord(self.path, index, f"key {self._slots.numbers[index]}: {error}")
