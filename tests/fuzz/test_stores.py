"""Damaged stores, checkpoints of simulations and records: every change of a byte that matters is noticed."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import ase.io
import numpy as np
import pytest
from mutations import COUNTS, survive
from slabs import make_slab, same_bits

from mace_gaunt.data.atomic_data import AtomicData
from mace_gaunt.data.store.engines import open_engine
from mace_gaunt.data.store.manifest import NAME
from mace_gaunt.data.store.prepare import prepare
from mace_gaunt.data.store.reader import Store
from mace_gaunt.data.store.record import pack, unpack
from mace_gaunt.data.store.request import Request
from mace_gaunt.data.store.shard import INDEX, index_path, lmdb_path, read_index
from mace_gaunt.data.store.verify import verify
from mace_gaunt.errors import UserError
from mace_gaunt.simulation import md_checkpoint
from mace_gaunt.simulation.md_checkpoint import Checkpoint, load_checkpoint


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Path:
    """A store of 8 slabs in two shards."""
    folder = tmp_path_factory.mktemp("stores")
    ase.io.write(folder / "slabs.extxyz", [make_slab(i) for i in range(8)])
    with open_engine("local", 1) as engine:
        prepare(Request([folder / "slabs.extxyz"], folder / "store", 3.0, shard_size=5), engine)
    return folder / "store"


def problems(folder: Path) -> list[str]:
    with open_engine("local", 1) as engine:
        return verify(folder, engine)


def same_json(first: bytes, second: bytes) -> bool:
    try:
        return json.dumps(json.loads(first), sort_keys=True) == json.dumps(json.loads(second), sort_keys=True)
    except (ValueError, RecursionError):
        return False


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("place", [lambda folder: folder / NAME, lambda f: lmdb_path(f, 1), lambda f: index_path(f, 1)])
def test_stores(store, tmp_path, place, count):
    """`data verify` names the change, and no frame is read that differs from what was stored."""
    folder = shutil.copytree(store, tmp_path / "store")
    path, original = place(folder), place(store).read_bytes()
    frames = list(Store(store))

    def read(content: bytes) -> str:
        path.write_bytes(content)
        changed = content != original and (path.name != NAME or not same_json(content, original))
        try:
            found = problems(folder)
        except UserError:
            assert changed
        else:
            assert bool(found) == changed, "a change was not noticed"
        # Lists, and so the length, are read before a frame is.
        for frame, expected in zip(Store(folder), frames, strict=True):
            same_bits(frame, expected)
        return "sound"

    outcomes = survive(original, read, count)
    assert outcomes["refused"] > count // 4


@pytest.mark.parametrize("count", COUNTS)
def test_records(count):
    """A record has a checksum, which every change breaks."""
    frame = AtomicData.from_atoms(make_slab(2), 3.0, [1, 8, 29, 79])

    record = pack(frame)

    def read(content: bytes) -> str:
        unpack(content)
        assert content == record, "a changed record was read"
        return "sound"

    assert survive(record, read, count, refusal=ValueError)["refused"] == count


@pytest.mark.parametrize("count", COUNTS)
def test_indices(store, count):
    def read(content: bytes) -> str:
        index = read_index(content)
        assert index.dtype == INDEX and index.ndim == 1
        return "sound"

    outcomes = survive(index_path(store, 0).read_bytes(), read, count, refusal=ValueError)
    assert outcomes["refused"] > count // 4


def same_checkpoint(first: Checkpoint, second: Checkpoint) -> bool:
    groups = ("atoms", "integrator", "results", "neighbors")
    return first.info == second.info and all(
        (ours := getattr(first, group)).keys() == (theirs := getattr(second, group)).keys()
        and all(
            ours[name].tobytes() == theirs[name].tobytes() and ours[name].shape == theirs[name].shape for name in ours
        )
        for group in groups
    )


@pytest.mark.parametrize("count", COUNTS)
def test_checkpoints_of_simulations(tmp_path, count):
    random = np.random.default_rng(0)
    atoms = {"numbers": np.array([1, 8, 1]), "positions": random.normal(size=(3, 3)), "pbc": np.zeros(3, bool)}
    saved = Checkpoint(
        {"step": 7, "settings": {"timestep_fs": 0.5}, "random": list(range(40))},
        atoms | {"momenta": random.normal(size=(3, 3))},
        results={"energy": np.array(-2.5), "forces": random.normal(size=(3, 3))},
    )
    path = saved.save(tmp_path)
    original = load_checkpoint(tmp_path)
    assert original is not None

    outcomes = survive(path.read_bytes(), reads_the_same(path, original), count)
    assert outcomes["refused"] > count // 2


def reads_the_same(path: Path, original: Checkpoint) -> Callable[[bytes], str]:
    def read(content: bytes) -> str:
        path.write_bytes(content)
        found = load_checkpoint(path.parent)
        assert found is not None and same_checkpoint(found, original), "a changed checkpoint was accepted"
        return "sound"

    return read


def test_a_checkpoint_that_lacks_an_array(tmp_path):
    """Every array has a checksum of its own in the archive; the list of them is kept beside."""
    saved = Checkpoint({"step": 1}, {"numbers": np.array([1]), "positions": np.zeros((1, 3))})
    with np.load(saved.save(tmp_path)) as content:
        arrays = {name: content[name] for name in content.files if name != "atoms/positions"}
    np.savez(tmp_path / md_checkpoint.NAME, **arrays)
    with pytest.raises(UserError, match="is damaged"):
        load_checkpoint(tmp_path)
