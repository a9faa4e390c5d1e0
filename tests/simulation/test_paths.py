"""A nudged elastic band with the model in the repository: from one shape of the molecule to another."""

from pathlib import Path

import numpy as np
import pytest
from ase.io import read
from ase.mep import NEB, NEBTools
from ase.optimize import FIRE

from mace_gaunt import MaceGauntCalculator
from mace_gaunt.data.bundled import bundled_path
from mace_gaunt.simulation.relaxation import relax_structures

FOLDER = Path(__file__).resolve().parents[2] / "data" / "models" / "3bpa_xtb_gaunt"


def test_a_band_climbs_over_a_barrier(tmp_path):
    """The amino group turns by half a turn: its two hydrogens change places, so that both ends have one energy."""
    calculator = MaceGauntCalculator(FOLDER, device="cpu", kernel="grid")
    start = read(bundled_path("3bpa_xtb") / "test_300K.xyz.gz", 0)
    relax_structures(calculator, [start], tmp_path, optimizer="LBFGS", fmax=0.02, steps=300, progress=False)
    first = read(tmp_path / "relaxed.extxyz")
    nitrogen, pair = amino_group(first)
    last = first.copy()
    last.positions[pair] = first.positions[pair[::-1]]
    images = [first.copy(), *(first.copy() for _ in range(3)), last]
    band = NEB(images, k=1.0, climb=False, allow_shared_calculator=True)
    band.interpolate()
    turn(images, nitrogen, pair, first)
    for image in images:
        image.calc = calculator
    before = np.linalg.norm(band.get_forces(), axis=1).max()
    energies = [image.get_potential_energy() for image in images]
    assert energies[0] == pytest.approx(energies[-1], abs=1e-6)
    FIRE(band, logfile=None).run(fmax=0.3, steps=40)
    after = np.linalg.norm(band.get_forces(), axis=1).max()
    barrier, reaction = NEBTools(images).get_barrier(fit=False)
    assert after < 0.5 * before and abs(reaction) < 1e-6
    assert 0.05 < barrier < max(energies) - energies[0]


def amino_group(atoms):
    """Index of the nitrogen with two hydrogens, and of these."""
    distances = atoms.get_all_distances()
    for index in np.flatnonzero(atoms.numbers == 7):
        bound = [j for j in np.flatnonzero(atoms.numbers == 1) if distances[index, j] < 1.2]
        if len(bound) == 2:
            return index, bound
    raise AssertionError("no amino group")


def turn(images, nitrogen, pair, start):
    """Put the hydrogens of the images between the ends on a half turn about the bond of the nitrogen."""
    distances = start.get_all_distances()[nitrogen]
    carbon = min(np.flatnonzero(start.numbers == 6), key=lambda j: distances[j])
    for number, image in enumerate(images[1:-1], start=1):
        image.positions = start.positions
        mask = [index in pair for index in range(len(start))]
        axis = start.positions[nitrogen] - start.positions[carbon]
        part = image[mask]
        part.rotate(180.0 * number / (len(images) - 1), axis, center=start.positions[nitrogen])
        image.positions[mask] = part.positions
