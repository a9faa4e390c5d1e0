"""ASE's SQLite databases (.db)."""

import sqlite3
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

import ase
import ase.db

from mace_gaunt.data.sources.contract import BadRecord, Source
from mace_gaunt.data.sources.oc20_info import number_identifiers
from mace_gaunt.data.sources.reasons import reason_of
from mace_gaunt.errors import UserError


class AseDatabase(Source):
    """A database; the key-value pairs and data of a row are in the info dictionary."""

    format = "ASE database"

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        try:
            with ase.db.connect(path, type="db") as database:
                self._n_rows = database.count()
        except Exception as error:  # the database raises whatever it stumbles over
            raise UserError(f"cannot read {path}: {reason_of(error)}") from error
        if not self._n_rows:
            raise UserError(f"no structures in {path}: the database has no rows.")

    def __len__(self) -> int:
        return self._n_rows + (self._damage is not None)

    @cached_property
    def _damage(self) -> str | None:
        """What SQLite's own check finds; a damaged table may lack rows without an error."""
        try:
            database = sqlite3.connect(f"{self.path.resolve().as_uri()}?mode=ro", uri=True)
            try:
                (found,) = database.execute("PRAGMA integrity_check(1)").fetchone()
            finally:
                database.close()
        except sqlite3.Error as error:
            return reason_of(error)
        return None if found == "ok" else str(found)

    def read(self, start: int = 0, stop: int | None = None) -> Iterator[ase.Atoms | BadRecord]:
        stop = len(self) if stop is None else min(stop, len(self))
        index = start
        while index < min(stop, self._n_rows):
            for found in self._rows(index, min(stop, self._n_rows)):
                yield found
                index += 1
        if self._damage is not None and start <= self._n_rows < stop:
            yield BadRecord(self.path, self._n_rows, f"the database is damaged, rows may be lost: {self._damage}")

    def _rows(self, start: int, stop: int) -> Iterator[ase.Atoms | BadRecord]:
        """Rows up to the first bad one, which ends the query."""
        index = start
        try:
            with ase.db.connect(self.path, type="db") as database:
                for row in database.select(offset=start, limit=stop - start):
                    atoms = row.toatoms()
                    atoms.info.update(row.key_value_pairs)
                    atoms.info.update(row.data)
                    number_identifiers(atoms)
                    yield atoms if len(atoms) else BadRecord(self.path, index, "it has no atoms")
                    index += 1
            if index < stop:
                yield BadRecord(self.path, index, f"the database counts {self._n_rows} rows, but this one is not there")
        except Exception as error:
            yield BadRecord(self.path, index, reason_of(error))
