"""ASE's trajectories (.traj)."""

from collections.abc import Iterator
from pathlib import Path

import ase
import numpy as np
from ase.io.trajectory import Trajectory

from mace_gaunt.data.sources.contract import BadRecord, Source
from mace_gaunt.data.sources.oc20_info import mark_relaxation, number_identifiers
from mace_gaunt.data.sources.reasons import reason_of
from mace_gaunt.errors import UserError

# Of the ULM format: the header has 48 bytes; the table of records has 1, 42, 42^2, ... places, and lies in the header
# while one is enough.
HEADER = 48
GROWTH = 42


class AseTrajectory(Source):
    """A trajectory; random<sid>.traj is a relaxation of OC20, whose energies are total."""

    format = "ASE trajectory"

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        try:
            self._length = count_items(path)
            with Trajectory(path) as trajectory:
                len(trajectory)
        except Exception as error:  # the parser raises whatever it stumbles over
            raise UserError(f"cannot read {path}: {reason_of(error)}") from error
        if not self._length:
            raise UserError(f"no structures in {path}.")

    def __len__(self) -> int:
        return self._length

    def read(self, start: int = 0, stop: int | None = None) -> Iterator[ase.Atoms | BadRecord]:
        with Trajectory(self.path) as trajectory:
            for index in range(*slice(start, stop).indices(self._length)):
                try:
                    atoms = trajectory[index]
                    yield self._finish(atoms, index) if len(atoms) else BadRecord(self.path, index, "it has no atoms")
                except Exception as error:
                    yield BadRecord(self.path, index, reason_of(error))

    def _finish(self, atoms: ase.Atoms, index: int) -> ase.Atoms:
        number_identifiers(atoms)
        mark_relaxation(atoms, self.path, index)
        return atoms


def count_items(path: Path) -> int:
    """Number of records, checked against the table of their places, which is longer than the number when that is wrong.

    Raises:
        ValueError: If both do not fit together.
    """
    with path.open("rb") as file:
        head = file.read(HEADER)
        if head[:8] not in (b"- of Ulm", b"AFFormat") or len(head) < HEADER:
            raise ValueError("it does not begin as an ASE trajectory does")
        n_items, table = (int(n) for n in np.frombuffer(head, "<i8", 2, 32))
        capacity = 1
        while capacity < n_items:
            capacity *= GROWTH
        file.seek(0, 2)
        if n_items < 0 or table < HEADER or table + 8 * n_items > file.tell() or (table == HEADER) != (capacity == 1):
            raise ValueError(f"the header says {n_items} records, which its table at byte {table} cannot hold")
        file.seek(table)
        places = np.frombuffer(file.read(8 * capacity)[: 8 * capacity], "<i8")
    if (places[:n_items] <= 0).any() or (places[n_items:] > 0).any():
        raise ValueError(f"the header says {n_items} records, but its table lists {int((places > 0).sum())}")
    return n_items
