"""The files of a simulation."""

import csv
import json
import math
from pathlib import Path
from types import TracebackType
from typing import Any

import ase
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms
from ase.io.extxyz import write_xyz

from mace_gaunt.simulation.health import COLUMNS, Sample

FILES = ("trajectory.extxyz", "md.csv", "health.json")


class Recorder:
    """Writes trajectory and table while a simulation runs, so that it can be watched, and nothing is lost with it."""

    def __init__(self, folder: Path, interval: int) -> None:
        """Make the folder and empty files.

        Args:
            folder: Where to; made if absent.
            interval: Steps between two records.
        """
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "health.json").unlink(missing_ok=True)
        self.folder, self.interval = folder, interval
        self._trajectory = (folder / "trajectory.extxyz").open("w", encoding="utf-8")
        self._table = (folder / "md.csv").open("w", encoding="utf-8", newline="")
        self._rows = csv.DictWriter(self._table, COLUMNS, lineterminator="\n")
        self._rows.writeheader()

    def __enter__(self) -> "Recorder":
        """Use it in a `with`, which closes the files."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the files."""
        self._trajectory.close()
        self._table.close()

    def record(self, sample: Sample, atoms: ase.Atoms, wanted: bool = False) -> None:
        """Write a step, if it is the interval's turn or wanted.

        Args:
            sample: The step.
            atoms: The structure, with its calculator.
            wanted: Whether it is written in any case.
        """
        if not wanted and sample.step % self.interval:
            return
        self._rows.writerow(sample.row())
        write_xyz(self._trajectory, _frame(atoms, sample), write_results=True)
        self._table.flush()
        self._trajectory.flush()

    def write_health(self, health: dict[str, Any]) -> None:
        """Write health.json.

        Args:
            health: Its content; numbers that are not finite become null, as JSON has none.
        """
        plain = {name: None if _not_finite(value) else value for name, value in health.items()}
        (self.folder / "health.json").write_text(json.dumps(plain, indent=2) + "\n", encoding="utf-8")


def _frame(atoms: ase.Atoms, sample: Sample) -> ase.Atoms:
    """The structure with step, time, momenta, energy, forces and fixed atoms, and nothing else."""
    frame = ase.Atoms(numbers=atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
    for name in ("masses", "tags"):
        if atoms.has(name):
            frame.set_array(name, atoms.get_array(name))
    frame.set_momenta(atoms.get_momenta())
    frame.set_constraint([c.copy() for c in atoms.constraints if isinstance(c, FixAtoms)])  # kept as move_mask
    frame.info.update(step=sample.step, time_ps=sample.time_ps)
    frame.calc = SinglePointCalculator(frame, energy=sample.potential_energy_eV, forces=atoms.calc.results["forces"])
    return frame


def _not_finite(value: Any) -> bool:
    return isinstance(value, float) and not math.isfinite(value)
