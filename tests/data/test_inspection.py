"""The report on files of structures."""

import numpy as np
import pytest
from waters import make_atom, make_water

from mace_gaunt.data.inspection import inspect_files
from mace_gaunt.data.labels import LabelKeys
from mace_gaunt.errors import UserError


def test_report(write):
    waters = [make_water(i, config_type="liquid") for i in range(3)]
    first = write("first.xyz", make_atom("H"), *waters)
    second = write("second.xyz", waters[0], make_water(9, forces=False))
    report = inspect_files([first, second], r_max=3.0)
    file = report.files[0]
    assert (file.n_frames, file.n_atoms, file.elements) == (4, (1, 3), {"H": 7, "O": 3})
    assert (file.n_single, file.n_periodic, file.n_duplicates) == (1, 0, 0)
    assert file.config_types == {"Default": 1, "liquid": 3}
    assert file.neighbors == pytest.approx(18 / 10)
    assert file.energy_per_atom == (-690.0, -690.0)
    forces = np.concatenate([atoms.calc.results["forces"] for atoms in waters])
    assert file.forces_rms == pytest.approx(np.sqrt((forces**2).mean()))
    assert report.files[1].n_duplicates == 1
    assert report.elements == {"H": 11, "O": 5} and report.problems == []
    text = str(report)
    assert "4 energy (calculator)" in text and "H:7 O:3" in text and "liquid (3)" in text


def test_problems_and_near_misses_are_listed(write):
    bad = make_water(1)
    bad.calc.results["energy"] = np.nan
    renamed = make_water(2, forces=False)
    renamed.arrays["dft_forces"] = np.ones((3, 3))
    report = inspect_files([write("a.xyz", renamed, bad) + "[0]", write("b.xyz", make_water(0), bad)])
    assert [problem.split("b.xyz")[1] for problem in report.problems] == [
        ": frame 1: energy (calculator) holds values that are not finite (NaN or inf)."
    ]
    assert "set forces_key=dft_forces" in str(report)
    assert report.files[0].neighbors is None


def test_keys(write):
    atoms = make_water(0, REF_energy=-1.0)
    report = inspect_files([write("a.xyz", atoms)], LabelKeys(energy="REF_energy"))
    assert report.files[0].labels.used["energy"] == {"REF_energy (info)": 1} and not report.problems
    assert "two candidates for energy disagree" in inspect_files([write("a.xyz", atoms)]).problems[0]


def test_refusals():
    with pytest.raises(UserError, match="at least one file"):
        inspect_files([])
    with pytest.raises(UserError, match="no file"):
        inspect_files(["/nowhere/a.xyz"])


def test_real_files(shared_data):
    files = [shared_data / "acac" / name for name in ("train_300K.xyz.gz", "test_dihedral.xyz", "isolated_atoms.xyz")]
    report = inspect_files(files)
    assert [file.n_frames for file in report.files] == [500, 45, 3]
    assert [file.labels.count("forces") for file in report.files] == [500, 0, 0]
