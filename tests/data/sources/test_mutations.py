"""Damaged records and files, at random: never a crash, never a record less without a word."""

import gzip
import random
from pathlib import Path

import ase.db
import ase.io
import pytest
from oc20_files import (
    make_slab,
    write_aselmdb,
    write_batch,
    write_extxyz,
    write_list,
    write_ocp_lmdb,
    write_shard,
)

from mace_gaunt.data.sources.contract import BadRecord
from mace_gaunt.data.sources.discovery import open_source
from mace_gaunt.errors import UserError

SLABS = [make_slab(i) for i in range(5)]
# Of each kind in a CI run, 546 in all; and in the slow test.
FEW, MANY = 39, 2000


def write(folder: Path, kind: str) -> tuple[Path, Path]:
    """A file of a kind, and the one of its files that is to be damaged."""
    if kind.startswith("shard"):
        path = write_shard(folder, 0, SLABS)
        return path, path if kind == "shard" else folder / "0.txt.xz"
    if kind.startswith("lmdb"):
        path = write_ocp_lmdb(folder / "data.lmdb", SLABS, kind.split()[1], len(SLABS))
    elif kind == "traj":
        ase.io.write(path := folder / "a.traj", SLABS)
    elif kind == "db":
        with ase.db.connect(path := folder / "a.db") as database:
            for slab in SLABS:
                database.write(slab)
    elif kind == "gz":
        path = folder / "a.xyz.gz"
        path.write_bytes(gzip.compress(write_extxyz(folder / "b.xyz", SLABS).read_bytes()))
    else:
        writers = {
            "xyz": lambda: write_extxyz(folder / "a.xyz", SLABS),
            "xz": lambda: write_extxyz(folder / "a.extxyz.xz", SLABS),
            "aselmdb": lambda: write_aselmdb(folder / "a.aselmdb", SLABS),
            "zip batch": lambda: write_batch(folder / "a.pt", SLABS),
            "old batch": lambda: write_batch(folder / "b.pt", SLABS, zipped=False),
            "list": lambda: write_list(folder / "a.pkl", SLABS),
        }
        path = writers[kind]()
    return path, path


KINDS = (
    *("lmdb 1", "lmdb 2.0", "lmdb 2.3", "aselmdb", "shard", "shard text"),
    *("xyz", "xz", "gz", "traj", "db", "zip batch", "old batch", "list"),
)


def damage(content: bytes, rng: random.Random, whole: bool) -> bytes:
    """Flip bits, blank out, insert; and unless the file must stay whole, cut off, take out, double a part."""
    data = bytearray(content)
    start = rng.randrange(len(data))
    end = min(start + rng.choice([1, 8, 64, 512, 4096]), len(data))
    kind = rng.randrange(3 if whole else 6)
    if kind == 0:
        for _ in range(rng.randrange(1, 4)):
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    elif kind == 1:
        data[start : min(end, start + 64) if whole else end] = bytes(min(end - start, 64) if whole else end - start)
    elif kind == 2:
        data[start:start] = rng.randbytes(rng.choice([1, 4, 100]))
    elif kind == 3:
        del data[start:]
    elif kind == 4:
        del data[start:end]
    else:
        data[start:start] = data[start:end]
    return bytes(data)


def survive(folder: Path, kind: str, seed: int, count: int) -> dict[str, int]:
    """Damage a file again and again; what came of it, by kind."""
    rng = random.Random(seed)
    path, target = write(folder, kind)
    content = target.read_bytes()
    outcomes = {"sound": 0, "bad records": 0, "refused": 0}
    for turn in range(count):
        # Plain text from which whole frames were cut looks as if they had never been there.
        target.write_bytes(damage(content, rng, whole=kind == "xyz"))
        try:
            source = open_source(path)
            records = list(source.read())
        except UserError as error:
            assert str(path) in str(error)
            outcomes["refused"] += 1
            continue
        bad = [record for record in records if isinstance(record, BadRecord)]
        assert len(source) == len(records), (kind, turn)
        assert bad or len(records) >= len(SLABS), (kind, turn)
        assert all(record.path == path and records[record.index] is record for record in bad), (kind, turn)
        outcomes["bad records" if bad else "sound"] += 1
    return outcomes


@pytest.mark.parametrize("kind", KINDS)
def test_damaged_files(tmp_path, kind):
    outcomes = survive(tmp_path, kind, seed=5, count=FEW)
    assert sum(outcomes.values()) == FEW
    # The damage is real: most of it is noticed.
    assert outcomes["bad records"] + outcomes["refused"] > FEW // 3


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_many_damaged_files(tmp_path, kind):
    outcomes = survive(tmp_path, kind, seed=6, count=MANY)
    assert outcomes["bad records"] + outcomes["refused"] > MANY // 3
