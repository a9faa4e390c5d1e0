"""Every kind of file, slices, and files that cannot be read."""

import gzip
import hashlib
import lzma
import time
from pathlib import Path

import ase.db
import ase.io
import numpy as np
import pytest
from waters import make_water

from mace_gaunt.data.readers import bare_stem, read_frames, split_slice
from mace_gaunt.errors import UserError

WATERS = [make_water(i, energy=-2070.0 - i, mark=i) for i in range(5)]


def check(frames, expected=range(5)):
    assert [atoms.info["mark"] for atoms in frames.atoms] == list(expected)
    assert frames.indices == list(expected)
    for atoms, index in zip(frames.atoms, expected, strict=True):
        np.testing.assert_allclose(atoms.positions, WATERS[index].positions, atol=1e-7)
        np.testing.assert_allclose(atoms.calc.results["forces"], WATERS[index].calc.results["forces"], atol=1e-7)
        assert atoms.calc.results["energy"] == -2070.0 - index


@pytest.mark.parametrize("name", ["a.xyz", "a.extxyz", "a.traj"])
def test_kinds(tmp_path, name):
    ase.io.write(tmp_path / name, WATERS, format="traj" if name == "a.traj" else "extxyz")
    frames = read_frames(tmp_path / name)
    check(frames)
    assert frames.sha256 == hashlib.sha256((tmp_path / name).read_bytes()).hexdigest()


def test_database_with_its_own_keys(tmp_path):
    with ase.db.connect(tmp_path / "a.db") as database:
        for atoms in WATERS:
            database.write(atoms, mark=atoms.info["mark"], data={"extra_forces": np.ones((3, 3))})
    frames = read_frames(tmp_path / "a.db")
    check(frames)
    assert frames.atoms[0].info["extra_forces"].shape == (3, 3)


@pytest.mark.parametrize(("suffix", "pack"), [("gz", gzip.compress), ("xz", lzma.compress)])
def test_compressed(write, tmp_path, suffix, pack):
    path = tmp_path / f"b.xyz.{suffix}"
    path.write_bytes(pack(Path(write("a.xyz", *WATERS)).read_bytes().replace(b"\n", b"\r\n")))
    check(read_frames(path))
    assert bare_stem(path) == "b"


@pytest.mark.parametrize(
    ("brackets", "expected"),
    [("[1:3]", [1, 2]), ("[::2]", [0, 2, 4]), ("[-2:]", [3, 4]), ("[2]", [2]), ("[-1]", [4]), ("[:]", range(5))],
)
def test_slices(write, brackets, expected):
    check(read_frames(write("a.xyz", *WATERS) + brackets), expected)


def test_a_file_with_brackets_in_its_name(write):
    path = write("a[1:3].xyz", *WATERS)
    assert split_slice(path) == (Path(path), None)
    check(read_frames(path))


def test_missing_file_names_the_nearest(write):
    path = write("train.xyz", *WATERS)
    with pytest.raises(UserError, match=r"no file .*trian.xyz. Did you mean 'train.xyz'"):
        read_frames(path.replace("train", "trian"))
    with pytest.raises(UserError, match="does not exist or is empty"):
        read_frames("/nowhere/at/all.xyz")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.xyz", b"", "no structures"),
        ("a.xyz", b"hello\n", "cannot read"),
        ("a.xyz", b"3\nProperties=species:S:1:pos:R:3\nH 0 0 0\nH 0 0 1\n", "cannot read"),
        ("a.xyz", b"1\n\nXq 0 0 0\n", "cannot read"),
        ("a.xyz.gz", b"not gzip", "cannot read"),
        ("a.xyz.xz", b"not xz", "cannot read"),
        ("a.db", b"not a database", "cannot read"),
        ("a.traj", b"not a trajectory", "cannot read"),
        ("a.csv", b"1,2\n", "cannot tell what"),
        ("a.gz", b"", "cannot tell what"),
    ],
)
def test_unreadable_files(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=message):
        read_frames(tmp_path / name)


def test_folders_and_empty_slices(write, tmp_path):
    with pytest.raises(UserError, match="is a folder"):
        read_frames(tmp_path)
    with pytest.raises(UserError, match=r"selects no frame; the file has 5"):
        read_frames(write("a.xyz", *WATERS) + "[7:]")
    with pytest.raises(UserError, match="write a slice"):
        read_frames(write("a.xyz", *WATERS) + "[]")


def test_numbers_that_no_element_has(tmp_path):
    waters = [make_water(0), make_water(1)]
    waters[1].numbers[0] = 119
    ase.io.write(tmp_path / "a.traj", waters)
    with pytest.raises(UserError, match=r"a.traj, frame 1: atom 0 has the atomic number 119"):
        read_frames(tmp_path / "a.traj")
    assert len(read_frames(tmp_path / "a.traj[:1]")) == 1


def test_real_files(shared_data):
    start = time.perf_counter()
    frames = read_frames(shared_data / "3bpa" / "train_mixedT.xyz.gz[334:]")
    assert time.perf_counter() - start < 5
    assert len(frames) == 166 and frames.indices[0] == 334
    assert frames.sha256.startswith("77b29774d9eea0e0")
    assert len(frames.atoms[0].info["dihedrals"]) == 3
    assert len(read_frames(shared_data / "acac" / "isolated_atoms.xyz")) == 3
    assert len(read_frames(shared_data / "oc20" / "s2ef_shards" / "0.extxyz.xz")) == 224
