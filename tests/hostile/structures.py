"""Structures that no potential can answer for."""

import ase
import ase.io
import numpy as np
from ase.constraints import FixAtoms, FixInternals

from hostile.row import EVALUATE, MD, PHONONS, RELAX, TRAIN, Build, Place, Row, file, named


def water(**keywords: object) -> ase.Atoms:
    """Three atoms."""
    return ase.Atoms("OH2", [[0.0, 0.0, 0.0], [0.96, 0.0, 0.0], [-0.24, 0.93, 0.0]], **keywords)


def carbon(cell: object) -> ase.Atoms:
    """One atom in a cell."""
    return ase.Atoms("C", [[0.1, 0.2, 0.3]], cell=cell, pbc=True)


def moved(*position: float) -> ase.Atoms:
    """Water with the second atom somewhere else."""
    atoms = water()
    atoms.positions[1] = position
    return atoms


def structure(name: str, atoms: ase.Atoms) -> Build:
    """A builder that writes `bad.xyz`, labelled, so that any verb could use it."""

    def build(place: Place) -> None:
        labelled = atoms.copy()
        labelled.info["energy"] = -1.0
        labelled.set_array("forces", np.zeros((len(atoms), 3)))
        ase.io.write(place.path / "bad.xyz", labelled, format="extxyz")

    return named(name, build)


def with_masses(mass: float) -> ase.Atoms:
    """Water whose atoms have this mass (u)."""
    atoms = water()
    atoms.set_masses([mass] * 3)
    return atoms


def with_momenta(value: float) -> ase.Atoms:
    """Water whose momenta have these components."""
    atoms = water()
    atoms.set_momenta(np.full((3, 3), value), apply_constraint=False)
    return atoms


def traj(name: str, atoms: ase.Atoms) -> Build:
    """A builder that writes `bad.traj`, which keeps constraints."""
    return named(name, lambda place: ase.io.write(place.path / "bad.traj", atoms))


OVERLAPPING = structure("overlapping", moved(0.0, 0.0, 0.0))
NAN = structure("nan", moved(float("nan"), 0.0, 0.0))
FLAT = structure("duplicated_vectors", carbon([[4, 0, 0], [4, 0, 0], [0, 0, 4]]))
NO_CELL = structure("no_cell", water(pbc=True))
UNKNOWN = structure("unknown_element", ase.Atoms("HCl", [[0, 0, 0], [0, 0, 1.27]], cell=[4, 4, 4], pbc=True))
MOLECULE = structure("molecule", water())
CRYSTAL = structure("crystal", carbon([2.5, 2.5, 2.5]))

SAME_PLACE = "atoms 0 and 1 are at the same place"
NO_VOLUME = "the periodic cell vectors span no volume"
NOT_FINITE = "the position of atom 1 is not finite"

ROWS = [
    *(Row("structure", words, SAME_PLACE, OVERLAPPING) for words in (MD, RELAX, EVALUATE, TRAIN)),
    *(Row("structure", words, NOT_FINITE, NAN) for words in (MD, RELAX, EVALUATE, TRAIN)),
    *(Row("structure", words, NO_VOLUME, FLAT) for words in (MD, RELAX, PHONONS, EVALUATE, TRAIN)),
    *(Row("structure", words, NO_VOLUME, NO_CELL) for words in (MD, RELAX, EVALUATE, TRAIN)),
    *(Row("structure", words, "Cl, but the model knows only", UNKNOWN) for words in (RELAX, PHONONS)),
    Row("structure", MD, "is not finite", structure("inf", moved(0.0, float("inf"), 0.0))),
    Row("structure", MD, "beyond 1e+07 Å", structure("far_away", moved(1e9, 0.0, 0.0))),
    Row("structure", MD, "unphysical", structure("nearly_overlapping", moved(1e-3, 0.0, 0.0))),
    Row("structure", MD, "Is it in Å?", structure("cell_in_another_unit", carbon([0.01, 0.01, 0.01]))),
    Row("structure", MD, "vectors that are not finite", structure("nan_cell", carbon([[np.nan] * 3] * 3))),
    Row("structure", MD, "the structure holds X", structure("dummy_atom", ase.Atoms("XH", [[0, 0, 0], [0, 0, 1]]))),
    Row("structure", MD, "has no atoms", structure("empty", ase.Atoms())),
    Row("structure", PHONONS, SAME_PLACE,
        structure("overlapping_crystal", ase.Atoms("C2", [[0, 0, 0]] * 2, cell=[3, 3, 3], pbc=True))),
    Row("structure", PHONONS, "periodic in all three directions", MOLECULE),
    Row("structure", f"{RELAX} cell=full", "cell=full cannot be relaxed", MOLECULE),
    Row("structure", f"{MD} ensemble=npt", "periodic in all three directions", MOLECULE),
    Row("structure", f"{MD} velocities=keep", "needs momenta in the structure", MOLECULE),
    Row("structure", f"{MD} velocities=keep", "momentum of atom 0 is not finite",
        structure("nan_momenta", with_momenta(float("nan")))),
    Row("structure", MD, "mass of atom 0 is 0", structure("massless", with_masses(0.0))),
    Row("structure", MD, "mass of atom 0 is -1", structure("negative_mass", with_masses(-1.0))),
    Row("structure", MD.replace("bad.xyz", "bad.traj") + " ensemble=bussi", "nothing can move",
        traj("all_fixed", water(constraint=FixAtoms([0, 1, 2])))),
    Row("structure", MD.replace("bad.xyz", "bad.traj") + " ensemble=nose_hoover_chain", "cannot hold FixInternals",
        traj("fixed_bonds", water(constraint=FixInternals(bonds=[[0.96, [0, 1]]])))),
    Row("structure", f"{MD} index=3", "has no frame 3: it holds 1 frames", MOLECULE),
    Row("structure", f"{MD} index=-2", "has no frame -2", MOLECULE),
    Row("structure", f"{RELAX} index=1:1", "has no frames 1:1", MOLECULE),
    Row("structure", MD, "ASE cannot read 'bad.xyz' as a structure", file("bad.xyz", "hello\nworld\n")),
    Row("structure", MD, "bad.xyz", file("bad.xyz", b"")),
    Row("structure", MD, "ASE cannot read 'bad.xyz'", file("bad.xyz", bytes(range(256)) * 9)),
    Row("structure", MD, "ASE cannot read 'bad.xyz'", file("bad.xyz", "5\n\nH 0 0 0\nH 0 0 1\n")),
    Row("structure", MD.replace("bad.xyz", "bad.abc"), "ASE cannot read 'bad.abc'", file("bad.abc", "1 2 3\n")),
    Row("structure", MD.replace("bad.xyz", "here"), "'here' is a folder", file("here/a.xyz", "")),
]  # fmt: skip
