"""Relaxation of structures to a minimum of the energy, cells too, through ASE's optimizers."""

import csv
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TextIO

import ase
import ase.io
import numpy as np
from ase import units
from ase.calculators.singlepoint import SinglePointCalculator
from ase.filters import FrechetCellFilter
from ase.io.extxyz import write_xyz
from ase.optimize import BFGS, FIRE, FIRE2, LBFGS, BFGSLineSearch, LBFGSLineSearch

from mace_gaunt.errors import UserError
from mace_gaunt.files import new_folder
from mace_gaunt.simulation.calculator import MaceGauntCalculator
from mace_gaunt.simulation.md_settings import check_positive, check_whole, check_word
from mace_gaunt.simulation.output import check_output
from mace_gaunt.simulation.progress import ProgressLine
from mace_gaunt.simulation.structures import check_stress_defined, check_structure

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


class RelaxationError(UserError):
    """A relaxation that did not converge; its files are there."""


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

    Args:
        calculator: The potential.
        structures: The structures, left as they are; their constraints are kept to.
        out: Folder for the files.
        overwrite: Whether files of an earlier run in `out` may be replaced.
        progress: Whether a progress line goes to stderr.
        settings: See `RelaxSettings`.

    Returns:
        One entry per structure: converged, steps, energies (eV), largest force (eV/Å), volume (Å^3).

    Raises:
        UserError: If the input is wrong; nothing is written then.
        RelaxationError: If a structure did not converge; the files are written all the same.
    """
    chosen = RelaxSettings(**settings)
    chosen.check()
    folder = check_output(out, FILES, overwrite)
    for atoms in structures:
        check_structure(atoms, calculator.model.atomic_numbers)
        if chosen.cell != "fixed":
            _check_cell(atoms, chosen.cell)
    calculator.calculate(structures[0], ["energy", "forces"])
    line = ProgressLine(len(structures), "relax", "structures", progress)
    entries, relaxed = [], []
    with (
        new_folder(folder),
        (folder / TRAJECTORY).open("w") as frames,
        (folder / TABLE).open("w", newline="") as table,
    ):
        log = _Log(frames, table)
        for index, atoms in enumerate(structures):
            end, entry = _relax(calculator, atoms, chosen, log, index)
            entries.append(entry)
            relaxed.append(end)
            line.update(index + 1, f"{entry['steps']} steps, {entry['max_force_eV_A']:.3g} eV/Å")
    line.close()
    ase.io.write(folder / RELAXED, relaxed, format="extxyz")
    summary = {**asdict(chosen), "structures": entries}
    (folder / SUMMARY).write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    open_ends = [index for index, entry in enumerate(entries) if not entry["converged"]]
    if open_ends:
        worst = max(entries[index]["max_force_eV_A"] for index in open_ends)
        raise RelaxationError(
            f"{len(open_ends)} of {len(entries)} structures did not converge in {chosen.steps} steps (frames "
            f"{', '.join(map(str, open_ends[:10]))}; largest force {worst:.3g} eV/Å, fmax is {chosen.fmax:g}). See "
            f"{folder}; more steps, or another optimizer, may help."
        )
    return entries


class _Log:
    """Writes every step of every structure."""

    def __init__(self, frames: TextIO, table: TextIO) -> None:
        self._frames, self._table = frames, table
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


def _relax(
    calculator: MaceGauntCalculator, start: ase.Atoms, settings: RelaxSettings, log: _Log, index: int
) -> tuple[ase.Atoms, dict[str, Any]]:
    """One structure; gives it relaxed, and its entry in the summary."""
    atoms = ase.Atoms(start)  # keeps constraints, masses, tags
    atoms.info, atoms.calc = {}, calculator
    target: Any = atoms
    if settings.cell != "fixed":
        pressure = settings.pressure_GPa * units.GPa
        target = FrechetCellFilter(atoms, scalar_pressure=pressure, **CELLS[settings.cell])
    optimizer = OPTIMIZERS[settings.optimizer](target, logfile=None)
    first = last = log.add(index, 0, atoms, settings.cell)
    converged = False
    for done in optimizer.irun(fmax=settings.fmax, steps=settings.steps):
        converged = bool(done)
        if optimizer.nsteps:
            last = log.add(index, optimizer.nsteps, atoms, settings.cell)
        if not math.isfinite(last["energy_eV"]):
            break
    steps = int(optimizer.nsteps)
    entry = {"converged": converged, "steps": steps, "energy_start_eV": first["energy_eV"]}
    entry |= {name: last[name] for name in COLUMNS[2:]}
    return _bare(atoms, index, steps), entry


def _bare(atoms: ase.Atoms, frame: int, step: int) -> ase.Atoms:
    """The structure with energy, forces and stress, where it was computed, and nothing of its calculator."""
    copy = atoms.copy()
    copy.info = {"frame": frame, "step": step}
    results = {name: atoms.calc.results[name] for name in ("energy", "forces", "stress") if name in atoms.calc.results}
    copy.calc = SinglePointCalculator(copy, **results)
    return copy


def _check_cell(atoms: ase.Atoms, cell: str) -> None:
    try:
        check_stress_defined(atoms)
    except NotImplementedError as error:
        raise UserError(f"cell={cell} cannot be relaxed: {error} Choose cell=fixed.") from error
