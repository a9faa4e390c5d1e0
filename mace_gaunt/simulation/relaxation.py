"""Relaxation of structures to a minimum of the energy, cells too, through ASE's optimizers."""

import csv
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TextIO

import ase
import numpy as np
from ase import units
from ase.calculators.singlepoint import SinglePointCalculator
from ase.filters import FrechetCellFilter
from ase.io.extxyz import write_xyz
from ase.optimize import BFGS, FIRE, FIRE2, LBFGS, BFGSLineSearch, LBFGSLineSearch

from mace_gaunt.errors import UserError
from mace_gaunt.files import new_folder, write_whole
from mace_gaunt.simulation.calculator import MaceGauntCalculator
from mace_gaunt.simulation.md_settings import check_positive, check_whole, check_word
from mace_gaunt.simulation.output import check_output
from mace_gaunt.simulation.progress import ProgressLine
from mace_gaunt.simulation.structures import check_stress_defined

OPTIMIZERS = {
    "FIRE": FIRE,
    "FIRE2": FIRE2,
    "BFGS": BFGS,
    "LBFGS": LBFGS,
    "BFGSLineSearch": BFGSLineSearch,
    "LBFGSLineSearch": LBFGSLineSearch,
}
# What of the cell may change -> arguments of ASE's filter.
CELLS: dict[str, dict[str, Any]] = {
    "fixed": {},
    "full": {},
    "isotropic": {"hydrostatic_strain": True},
    "constant_volume": {"constant_volume": True},
}
RELAXED, TRAJECTORY, TABLE, SUMMARY = "relaxed.extxyz", "trajectory.extxyz", "relax.csv", "relax.json"
FILES = (RELAXED, TRAJECTORY, TABLE, SUMMARY)
COLUMNS = ("frame", "step", "energy_eV", "max_force_eV_A", "max_stress_GPa", "volume_A3")
# What the calculator, numpy and ASE raise where a structure has gone wrong: a UserError and a LinAlgError are
# ValueErrors, and a line search that fails is a RuntimeError, as is memory of a GPU that does not suffice.
FAILURES = (ValueError, ArithmeticError, RuntimeError)
MOST_TOLD = 10
"""Frames that a message names."""


class RelaxationError(UserError):
    """A relaxation that did not converge, or failed; its files are there."""


@dataclass(frozen=True)
class RelaxSettings:
    """Settings of a relaxation.

    Attributes:
        optimizer: A name of `OPTIMIZERS`.
        fmax: Largest force on an atom that counts as none (eV/Å); with a cell that changes, also of the cell's
            generalised forces (ASE: virial over the number of atoms, eV).
        steps: Largest number of steps per structure.
        cell: "fixed", "full", "isotropic" (volume) or "constant_volume" (shape).
        pressure_GPa: External pressure on a cell that changes (GPa).
    """

    optimizer: str = "FIRE"
    fmax: float = 0.01
    steps: int = 500
    cell: str = "fixed"
    pressure_GPa: float = 0.0

    def check(self) -> None:
        """Refuse impossible settings.

        Raises:
            UserError: Naming the setting.
        """
        check_word("optimizer", self.optimizer, tuple(OPTIMIZERS))
        check_word("cell", self.cell, tuple(CELLS))
        check_whole("steps", self.steps, 1)
        check_positive("fmax", self.fmax, "force in eV/Å")
        if not math.isfinite(self.pressure_GPa):
            raise UserError(f"pressure_GPa is a pressure in GPa, not {self.pressure_GPa}.")
        if self.pressure_GPa and self.cell in ("fixed", "constant_volume"):
            raise UserError(
                f"pressure_GPa={self.pressure_GPa:g} has no effect with cell={self.cell}: choose cell=full."
            )


def relax_structures(
    calculator: MaceGauntCalculator,
    structures: Sequence[ase.Atoms],
    out: str | Path,
    *,
    overwrite: bool = False,
    progress: bool = True,
    **settings: Any,
) -> list[dict[str, Any]]:
    """Relax structures one after the other; write `relaxed.extxyz`, `trajectory.extxyz`, `relax.csv`, `relax.json`.

    All energies are computed before anything is written. One relaxation that fails does not stop the others. Every file
    but relax.json grows as the structures are done; that one is written last.

    Args:
        calculator: The potential.
        structures: The structures, left as they are; their constraints are kept to.
        out: Folder for the files.
        overwrite: Whether files of an earlier run in `out` may be replaced.
        progress: Whether a progress line goes to stderr.
        settings: See `RelaxSettings`.

    Returns:
        One entry per structure: converged, failure (why it ended before; None where it did not), and of the last sound
        structure steps, energies (eV), largest force (eV/Å), volume (Å^3), which are None where there is none.

    Raises:
        UserError: If the input is wrong; its position is named, and nothing is written then.
        RelaxationError: If a structure did not converge, or failed; the files are written all the same.
    """
    chosen = RelaxSettings(**settings)
    chosen.check()
    folder = check_output(out, FILES, overwrite)
    if chosen.cell != "fixed":
        for index, atoms in enumerate(structures):
            _check_cell(atoms, index, chosen.cell)
    calculator.evaluate(structures, forces=False)
    line = ProgressLine(len(structures), "relax", "structures", progress)
    entries = []
    with new_folder(folder):
        (folder / SUMMARY).unlink(missing_ok=True)  # an earlier run's, which is untrue from here on
        with (
            (folder / RELAXED).open("w") as relaxed,
            (folder / TRAJECTORY).open("w") as frames,
            (folder / TABLE).open("w", newline="") as table,
        ):
            log = _Log(relaxed, frames, table)
            for index, atoms in enumerate(structures):
                entries.append(_relax(calculator, atoms, chosen, log, index))
                line.update(index + 1, f"{entries[-1]['steps']} steps")
    line.close()
    write_whole(folder / SUMMARY, json.dumps({**asdict(chosen), "structures": entries}, indent=2) + "\n")
    problems = [*_open_ends(entries, chosen), *_failed(entries)]
    if problems:
        raise RelaxationError(f"{'; '.join(problems)}. See {folder}; more steps, or another optimizer, may help.")
    return entries


def _open_ends(entries: Sequence[dict[str, Any]], settings: RelaxSettings) -> Iterator[str]:
    """In words, which relaxations had too few steps, if any."""
    found = {index: entry for index, entry in enumerate(entries) if not (entry["converged"] or entry["failure"])}
    if found:
        worst = max(entry["max_force_eV_A"] for entry in found.values())
        yield (
            f"{len(found)} of {len(entries)} structures did not converge in {settings.steps} steps (frames "
            f"{', '.join(map(str, list(found)[:MOST_TOLD]))}; largest force {worst:.3g} eV/Å, fmax is "
            f"{settings.fmax:g})"
        )


def _failed(entries: Sequence[dict[str, Any]]) -> Iterator[str]:
    """In words, which relaxations failed, if any."""
    found = [f"frame {index}: {entry['failure']}" for index, entry in enumerate(entries) if entry["failure"]]
    if found:
        yield (
            f"{len(found)} of {len(entries)} structures failed, and are kept as they last were sound "
            f"({'; '.join(found[:MOST_TOLD])})"
        )


class _Log:
    """Writes every step of every structure, and their ends."""

    def __init__(self, relaxed: TextIO, frames: TextIO, table: TextIO) -> None:
        self._relaxed, self._frames, self._table = relaxed, frames, table
        self._rows = csv.DictWriter(table, COLUMNS, lineterminator="\n")
        self._rows.writeheader()

    def add(self, frame: int, step: int, atoms: ase.Atoms, cell: str) -> dict[str, Any]:
        """Write a step; gives its row."""
        forces = atoms.get_forces()
        stress = None if cell == "fixed" else atoms.get_stress() / units.GPa
        row = {
            "frame": frame,
            "step": step,
            "energy_eV": float(atoms.get_potential_energy()),
            "max_force_eV_A": float(np.linalg.norm(forces, axis=1).max(initial=0.0)),
            "max_stress_GPa": None if stress is None else float(np.abs(stress).max()),
            "volume_A3": float(atoms.get_volume()) if atoms.pbc.all() else None,
        }
        self._rows.writerow(row)
        write_xyz(self._frames, _bare(atoms, frame, step), write_results=True)
        self._table.flush()
        self._frames.flush()
        return row

    def end(self, atoms: ase.Atoms) -> None:
        """Write a relaxed structure."""
        write_xyz(self._relaxed, atoms, write_results=True)
        self._relaxed.flush()


def _relax(
    calculator: MaceGauntCalculator, start: ase.Atoms, settings: RelaxSettings, log: _Log, index: int
) -> dict[str, Any]:
    """One structure, written as it last was sound; gives its entry in the summary."""
    atoms = ase.Atoms(start)  # keeps constraints, masses, tags
    atoms.info, atoms.calc = {"frame": index, "step": 0}, None
    good, first, last = atoms.copy(), None, dict.fromkeys(COLUMNS) | {"step": 0}
    atoms.calc = calculator
    converged, failure = False, None
    try:
        for step, done in _steps(atoms, settings):
            row = log.add(index, step, atoms, settings.cell)
            if not all(row[name] is None or math.isfinite(row[name]) for name in COLUMNS[2:]):
                raise UserError("energy, forces or stress are not finite")
            good, first, last, converged = _bare(atoms, index, step), first or row, row, done
    except FAILURES as error:
        failure = (str(error) or type(error).__name__).rstrip(".")
    log.end(good)
    entry = {"converged": converged, "failure": failure, "steps": last["step"]}
    entry["energy_start_eV"] = None if first is None else first["energy_eV"]
    return entry | {name: last[name] for name in COLUMNS[2:]}


def _steps(atoms: ase.Atoms, settings: RelaxSettings) -> Iterator[tuple[int, bool]]:
    """Number of each step, from 0 for the start, and whether it has converged; the atoms are there then."""
    target: Any = atoms
    if settings.cell != "fixed":
        pressure = settings.pressure_GPa * units.GPa
        target = FrechetCellFilter(atoms, scalar_pressure=pressure, **CELLS[settings.cell])
    optimizer = OPTIMIZERS[settings.optimizer](target, logfile=None)
    for done in optimizer.irun(fmax=settings.fmax, steps=settings.steps):
        yield int(optimizer.nsteps), bool(done)


def _bare(atoms: ase.Atoms, frame: int, step: int) -> ase.Atoms:
    """The structure with energy, forces and stress, where it was computed, and nothing of its calculator."""
    copy = atoms.copy()
    copy.info = {"frame": frame, "step": step}
    results = {name: atoms.calc.results[name] for name in ("energy", "forces", "stress") if name in atoms.calc.results}
    copy.calc = SinglePointCalculator(copy, **results)
    return copy


def _check_cell(atoms: ase.Atoms, index: int, cell: str) -> None:
    try:
        check_stress_defined(atoms)
    except NotImplementedError as error:
        raise UserError(f"structure {index}: cell={cell} cannot be relaxed: {error} Choose cell=fixed.") from error
