"""LMDB files of the Open Catalyst Project: pickled graphs of torch_geometric under the numbers 0, 1, 2, ..."""

import logging
import re
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

import ase

from mace_gaunt.data.sources.contract import BadRecord, Source
from mace_gaunt.data.sources.graph_records import fields_of, item, structure
from mace_gaunt.data.sources.lmdb_pages import DamagedPageError, LmdbFile
from mace_gaunt.data.sources.numbered_records import Slots, find_slots, read_slots
from mace_gaunt.data.sources.pickle_names import DATA_NAMES
from mace_gaunt.data.sources.pickle_objects import DamagedPickleError, RefusedPickleError
from mace_gaunt.data.sources.unpickle import load_plain

log = logging.getLogger(__name__)

# "length", "metadata", ...: a damaged number is not a word.
WORD = re.compile(rb"[A-Za-z][A-Za-z_]{2,63}")


class OcpLmdb(Source):
    """An LMDB of OCP, of any version of torch_geometric.

    Positions, forces and cells are stored in float32 there. Energies are float64 in OC20's own files.
    """

    format = "OCP LMDB"

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._file = LmdbFile(path)

    def __len__(self) -> int:
        return len(self._slots)

    @cached_property
    def _slots(self) -> Slots:
        slots = find_slots(self._file, lambda key: WORD.fullmatch(key) is not None)
        if b"length" in slots.others:
            problem = self._check_length(slots)
            if problem:
                slots.problems.append(problem)
        return slots

    def _check_length(self, slots: Slots) -> str | None:
        """Compare the records with the number of them that the file tells, which is not always true."""
        n_records = len(slots.places)
        try:
            with self.path.open("rb") as stream:
                value = self._file.read(stream.fileno(), slots.others[b"length"])
            told = int(value) if value.isdigit() else item(load_plain(value, DATA_NAMES))
        except (DamagedPageError, RefusedPickleError, DamagedPickleError) as error:
            return f"key b'length': {error}"
        if type(told) is not int:
            return "key b'length' does not hold a whole number"
        if told > n_records:
            return f"key b'length' says {told} records, but there are {n_records}"
        if told < n_records:
            log.info("%s: its length says %d records, there are %d: all are read", self.path, told, n_records)
        return None

    def read(self, start: int = 0, stop: int | None = None) -> Iterator[ase.Atoms | BadRecord]:
        slots = self._slots
        for index, value in read_slots(self._file, slots, start, len(slots) if stop is None else stop):
            yield BadRecord(self.path, index, value) if isinstance(value, str) else self._record(index, value)

    def _record(self, index: int, value: bytes) -> ase.Atoms | BadRecord:
        try:
            return structure(fields_of(load_plain(value, DATA_NAMES)))
        except (ValueError, TypeError) as error:
            return BadRecord(self.path, index, f"key {self._slots.numbers[index]}: {error}")
