"""`data verify` finds whatever is not as it was."""

from pathlib import Path

import ase.io
import numpy as np
import pytest
from slabs import make_slab

from mace_gaunt.data.store.engines import open_engine
from mace_gaunt.data.store.manifest import read_manifest
from mace_gaunt.data.store.shard import FileCheck, index_path, lmdb_path
from mace_gaunt.data.store.verify import verify
from mace_gaunt.errors import UserError


@pytest.fixture
def folder(slabs, make, tmp_path):
    """A store of 12 slabs in three shards, one record of the sources bad."""
    frames = ase.io.read(slabs[0], ":")
    frames[2].positions[0] = frames[2].positions[1]
    ase.io.write(slabs[0], frames)
    make(slabs, shard_size=5, on_bad_frame="skip")
    return tmp_path / "store"


def problems(folder: Path, deep: bool = False) -> list[str]:
    with open_engine("local", 1) as engine:
        return verify(folder, engine, deep)


def flip(path: Path, position: int) -> None:
    content = bytearray(path.read_bytes())
    content[position] ^= 0x10
    path.write_bytes(content)


def test_a_store_as_it_was(folder):
    assert problems(folder) == []
    assert problems(folder, deep=True) == []


def test_a_changed_byte_anywhere_in_a_shard(folder):
    size = lmdb_path(folder, 1).stat().st_size
    for position in np.random.default_rng(0).integers(0, size, 15).tolist():
        flip(lmdb_path(folder, 1), position)
        found = problems(folder)
        assert found[0] == f"{lmdb_path(folder, 1)} has changed: its sha256 is not that of the manifest"
        flip(lmdb_path(folder, 1), position)
    assert problems(folder) == []


def test_a_changed_record_is_named(folder):
    content = lmdb_path(folder, 1).read_bytes()
    flip(lmdb_path(folder, 1), content.index(b"MG") + 30)
    found = problems(folder)
    assert len(found) == 2
    assert found[1].startswith(f"{lmdb_path(folder, 1)}, record 0: the record is damaged")


def test_files_cut_off_missing_and_strange(folder):
    whole = lmdb_path(folder, 0).read_bytes()
    lmdb_path(folder, 0).write_bytes(whole[:-4096])
    index_path(folder, 1).unlink()
    flip(index_path(folder, 2), 200)
    (folder / "00003.lmdb").touch()
    found = problems(folder)
    assert found[0] == f"{folder / '00003.lmdb'} does not belong to the store"
    assert found[1] == f"{lmdb_path(folder, 0)} has {len(whole) - 4096} bytes; the manifest says {len(whole)}"
    assert any(line == f"{index_path(folder, 1)}: No such file or directory" for line in found)
    assert any(line.startswith(f"{index_path(folder, 2)} has changed") for line in found)


def test_many_bad_records_are_counted(folder):
    content = lmdb_path(folder, 1).read_bytes()
    lmdb_path(folder, 1).write_bytes(content.replace(b"MG\x01", b"MG\x02"))
    found = problems(folder)
    assert len(found) == 5
    assert found[-1].endswith("2 more bad records")


def swap(folder: Path, first: int, second: int) -> None:
    """Exchange the files of two shards, and say in the manifest that it has to be so."""
    manifest = read_manifest(folder)
    for path in (lmdb_path, index_path):
        one, other = path(folder, first), path(folder, second)
        contents = other.read_bytes(), one.read_bytes()
        one.write_bytes(contents[0])
        other.write_bytes(contents[1])
    for number in (first, second):
        entry = manifest.shards[number]
        files = {"lmdb": lmdb_path(folder, number), "index": index_path(folder, number)}
        for name, path in files.items():
            object.__setattr__(entry, name, FileCheck.of(path.read_bytes()))
    manifest.write(folder)


def test_other_records_than_the_manifest_says(folder, make, slabs, tmp_path):
    make(slabs, shard_size=4, on_bad_frame="skip", overwrite=True)
    swap(folder, 1, 2)
    assert [line.split(": ")[1] for line in problems(folder)] == [
        "its records are not those that the manifest says"
    ] * 2


def test_deep_compares_with_the_sources(folder, slabs):
    ase.io.write(slabs[1], [make_slab(i) for i in range(8, 13)])
    assert problems(folder) == []
    assert problems(folder, deep=True) == [f"{slabs[1]} has changed since the store was prepared"]
    slabs[0].unlink()
    assert "0.extxyz" in problems(folder, deep=True)[0]


def test_deep_makes_every_frame_again(folder, monkeypatch):
    """As if another version of the program had made the store."""
    from mace_gaunt.data.store import build

    real = build.make_frame

    def other(atoms, index, settings):
        frame, extra = real(atoms, index, settings)
        if index == 4:
            frame.positions[0, 0] += 1e-13
        return frame, extra

    monkeypatch.setattr(build, "make_frame", other)
    found = problems(folder, deep=True)
    assert [line.split("/")[-1] for line in found] == [
        f"{name}.extxyz, record 4: the frame in the store is another" for name in (0, 1)
    ]
    monkeypatch.setattr(build, "make_frame", real)
    assert problems(folder, deep=True) == []


def test_deep_notices_other_bad_records(folder, monkeypatch):
    from mace_gaunt.data.store import build

    real = build.make_frame

    def strict(atoms, index, settings):
        if index == 3:
            raise UserError("no longer wanted")
        return real(atoms, index, settings)

    monkeypatch.setattr(build, "make_frame", strict)
    assert problems(folder, deep=True) == [f"shard {n}: other records of its sources are bad now" for n in (0, 2)]


def test_an_incomplete_store(folder, tmp_path):
    manifest = read_manifest(folder)
    manifest.complete = False
    manifest.write(folder)
    with pytest.raises(UserError, match="is not complete"):
        problems(folder)
    with pytest.raises(UserError, match="is no store"):
        problems(tmp_path)
