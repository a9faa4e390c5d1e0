"""The report on files of structures."""

import json
from pathlib import Path

import ase
import numpy as np
import pytest
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms
from waters import make_atom, make_water

from mace_gaunt.data.inspection import inspect_files
from mace_gaunt.data.inspection.measures import measure
from mace_gaunt.data.labels import LabelKeys
from mace_gaunt.errors import UserError


def inspect(*paths, **settings):
    return inspect_files(paths, **({"vendi_frames": 0} | settings))


def warnings(*paths, **settings):
    return "\n".join(inspect(*paths, **settings).all_warnings)


def many(n=30, **info):
    return [make_water(i, energy=-2070.0 + 0.001 * i, **info) for i in range(n)]


def slab(seed=0, forces=True):
    """Six atoms, two of them fixed, with tags."""
    rng = np.random.default_rng(seed)
    atoms = ase.Atoms(
        "Cu4CO", rng.permutation(18).reshape(6, 3) * 0.9, cell=[8, 8, 17], pbc=True, tags=[0, 0, 1, 1, 2, 2]
    )
    atoms.set_constraint(FixAtoms([0, 1]))
    results = {"energy": -30.0, "forces": rng.normal(size=(6, 3))} if forces else {"energy": -30.0}
    atoms.calc = SinglePointCalculator(atoms, **results)
    atoms.info |= {"sid": seed, "fid": 0, "energy_reference": "total"}
    return atoms


def test_report(write):
    waters = [make_water(i, config_type="liquid") for i in range(3)]
    first = write("first.xyz", make_atom("H"), *waters)
    second = write("second.xyz", waters[0], make_water(9, forces=False))
    report = inspect(first, second, r_max=3.0, vendi_frames=10)
    file = report.files[0]
    assert (report.frames, file.frames, file.usable, file.format) == (6, 4, 4, "extxyz")
    assert file.labels == {"energy": 4, "forces": 3}
    assert file.label_places["energy"] == {"energy (calculator)": 4}
    assert file.atoms == {"min": 1, "median": 3, "max": 3, "total": 10}
    assert file.elements == {"H": 7, "O": 3} and report.elements == {"H": 11, "O": 5}
    assert (file.one_atom, file.periodic, file.config_types) == (1, 0, {"Default": 1, "liquid": 3})
    assert file.edges["per_atom"] == pytest.approx(18 / 10) and file.edges["max"] == 6
    assert file.energy_per_atom["min"] == file.energy_per_atom["max"] == -690.0
    forces = np.concatenate([atoms.calc.results["forces"] for atoms in waters])
    assert file.forces["rms"] == pytest.approx(np.sqrt((forces**2).mean()), rel=1e-6)
    assert file.forces["max"] == pytest.approx(np.linalg.norm(forces, axis=1).max(), rel=1e-6)
    lengths = [atoms.get_all_distances()[np.triu_indices(3, 1)].min() for atoms in waters]
    assert file.distances["min"] == pytest.approx(min(lengths), abs=1e-6)
    assert report.files[1].duplicates["before"] == {first: 1}
    assert report.E0s == {"elements": 2, "rank": 2, "undetermined": []}
    assert report.files[1].E0s == {"elements": 2, "rank": 1, "undetermined": ["H", "O"]}
    assert report.batch["largest_frame"] == 6 and report.batch["max_edges_per_batch"] >= 24
    assert report.vendi["frames"] == 5 and 1 <= report.vendi["scores"]["1"] <= 5
    assert report.problems == [] and report.status() == 0


def test_text_fits_the_terminal_and_names_what_matters(write):
    paths = [write(f"train_{i}.xyz", *many(3), make_water(i, forces=False)) for i in range(3)]
    text = str(inspect(*paths))
    assert all(len(line) <= 120 for line in text.splitlines())
    assert "train_0.xyz" in text and "1 of 4 frames have no forces" in text and "E0s" in text
    assert paths[0] not in text  # the folder that is common to all is not repeated


def test_json_can_be_written_and_has_the_keys_of_a_pipeline(write):
    bare = ase.Atoms("H2", [[0, 0, 0], [0, 0, 0.75]])
    report = inspect(write("a.xyz", *many(3)), write("b.xyz", bare), write("c.xyz", make_atom("H")), vendi_frames=5)
    values = json.loads(json.dumps(report.to_json(), allow_nan=False))
    assert values["frames"] == 5
    assert {"problems", "warnings", "E0s", "batch", "splits", "vendi", "files"} <= values.keys()
    for file, n in zip(values["files"], (3, 1, 1), strict=True):
        assert {"path", "format", "labels", "problems", "warnings", "duplicates", "units"} <= file.keys()
        assert file["frames"] == n


def test_what_cannot_be_used_is_a_problem_and_the_rest_is_read(write, tmp_path):
    bad = make_water(1)
    bad.calc.results["energy"] = np.nan
    coincident = make_water(2)
    coincident.positions[2] = coincident.positions[1]
    nameless = make_water(3, sid="first")
    cut_off = tmp_path / "cut.xyz"
    cut_off.write_text(Path(write("whole.xyz", *many(3))).read_text()[:-100])
    report = inspect(write("b.xyz", make_water(0), bad, coincident, nameless, make_water(5)), cut_off)
    first, second = report.files
    assert [problem[:8] for problem in first.problems] == ["record 1", "record 2", "record 3"]
    assert "not finite" in first.problems[0] and "same place" in first.problems[1] and "sid" in first.problems[2]
    assert (first.frames, first.usable) == (5, 2)
    assert (second.frames, second.usable) == (3, 2) and second.problems[0].startswith("record 2")
    assert report.status() == 1
    assert len(report.problems) == 4 and str(cut_off) in report.problems[3]


def test_a_file_that_cannot_be_opened_is_a_problem(tmp_path, write):
    (tmp_path / "fake.lmdb").write_bytes(b"nothing of the kind")
    report = inspect(tmp_path / "fake.lmdb", write("good.xyz", make_water(0)))
    assert (report.files[0].frames, report.files[1].frames, report.status()) == (0, 1, 1)
    assert len(report.files[0].problems) == 1 and "1 file cannot be read" in str(report)


def test_nothing_found(tmp_path):
    (tmp_path / "empty.xyz").write_text("")
    assert inspect(tmp_path / "empty.xyz").status() == 1
    for paths, message in (([], "at least one file"), (["/nowhere/a.xyz"], "no file")):
        with pytest.raises(UserError, match=message):
            inspect(*paths)
    (tmp_path / "side").mkdir()
    (tmp_path / "side" / "0.txt.xz").write_bytes(b"")
    with pytest.raises(UserError, match="without files of structures"):
        inspect(tmp_path / "side")
    with pytest.raises(UserError, match="r_max"):
        inspect(tmp_path / "empty.xyz", r_max=-1.0)


def test_a_folder_and_a_slice(write, tmp_path):
    for i in (10, 2):
        write(f"{i}.xyz", *many(i))
    (tmp_path / "10.txt").write_text("a side file")
    assert [file.frames for file in inspect(tmp_path).files] == [2, 10]
    assert [file.frames for file in inspect(f"{tmp_path}/10.xyz[1:8:3]").files] == [3]
    assert [file.frames for file in inspect(f"{tmp_path}[1:5]").files] == [1, 3]


def test_missing_labels_and_near_misses_are_warnings(write):
    renamed = make_water(2, forces=False)
    renamed.arrays["dft_forces"] = np.ones((3, 3))
    path = write("a.xyz", renamed, make_atom("H"))
    report = inspect(path)
    assert report.files[0].warnings[0] == "1 of 2 frames have no forces"  # an isolated atom needs none
    assert "set forces_key=dft_forces" in report.files[0].warnings[1]
    assert (report.status(), report.status(strict=True)) == (0, 1)
    named = inspect(path, keys=LabelKeys(forces="dft_forces"))
    assert named.files[0].labels["forces"] == 1 and named.all_warnings == []
    assert warnings(path, keys=LabelKeys(forces=None)) == ""


def test_candidates_that_disagree_are_a_problem(write):
    path = write("a.xyz", make_water(0, REF_energy=-1.0))
    assert "two candidates for energy disagree" in inspect(path).problems[0]
    assert not inspect(path, keys=LabelKeys(energy="REF_energy")).problems


def test_outliers_are_named(write):
    frames = many(40)
    frames[7].calc.results["energy"] += 5.0
    frames[9].calc.results["forces"][1] = [0, 0, 500.0]
    found = warnings(write("a.xyz", *frames))
    assert "1 energies far from the other frames': record 7 (+1.6" in found
    assert "1 forces far beyond the other frames': record 9 (+500 eV/Å)" in found


def test_duplicates_within_and_across_files(write):
    frames = many(4)
    other = frames[1].copy()
    other.calc = SinglePointCalculator(other, energy=-2000.0, forces=np.zeros((3, 3)))
    first = write("train.xyz", *frames, frames[2])
    second = write("test.xyz", other, make_water(50))
    report = inspect(first, second)
    assert [file.duplicates["within"] for file in report.files] == [1, 0]
    assert report.files[1].duplicates["before"] == {first: 1}
    assert report.files[1].duplicates["other_energy"] == 1
    found = "\n".join(report.all_warnings)
    assert "1 repeated frames have another energy than before, by +69.999" in found
    assert "training and test share frames" in found


def test_isolated_atoms_are_no_duplicates(write):
    assert warnings(write("a.xyz", make_atom("H"), make_atom("H"))) == ""


def test_atoms_inside_each_other(write):
    atoms = ase.Atoms("CC", [[0, 0, 0], [0, 0, 0.4]])
    atoms.calc = SinglePointCalculator(atoms, energy=-1.0, forces=np.zeros((2, 3)))
    found = inspect(write("a.xyz", make_water(0), atoms)).files[0]
    assert "record 1 (C0-C1: 0.26 of the sum of covalent radii)" in "\n".join(found.warnings)
    assert found.distances["closest"][0]["record"] == 1


def test_elements_in_test_but_not_in_train(write):
    salt = ase.Atoms("NaCl", [[0, 0, 0], [0, 0, 2.4]])
    salt.calc = SinglePointCalculator(salt, energy=-1.0, forces=np.zeros((2, 3)))
    train, test = write("train_300K.xyz", *many(2)), write("val_ood_cat.xyz", make_water(7), salt)
    report = inspect(train, test)
    assert report.splits["elements_only_in_test"] == {test: ["Na", "Cl"]}
    assert report.splits["roles"] == {train: "train", test: "test"}
    assert any("Na, Cl" in warning for warning in report.warnings)
    a, b = write("a.xyz", *many(2)), write("b.xyz", salt)
    assert "a.xyz is taken for it" in warnings(a, b)


def test_tags_fixed_atoms_and_their_forces(write):
    file = inspect(write("slabs.xyz", *(slab(i) for i in range(3)))).files[0]
    assert file.tags == {"0": 6, "1": 6, "2": 6}
    assert file.fixed == {"frames": 3, "atoms": 6}
    assert file.identifiers == {"sid": 3, "fid": 3}
    assert file.energy_reference == {"total": 3}
    fixed = np.concatenate([slab(i).calc.results["forces"][:2] for i in range(3)])
    free = np.concatenate([slab(i).calc.results["forces"][2:] for i in range(3)])
    assert file.forces["rms_fixed"] == pytest.approx(np.sqrt((fixed**2).mean()), rel=1e-6)
    assert file.forces["rms"] == pytest.approx(np.sqrt((free**2).mean()), rel=1e-6)
    assert "they carry forces in 1 file" in str(inspect(write("slabs.xyz", slab())))


def test_energy_references_that_differ(write):
    adsorption = slab(1)
    adsorption.info["energy_reference"] = "adsorption"
    total, other = write("a.xyz", slab()), write("b.xyz", adsorption)
    assert "energies of several references: total (1), adsorption (1)" in warnings(total, other)
    assert "energies of several references" in warnings(write("c.xyz", slab(), adsorption))


def test_labels_of_relaxed_structures(write):
    atoms = slab(forces=False)
    atoms.calc = None
    atoms.info["relaxed_energy"] = -1.5
    atoms.arrays["relaxed_positions"] = atoms.positions + 0.1
    file = inspect(write("is2re.xyz", atoms)).files[0]
    assert (file.frames, file.labels, file.warnings) == (1, {"relaxed_energy": 1, "relaxed_positions": 1}, [])
    for value in (float("nan"), "low", [1.0, 2.0]):
        atoms.info["relaxed_energy"] = value
        assert "relaxed_energy" in inspect(write("wrong.xyz", atoms)).problems[0]


@pytest.mark.parametrize("number", [0, -3, 119, 4000])
def test_atomic_numbers_of_no_element(number):
    atoms = make_water(0)
    atoms.numbers[1] = number
    with pytest.raises(UserError, match=f"atomic number {number};"):
        measure(atoms, 0, LabelKeys(), 5.0)


def test_atoms_that_are_nowhere():
    far, held = slab(), slab()
    far.positions[2, 1] = 1e20
    held.set_constraint(FixAtoms([0, 400]))
    for atoms, message in ((far, "1e[+]20 Å away"), (held, "holds atom 400")):
        with pytest.raises(UserError, match=message):
            measure(atoms, 0, LabelKeys(), 5.0)


def test_a_cell_that_would_fill_the_memory_is_refused(write):
    tiny = slab()
    tiny.set_cell([1e-3, 1e-3, 1e-3])
    line = make_water(0)
    line.set_cell([1e-7, 5, 5])
    line.pbc = [True, False, False]
    problems = inspect(write("tiny.xyz", tiny, line, slab())).problems
    assert len(problems) == 2 and all("cell is too small" in problem for problem in problems)


@pytest.mark.parametrize(
    ("folder", "frames"),
    [("is2re_lmdb_pyg1", 3), ("is2re_lmdb_pyg2", 3), ("s2ef_lmdb_pyg1", 120), ("s2ef_aselmdb", 30), ("raw_traj", 63)],
)
def test_real_slabs(shared_data, folder, frames):
    report = inspect(shared_data / "oc20" / folder)
    assert (report.frames, report.problems) == (frames, [])
    assert all(file.labels["energy"] == file.labels["forces"] == file.frames for file in report.files)
    if folder.startswith("is2re"):
        assert report.files[0].labels["relaxed_energy"] == 3


def test_real_molecules(shared_data):
    names = ("train_300K.xyz.gz", "test_dihedral.xyz", "isolated_atoms.xyz")
    report = inspect(*(shared_data / "acac" / name for name in names))
    assert [file.frames for file in report.files] == [500, 45, 3]
    assert [file.labels.get("forces") for file in report.files] == [500, None, None]
    assert report.files[0].units["sure"] == "sure" and report.files[0].units["energy"] == "eV"
    assert report.E0s["undetermined"] == []


def test_the_bundled_set(bundled_data):
    report = inspect(*(bundled_data / f"{name}.xyz.gz[::10]" for name in ("train_300K", "test_1200K")))
    assert report.frames == 75 and report.problems == report.all_warnings == []
    assert report.files[0].units["energy"] == "eV"


def test_a_damaged_record_of_a_real_lmdb(shared_data, tmp_path):
    source = shared_data / "oc20" / "s2ef_lmdb_pyg2" / "data.0000.lmdb"
    content = bytearray(source.read_bytes())
    place = content.find(b"torch_geometric", len(content) // 2)
    content[place : place + 15] = b"x" * 15
    damaged = tmp_path / "data.lmdb"
    damaged.write_bytes(content)
    report = inspect(damaged)
    assert report.frames == 60 and report.files[0].usable < 60
    assert report.status() == 1 and report.problems[0].startswith(f"{damaged}: record ")
