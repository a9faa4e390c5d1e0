"""Phonons of crystals by finite displacements, through phonopy (Togo, J. Phys. Soc. Jpn. 92, 012001, 2023)."""

import csv
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import ase
import numpy as np
from ase.cell import Cell
from ase.dft.kpoints import parse_path_string

from mace_gaunt.errors import UserError
from mace_gaunt.files import new_folder, write_whole
from mace_gaunt.simulation.calculator import MaceGauntCalculator
from mace_gaunt.simulation.md_settings import check_positive, check_whole
from mace_gaunt.simulation.output import check_output
from mace_gaunt.simulation.structures import check_structure

PARAMETERS, BANDS, DOS, THERMAL, SUMMARY = "phonopy_params.yaml", "bands.csv", "dos.csv", "thermal.csv", "phonons.json"
BANDS_PLOT, THERMAL_PLOT = "bands.png", "thermal.png"
FILES = (PARAMETERS, BANDS, DOS, THERMAL, SUMMARY, BANDS_PLOT, THERMAL_PLOT)
# Without a supercell given: the shortest repetitions this long (Å).
SUPERCELL_LENGTH = 10.0
# Acoustic modes near Gamma come out this far below zero by rounding and small supercells (THz).
IMAGINARY = -0.1
# Frequencies that differ by less (THz) are those of atoms that feel nothing.
STILL = 1e-6
# Larger forces (eV/Å) mean that the structure is at no minimum, and frequencies mean little.
RELAXED_FORCE = 0.01


@dataclass(frozen=True)
class PhononSettings:
    """Settings of a phonon calculation.

    Attributes:
        supercell: Repetitions of the cell along its vectors; one number is for all; None repeats it to 10 Å.
        displacement: Displacement of atoms (Å).
        mesh: Length (Å) that fixes the mesh of wave vectors of DOS and thermal properties (phonopy: divisions are
            length / lattice vector).
        points: Wave vectors per segment of the band path.
        max_temperature_K: Highest temperature of the thermal properties (K).
        symprec: Tolerance of the search for symmetry (Å).
    """

    supercell: int | Sequence[int] | None = None
    displacement: float = 0.01
    mesh: float = 60.0
    points: int = 51
    max_temperature_K: float = 1000.0
    symprec: float = 1e-4

    def check(self) -> None:
        """Refuse impossible settings.

        Raises:
            UserError: Naming the setting.
        """
        for name, what in (("displacement", "length in Å"), ("mesh", "length in Å"), ("symprec", "length in Å")):
            check_positive(name, getattr(self, name), what)
        check_positive("max_temperature_K", self.max_temperature_K, "temperature in K")
        check_whole("points", self.points, 2)
        if self.supercell is None:
            return
        counts = self._counts()
        if len(counts) not in (1, 3):
            raise UserError(f"supercell is one number or three, not {counts}.")
        for count in counts:
            check_whole("supercell", count, 1)

    def repetitions(self, atoms: ase.Atoms) -> list[int]:
        """Repetitions along the three cell vectors.

        Args:
            atoms: The crystal.
        """
        if self.supercell is None:
            return [max(1, math.ceil(SUPERCELL_LENGTH / length - 1e-9)) for length in atoms.cell.lengths()]
        counts = self._counts()
        return counts * 3 if len(counts) == 1 else counts

    def _counts(self) -> list[int]:
        """What was given for the supercell, one number or several."""
        return list(self.supercell) if isinstance(self.supercell, Sequence) else [self.supercell or 0]


def load_phonopy() -> Any:
    """The library.

    Returns:
        The module.

    Raises:
        UserError: If it is not installed; says what to install.
    """
    try:
        import phonopy
    except ImportError as error:
        raise UserError("phonons need phonopy: pip install 'mace-gaunt[phonons]'.") from error
    return phonopy


def check_crystal(atoms: ase.Atoms) -> None:
    """Refuse what is no crystal.

    Args:
        atoms: The structure.

    Raises:
        UserError: If its cell is not periodic in all three directions, or is left-handed, which phonopy cannot take.
    """
    if not atoms.pbc.all():
        raise UserError("phonons are of crystals: the cell must be periodic in all three directions.")
    if atoms.cell.handedness < 0:
        raise UserError(
            "phonons need a right-handed cell, and the three vectors of this one are left-handed. Turn them round, "
            "which is the same lattice: in ASE atoms.set_cell(-atoms.cell), then write the structure again."
        )


def compute_phonons(
    calculator: MaceGauntCalculator,
    atoms: ase.Atoms,
    out: str | Path,
    *,
    overwrite: bool = False,
    **settings: Any,
) -> dict[str, Any]:
    """Force constants, bands along the standard path, density of states and thermal properties of a crystal.

    Args:
        calculator: The potential.
        atoms: The crystal at a minimum of the energy, left as it is. Its constraints play no part.
        out: Folder for the files.
        overwrite: Whether files of an earlier calculation in `out` may be replaced.
        settings: See `PhononSettings`.

    Returns:
        The content of phonons.json.

    Raises:
        UserError: If the input is wrong, or phonopy is not installed; nothing is written then.
    """
    chosen = PhononSettings(**settings)
    chosen.check()
    phonopy = load_phonopy()
    folder = check_output(out, FILES, overwrite)
    check_structure(atoms, calculator.model.atomic_numbers)
    check_crystal(atoms)
    # Before phonopy, which fails without a word on structures that cannot be computed.
    forces = np.linalg.norm(calculator.evaluate([atoms])[0]["forces"], axis=1)
    phonon = _force_constants(phonopy, calculator, atoms, chosen)
    labels = _run_bands(phonon, chosen.points)
    phonon.run_mesh(chosen.mesh)
    if np.ptp(phonon.mesh.frequencies) < STILL:
        raise UserError(
            "all frequencies are 0: the atoms of this supercell do not feel each other, or the mesh is Gamma alone. "
            "Give a larger supercell, or a larger mesh."
        )
    phonon.run_total_dos()
    phonon.run_thermal_properties(t_max=chosen.max_temperature_K, cutoff_frequency=0.0, exclude_gamma_acoustic=True)
    summary = _summary(phonon, chosen, atoms, float(forces.max(initial=0.0)))
    with new_folder(folder):
        _write(phonon, folder, labels)
        write_whole(folder / SUMMARY, json.dumps(summary, indent=2) + "\n")
    return summary


def _force_constants(phonopy: Any, calculator: MaceGauntCalculator, atoms: ase.Atoms, settings: PhononSettings) -> Any:
    """Phonopy's object with force constants that fulfil the sum rules."""
    from phonopy.structure.atoms import PhonopyAtoms

    cell = PhonopyAtoms(
        numbers=atoms.numbers, masses=atoms.get_masses(), positions=atoms.positions, cell=atoms.cell.array
    )
    repetitions = np.diag(settings.repetitions(atoms))
    phonon = phonopy.Phonopy(cell, repetitions, primitive_matrix="auto", symprec=settings.symprec)
    phonon.generate_displacements(distance=settings.displacement)
    displaced = [
        ase.Atoms(numbers=one.numbers, positions=one.positions, cell=one.cell, pbc=True)
        for one in phonon.supercells_with_displacements
    ]
    phonon.forces = [result["forces"] for result in calculator.evaluate(displaced)]
    phonon.produce_force_constants(show_drift=False)
    phonon.symmetrize_force_constants(show_drift=False)
    return phonon


def _run_bands(phonon: Any, points: int) -> list[tuple[str, str]]:
    """Bands along the path of Setyawan and Curtarolo, as ASE has it; gives the ends of each segment."""
    path = Cell(phonon.primitive.cell).bandpath()
    segments: list[tuple[str, str]] = []
    paths = []
    for branch in parse_path_string(path.path):
        for start, end in pairwise(branch):
            segments.append((start, end))
            paths.append(np.linspace(path.special_points[start], path.special_points[end], points))
    phonon.run_band_structure(paths)
    return segments


def _summary(phonon: Any, settings: PhononSettings, atoms: ase.Atoms, largest_force: float) -> dict[str, Any]:
    frequencies, weights = phonon.mesh.frequencies, phonon.mesh.weights
    lowest = min(float(frequencies.min()), *(float(part.min()) for part in phonon.band_structure.frequencies))
    imaginary = float((weights[:, None] * (frequencies < IMAGINARY)).sum() / weights.sum() / frequencies.shape[1])
    thermal = _thermal_columns(phonon)
    room = int(np.abs(thermal["temperature_K"] - 300.0).argmin())
    warnings = []
    if lowest < IMAGINARY:
        warnings.append(
            f"imaginary modes down to {-lowest:.2f}i THz ({100 * imaginary:.2g}% of the modes of the mesh): the "
            "structure is no minimum of this model, or the supercell is too small. Thermal properties leave them out."
        )
    if largest_force > RELAXED_FORCE:
        warnings.append(f"a force of {largest_force:.3f} eV/Å is left: relax the structure first (mace-gaunt relax).")
    return {
        "formula": atoms.get_chemical_formula(),
        "space_group": phonon.symmetry.dataset.international,
        **asdict(settings),
        "supercell": settings.repetitions(atoms),
        "atoms_in_supercell": len(phonon.supercell),
        "displacements": len(phonon.supercells_with_displacements),
        "mesh_divisions": [int(count) for count in phonon.mesh.mesh_numbers],
        "largest_force_eV_A": largest_force,
        "lowest_frequency_THz": lowest,
        "highest_frequency_THz": float(frequencies.max()),
        "imaginary_fraction": imaginary,
        **{name: float(column[room]) for name, column in thermal.items()},
        "atoms_in_primitive_cell": len(phonon.primitive),
        "warnings": warnings,
    }


def _write(phonon: Any, folder: Path, segments: list[tuple[str, str]]) -> None:
    """Everything but the summary."""
    from mace_gaunt.simulation.phonon_plots import plot_bands, plot_thermal

    phonon.save(folder / PARAMETERS, settings={"force_constants": True})
    bands, dos = phonon.band_structure, phonon.total_dos
    branches = bands.frequencies[0].shape[1]
    with (folder / BANDS).open("w", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        names = [f"frequency_{number}_THz" for number in range(1, branches + 1)]
        rows.writerow(["from", "to", "distance_1/A", "q_1", "q_2", "q_3", *names])
        for part, (start, end) in enumerate(segments):
            columns = (bands.distances[part], bands.qpoints[part], bands.frequencies[part])
            for distance, point, values in zip(*columns, strict=True):
                rows.writerow([start, end, distance, *point, *values])
    _table(folder / DOS, {"frequency_THz": dos.frequency_points, "dos_states_per_THz": dos.dos})
    thermal = _thermal_columns(phonon)
    _table(folder / THERMAL, thermal)
    plot_bands(bands, segments, dos, folder / BANDS_PLOT)
    plot_thermal(thermal, folder / THERMAL_PLOT)


def _thermal_columns(phonon: Any) -> dict[str, np.ndarray]:
    thermal = phonon.thermal_properties
    return {
        "temperature_K": np.asarray(thermal.temperatures),
        "free_energy_kJ_mol": np.asarray(thermal.free_energy),
        "entropy_J_K_mol": np.asarray(thermal.entropy),
        "heat_capacity_J_K_mol": np.asarray(thermal.heat_capacity),
    }


def _table(path: Path, columns: dict[str, np.ndarray]) -> None:
    with path.open("w", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(columns)
        rows.writerows(zip(*columns.values(), strict=True))
