"""The files of a simulation."""

import csv
import json
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import ase
import ase.io
import numpy as np
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms

from mace_gaunt.simulation.health import Sample
from mace_gaunt.simulation.trajectories import check_length, open_trajectory

TABLE, HEALTH, REPORT, PLOT, LAST_GOOD = "md.csv", "health.json", "health.txt", "md.png", "last_good.extxyz"
# What belongs to the end of a run, and is untrue while it goes on.
ENDINGS = (HEALTH, REPORT, PLOT, LAST_GOOD)
KEPT_ARRAYS = ("masses", "tags")


def files(trajectory: str) -> tuple[str, ...]:
    """Names of all files that a simulation writes, the checkpoint apart.

    Args:
        trajectory: Its format.
    """
    return (f"trajectory.{trajectory}", TABLE, *ENDINGS)


@dataclass(frozen=True)
class Marks:
    """How far the files are at a checkpoint: columns and bytes of md.csv, the mark of the trajectory."""

    columns: list[str]
    table: int
    trajectory: int


class Recorder:
    """Writes trajectory and table while a simulation runs, so that it can be watched, and nothing is lost with it."""

    def __init__(
        self, folder: Path, interval: int, trajectory: str, columns: Sequence[str], marks: Marks | None = None
    ) -> None:
        """Make the folder and empty files, or cut those of an earlier part of the run back to its checkpoint.

        Args:
            folder: Where to; made if absent.
            interval: Steps between two records.
            trajectory: Format of the trajectory.
            columns: Columns of md.csv.
            marks: Where the files are to be cut; None begins new ones.

        Raises:
            UserError: If a file is gone, or shorter than its mark; all files are left as they are then.
        """
        folder.mkdir(parents=True, exist_ok=True)
        if marks is not None:
            check_length(folder / TABLE, marks.table)
        self.folder, self.interval = folder, interval
        self.columns = list(columns) if marks is None else marks.columns
        self._trajectory = open_trajectory(
            folder / f"trajectory.{trajectory}", None if marks is None else marks.trajectory
        )
        self._table = (folder / TABLE).open("w" if marks is None else "r+", encoding="utf-8", newline="")
        self._rows = csv.DictWriter(self._table, self.columns, lineterminator="\n")
        if marks is None:
            self._rows.writeheader()
        else:
            self._table.truncate(marks.table)
            self._table.seek(0, os.SEEK_END)
        for name in ENDINGS:
            (folder / name).unlink(missing_ok=True)

    def __enter__(self) -> "Recorder":
        """Use it in a `with`, which closes the files."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the files."""
        self._trajectory.close()
        self._table.close()

    def record(self, sample: Sample, atoms: ase.Atoms, wanted: bool = False) -> bool:
        """Write a step, if it is the interval's turn or wanted.

        Args:
            sample: The step.
            atoms: The structure, with its calculator.
            wanted: Whether it is written in any case.

        Returns:
            Whether it was.
        """
        if not wanted and sample.step % self.interval:
            return False
        self._rows.writerow(sample.row(self.columns))
        self._trajectory.write(GoodFrame.of(atoms, sample).atoms())
        self._table.flush()
        return True

    def sync(self) -> Marks:
        """Put the files on the disk; gives what a checkpoint needs to cut them back to here."""
        self._table.flush()
        os.fsync(self._table.fileno())
        return Marks(self.columns, os.fstat(self._table.fileno()).st_size, self._trajectory.sync())

    def write_health(self, health: dict[str, Any], text: str) -> None:
        """Write health.json and health.txt.

        Args:
            health: Content of health.json; numbers that are not finite become null, as JSON has none.
            text: Content of health.txt.
        """
        plain = {name: None if _not_finite(value) else value for name, value in health.items()}
        (self.folder / HEALTH).write_text(json.dumps(plain, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        (self.folder / REPORT).write_text(text + "\n", encoding="utf-8")


@dataclass(frozen=True)
class GoodFrame:
    """A copy of a step, kept until the next one is known to be sound."""

    base: ase.Atoms
    positions: np.ndarray
    momenta: np.ndarray
    cell: np.ndarray
    results: dict[str, Any]
    sample: Sample

    @classmethod
    def of(cls, atoms: ase.Atoms, sample: Sample) -> "GoodFrame":
        """Copy what moves; the calculator's results are not copied, since every calculation makes new ones.

        Args:
            atoms: The structure, with its calculator.
            sample: The step.
        """
        return cls(
            atoms, atoms.get_positions(), atoms.get_momenta(), atoms.cell.array.copy(), atoms.calc.results, sample
        )

    def atoms(self) -> ase.Atoms:
        """The structure with step, time, momenta, energy, forces, stress where known, fixed atoms, and nothing else."""
        base, results = self.base, self.results
        frame = ase.Atoms(numbers=base.numbers, positions=self.positions, cell=self.cell, pbc=base.pbc)
        for name in KEPT_ARRAYS:
            if base.has(name):
                frame.set_array(name, base.get_array(name))
        frame.set_momenta(self.momenta)
        frame.set_constraint([c.copy() for c in base.constraints if isinstance(c, FixAtoms)])  # kept as move_mask
        frame.info.update(step=self.sample.step, time_ps=self.sample.time_ps)
        labels = {name: results[name] for name in ("forces", "stress") if name in results}
        frame.calc = SinglePointCalculator(frame, energy=self.sample.potential_energy_eV, **labels)
        return frame

    def write(self, folder: Path) -> Path:
        """Write it as last_good.extxyz.

        Args:
            folder: Where to.

        Returns:
            The file.
        """
        path = folder / LAST_GOOD
        ase.io.write(path, self.atoms(), format="extxyz")
        return path


def _not_finite(value: Any) -> bool:
    return isinstance(value, float) and not math.isfinite(value)
