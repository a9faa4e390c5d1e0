"""Shards: an LMDB file that others can read, an index that finds every record without LMDB."""

import os

import lmdb
import numpy as np
import pytest
from slabs import contents, make_slab
from waters import make_atom

from mace_gaunt.data.atomic_data import AtomicData
from mace_gaunt.data.labels import LabelKeys
from mace_gaunt.data.store import shard
from mace_gaunt.data.store.record import unpack
from mace_gaunt.data.store.shard import ShardContent, ShardFiles, read_index

ELEMENTS = [1, 8, 29, 79]


def gathered(frames) -> ShardContent:
    content = ShardContent()
    for number, atoms in enumerate(frames):
        frame = AtomicData.from_atoms(atoms, 3.5, ELEMENTS, LabelKeys(), frame_index=10 + number)
        content.add(frame, {}, 2, 10 + number)
    return content


@pytest.mark.parametrize("block_bytes", [1, 1500, 2**17], ids=["a value each", "some", "one value"])
def test_values_are_the_records_in_order(tmp_path, monkeypatch, block_bytes):
    monkeypatch.setattr(shard, "BLOCK_BYTES", block_bytes)
    content = gathered([make_slab(i, sid=100 + i, fid=i) for i in range(9)])
    files = content.write(tmp_path, 0)
    environment = lmdb.open(str(tmp_path / "00000.lmdb"), subdir=False, readonly=True, lock=False)
    with environment, environment.begin() as transaction:
        keys, values = zip(*transaction.cursor(), strict=True)
    assert b"".join(values) == b"".join(content.records)
    assert list(keys) == [b"%08d" % i for i in range(len(keys))]
    assert len(keys) == {1: 9, 1500: len(keys), 2**17: 1}[block_bytes]
    index = read_index((tmp_path / "00000.npy").read_bytes())
    with (tmp_path / "00000.lmdb").open("rb") as file:
        for number, row in enumerate(index):
            found = os.pread(file.fileno(), int(row["size"]), int(row["offset"]))
            assert found == content.records[number]
            fields = unpack(found)
            assert fields["energy"][0] == row["energy"]
            assert (row["sid"], row["fid"], row["source"], row["record"]) == (100 + number, number, 2, 10 + number)
            assert (row["n_atoms"], row["n_pairs"]) == (len(fields["fixed"]), len(fields["shifts"]))
    assert files.intact(tmp_path)
    assert sorted(contents(tmp_path)) == ["00000.lmdb", "00000.npy"]
    assert ShardFiles.from_json(files.to_json()) == files


def test_the_same_frames_give_the_same_bytes(tmp_path):
    frames = [make_slab(i) for i in range(30)] + [make_atom("H")]
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        gathered(frames).write(tmp_path / name, 7)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


def test_a_shard_without_frames(tmp_path):
    files = ShardContent().write(tmp_path, 3)
    assert files.frames == 0
    assert len(read_index((tmp_path / "00003.npy").read_bytes())) == 0


def test_many_blocks_that_are_equal(tmp_path):
    content = gathered([make_slab(0)])
    content.records, content.rows = content.records * 8000, content.rows * 8000
    assert content.write(tmp_path, 0).lmdb.size > 8000 * len(content.records[0])
    whole = (tmp_path / "00000.lmdb").read_bytes()
    for row in read_index((tmp_path / "00000.npy").read_bytes())[::999]:
        assert whole[row["offset"] :].startswith(content.records[0])


@pytest.mark.parametrize("table", [np.zeros(3), np.zeros((2, 2), shard.INDEX), np.array([{}], dtype=object)])
def test_what_is_no_index(tmp_path, table):
    np.save(tmp_path / "x.npy", table)
    with pytest.raises(ValueError, match=r"an index has the columns|allow_pickle"):
        read_index((tmp_path / "x.npy").read_bytes())


def test_damaged_index(tmp_path):
    np.savez(tmp_path / "x.npz", np.zeros(3))
    for damaged in (b"", b"\x93NUMPY", b"PK\x03\x04 no zip", (tmp_path / "x.npz").read_bytes()):
        with pytest.raises(ValueError):
            read_index(damaged)


def test_a_disk_that_is_full(tmp_path, monkeypatch):
    def full(*_, **__):
        raise lmdb.DiskError("No space left on device")

    monkeypatch.setattr(lmdb, "open", full)
    with pytest.raises(OSError, match="No space left"):
        gathered([make_slab(0)]).write(tmp_path, 0)
