"""Phonons through phonopy, against frequencies that are known otherwise."""

import csv
import json
import sys

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk
from ase.filters import FrechetCellFilter
from ase.optimize import BFGS
from ase.phonons import Phonons

from mace_gaunt.errors import UserError
from mace_gaunt.simulation.calculator import MaceGauntCalculator
from mace_gaunt.simulation.phonons import FILES, PhononSettings, compute_phonons


@pytest.fixture
def crystal(toy):
    """Carbon on a face-centred lattice, as the toy potential likes it best."""
    atoms = bulk("C", "fcc", a=2.3)
    atoms.calc = MaceGauntCalculator(toy, device="cpu")
    BFGS(FrechetCellFilter(atoms, hydrostatic_strain=True), logfile=None).run(fmax=1e-5, steps=200)
    atoms.calc = None
    return atoms


def columns(path):
    with path.open() as file:
        rows = list(csv.DictReader(file))
    return {name: np.array([row[name] for row in rows]) for name in rows[0]}


def test_a_crystal(calculator, crystal, tmp_path):
    pytest.importorskip("phonopy")
    summary = compute_phonons(calculator, crystal, tmp_path, supercell=4, mesh=15.0, points=5)
    assert summary == json.loads((tmp_path / "phonons.json").read_text())
    assert (summary["space_group"], summary["atoms_in_supercell"], summary["displacements"]) == ("Fm-3m", 64, 1)
    assert summary["warnings"] == [] and summary["lowest_frequency_THz"] > -0.1
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(FILES)
    assert (tmp_path / "bands.png").read_bytes().startswith(b"\x89PNG")
    bands = columns(tmp_path / "bands.csv")
    at_X = (bands["from"] == "G") & (bands["to"] == "X") & (bands["distance_1/A"] == bands["distance_1/A"][4])
    found = np.sort([float(bands[f"frequency_{n}_THz"][at_X][0]) for n in (1, 2, 3)])

    reference = Phonons(crystal, calculator, supercell=(4, 4, 4), delta=0.01, name=str(tmp_path / "ase"))
    reference.run()
    reference.read(acoustic=True)
    expected = np.sort(reference.band_structure([[0.5, 0.0, 0.5]])[0]) / units._hplanck * units._e * 1e-12
    np.testing.assert_allclose(found, expected, rtol=2e-3)

    thermal = columns(tmp_path / "thermal.csv")
    hot = float(thermal["heat_capacity_J_K_mol"][-1])
    assert 0 < hot < 3 * 8.314463  # below Dulong and Petit
    dos = columns(tmp_path / "dos.csv")
    frequencies, states = dos["frequency_THz"].astype(float), dos["dos_states_per_THz"].astype(float)
    assert np.trapezoid(states, frequencies) == pytest.approx(3, rel=0.02)


def test_what_is_no_minimum_is_told(calculator, tmp_path):
    pytest.importorskip("phonopy")
    atoms = Atoms("CO", scaled_positions=[[0, 0, 0], [0.4, 0.5, 0.5]], cell=[2.6, 2.6, 2.6], pbc=True)
    summary = compute_phonons(calculator, atoms, tmp_path, supercell=[2, 2, 2], mesh=6.0, points=3)
    assert summary["imaginary_fraction"] > 0.01
    assert "imaginary modes down to" in summary["warnings"][0] and "relax the structure" in summary["warnings"][1]


def test_supercells():
    atoms = Atoms("C", cell=[3.0, 5.0, 12.0], pbc=True)
    assert PhononSettings().repetitions(atoms) == [4, 2, 1]
    for given, expected in ((3, [3, 3, 3]), ([2], [2, 2, 2]), ((1, 2, 3), [1, 2, 3])):
        settings = PhononSettings(supercell=given)
        settings.check()
        assert settings.repetitions(atoms) == expected


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"supercell": [2, 2]}, "one number or three"),
        ({"supercell": []}, "one number or three"),
        ({"supercell": 0}, "supercell is a whole number"),
        ({"supercell": 2.5}, "supercell is a whole number"),
        ({"displacement": -1.0}, "displacement is a positive length"),
        ({"points": 1}, "points is a whole number of at least 2"),
    ],
)
def test_mistakes_write_nothing(settings, message, calculator, crystal, molecule, tmp_path):
    with pytest.raises(UserError, match=message):
        compute_phonons(calculator, crystal, tmp_path / "out", **settings)
    pytest.importorskip("phonopy")
    with pytest.raises(UserError, match="periodic in all three"):
        compute_phonons(calculator, molecule, tmp_path / "out")
    crystal.set_cell(-crystal.cell)
    with pytest.raises(UserError, match="right-handed cell"):
        compute_phonons(calculator, crystal, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_without_the_library(calculator, crystal, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "phonopy", None)
    with pytest.raises(UserError, match=r"pip install 'mace-gaunt\[phonons\]'"):
        compute_phonons(calculator, crystal, tmp_path / "out")
    assert not (tmp_path / "out").exists()
