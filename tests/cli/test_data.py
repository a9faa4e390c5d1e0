"""`mace-gaunt data`: its subverbs, their keys and exit statuses."""

import json
import subprocess
import sys

import ase.io
import numpy as np
import pytest

from mace_gaunt.cli.data import SUBVERBS


@pytest.fixture
def bad_file(frames, tmp_path):
    """A file whose third frame has an energy that is not a number."""
    path = tmp_path / "bad.xyz"
    copies = [atoms.copy() for atoms in frames[4:8]]
    for i, atoms in enumerate(copies):
        atoms.info["energy"] = np.nan if i == 2 else -1.0
    ase.io.write(path, copies)
    return path


@pytest.mark.parametrize("name", SUBVERBS)
def test_each_subverb_has_a_help_of_its_own(name, command):
    status, out, _ = command("data", name, "--help")
    assert status == 0
    assert out.count(f"mace-gaunt data {name}") >= 2


def test_help_imports_nothing_heavy():
    code = (
        "import sys; from mace_gaunt.cli.main import main\n"
        f"for name in {tuple(SUBVERBS)}: main(['data', name, '--help'])\n"
        "loaded = [name for name in ('torch', 'hydra', 'lightning', 'ase', 'numpy') if name in sys.modules]\n"
        "sys.exit(', '.join(loaded) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("data inspect path=FILE r_max=-1", "expected a positive number"),
        ("data inspect path=FILE strict=perhaps", "expected true or false"),
        ("data inspect path=FILE json=absent/a.json", "there is no folder absent"),
        ("data inspect FILE path=FILE", "give one of them"),
        ("data inspect --multirun path=FILE", "'data inspect' has no '--multirun'"),
        ("data vendi", "Give path="),
        ("data vendi path=FILE kernel=cosin", "Did you mean 'cosine'"),
        ("data vendi path=FILE q=x", "no number"),
        ("data vendi path=FILE q=-1", "0 or more"),
        ("data vendi path=FILE device=cpu", "give model=FOLDER"),
        ("data vendi path=FILE model=absent r_max=4", "the model's own"),
        ("data vendi path=FILE model=absent", "No model folder"),
        ("data select path=FILE n=3", "out is missing"),
        ("data select path=FILE out=a.extxyz", "n is missing"),
        ("data select path=FILE out=a.db n=3", ".xyz or .extxyz"),
        ("data select path=FILE out=a.xyz n=300", "n=300 frames cannot be chosen from 14"),
        ("data select path=FILE out=a.xyz n=3 method=nearest", "no 'nearest'"),
    ],
)
def test_mistakes(words, message, data_file, refused):
    assert message in refused(*words.replace("FILE", str(data_file)).split())


def test_inspect_writes_json_and_is_content_with_good_files(data_file, command, tmp_path):
    status, out, _ = command("data", "inspect", f"path={data_file}", "json=a.json", "vendi_frames=6")
    assert status == 0
    report = json.loads((tmp_path / "a.json").read_text())
    assert report["frames"] == 14 and report["problems"] == []
    (file,) = report["files"]
    assert (file["path"], file["format"], file["frames"]) == (str(data_file), "extxyz", 14)
    assert file["labels"] == {"energy": 14, "forces": 10} and file["problems"] == []
    assert report["vendi"]["frames"] == 6 and report["batch"]["max_edges_per_batch"] > 0
    assert "frames      14 in 1 file, 0 cannot be used" in out


def test_inspect_tells_warnings_from_problems(energies_only, bad_file, command, tmp_path):
    words = ["data", "inspect", f"path={energies_only}", "vendi_frames=0"]
    assert command(*words)[0] == 0
    status, out, _ = command(*words, "strict=true")
    assert status == 1 and "have no forces" in out
    assert command(*words, "strict=true", "forces_key=null")[0] == 0
    status, out, _ = command("data", "inspect", f"path={bad_file}", "json=bad.json")
    assert status == 1 and "record 2: energy" in out
    report = json.loads((tmp_path / "bad.json").read_text())
    assert report["frames"] == 4 and len(report["files"][0]["problems"]) == 1


def test_inspect_finds_nothing(command, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "0.txt.xz").write_bytes(b"")
    status, _, err = command("data", "inspect", "path=empty")
    assert status == 2 and "without files of structures" in err
    (tmp_path / "none.xyz").write_text("")
    status, out, _ = command("data", "inspect", "none.xyz")
    assert status == 1 and "0 in 1 file" in out and "empty" in out


def test_inspect_finds_the_splits_of_a_data_set(frames, command, tmp_path):
    root = tmp_path / "splits"
    root.mkdir()
    for name in ("train_300K", "test_300K"):
        ase.io.write(root / f"{name}.xyz", frames[4:7])
    status, out, _ = command("data", "inspect", "data=3bpa", f"root={root}", "vendi_frames=0")
    assert status == 0 and "6 in 2 files" in out
    assert "training and test share frames" in out


def test_inspect_reads_several_files(data_file, energies_only, command):
    for words in ([f"path=[{data_file},{energies_only}]"], [str(data_file), str(energies_only)]):
        status, out, _ = command("data", "inspect", *words, "vendi_frames=0")
        assert status == 0 and "28 in 2 files" in out
        assert "10 repeated frames: 10 also in" in out


def test_vendi(data_file, bundled_data, command, tmp_path):
    status, out, _ = command("data", "vendi", f"path={data_file},{data_file}[4:6]", "q=0,1,inf", "json=v.json")
    assert status == 0 and "q=inf" in out
    sets = json.loads((tmp_path / "v.json").read_text())["sets"]
    assert {name: entry["frames"] for name, entry in sets.items()} == {
        str(data_file): 14,
        f"{data_file}[4:6]": 2,
        "all": 16,
    }
    assert all(1 <= score <= entry["frames"] for entry in sets.values() for score in entry["scores"].values())
    # Two more copies add no new frame.
    assert sets["all"]["scores"]["0"] == pytest.approx(sets[str(data_file)]["scores"]["0"], abs=1e-6)
    model = bundled_data.parent / "models" / "3bpa_xtb_gaunt"
    words = ["data", "vendi", f"path={data_file}[4:]", f"model={model}", "device=cpu", "kernel=cosine"]
    status, out, _ = command(*words, "max_frames=5")
    assert status == 0 and "invariant features of" in out and "5 of 10 records" in out


def test_records_left_out_are_named(bad_file, command, tmp_path):
    # Coincident atoms cannot be described; a label that is not a number can.
    frames = ase.io.read(bad_file, ":")
    frames[1].positions[1] = frames[1].positions[0]
    ase.io.write(tmp_path / "torn.xyz", frames)
    status, _, err = command("data", "vendi", "path=torn.xyz")
    assert status == 2 and "record 1" in err and "on_bad_frame=skip" in err
    status, _, err = command("data", "vendi", "path=torn.xyz", "on_bad_frame=skip")
    assert status == 1 and "left out" in err and "record 1" in err


def test_select(data_file, command, tmp_path):
    words = ["data", "select", f"path={data_file}[4:]", "n=4", "seed=2"]
    status, out, _ = command(*words, "out=a.extxyz")
    assert status == 0 and "chosen" in out and "random" in out
    chosen = ase.io.read(tmp_path / "a.extxyz", ":")
    record = json.loads((tmp_path / "a.json").read_text())
    assert len(chosen) == len(record["frames"]) == 4 and record["seed"] == 2
    everything = ase.io.read(data_file, ":")
    for atoms, frame in zip(chosen, record["frames"], strict=True):
        original = everything[frame["record"]]
        np.testing.assert_allclose(atoms.positions, original.positions, atol=1e-8)
        assert atoms.calc.results["energy"] == original.calc.results["energy"]
        np.testing.assert_allclose(atoms.calc.results["forces"], original.calc.results["forces"], atol=1e-8)
    assert command(*words, "out=b.extxyz")[0] == 0
    assert (tmp_path / "a.extxyz").read_bytes() == (tmp_path / "b.extxyz").read_bytes()
    status, _, err = command(*words, "out=a.extxyz")
    assert status == 2 and "overwrite=true" in err
    assert command(*words[:-1], "seed=1", "out=a.extxyz", "overwrite=true")[0] == 0
    assert (tmp_path / "a.extxyz").read_bytes() != (tmp_path / "b.extxyz").read_bytes()
