"""The same frames in every format are the same tensors."""

import gzip
import pickle

import ase.db
import ase.io
import numpy as np
import pytest
import torch
from oc20_files import (
    GENERATIONS,
    make_slab,
    write_aselmdb,
    write_batch,
    write_extxyz,
    write_list,
    write_ocp_lmdb,
    write_shard,
)

from mace_gaunt.data.atomic_data import AtomicData
from mace_gaunt.data.labels import LabelKeys
from mace_gaunt.data.sources.discovery import open_source

SLABS = [make_slab(i) for i in range(12)]
EXACT = ("shard", "aselmdb", "traj", "db", "xyz", "gz", "relaxation")
FLOAT32 = (*(f"lmdb {generation}" for generation in GENERATIONS), "zip batch", "old batch", "list")


def write(folder, kind):
    if kind.startswith("lmdb"):
        return write_ocp_lmdb(folder / "data.lmdb", SLABS, kind.split()[1], len(SLABS))
    if kind in ("traj", "db"):
        return write_with_ase(folder / f"a.{kind}")
    if kind == "gz":
        plain = write_extxyz(folder / "a.xyz", SLABS).read_bytes()
        (folder / "b.xyz.gz").write_bytes(gzip.compress(plain))
        return folder / "b.xyz.gz"
    writers = {
        "shard": lambda: write_shard(folder, 0, SLABS),
        "aselmdb": lambda: write_aselmdb(folder / "a.aselmdb", SLABS),
        "xyz": lambda: write_extxyz(folder / "a.extxyz", SLABS),
        "relaxation": lambda: write_extxyz(folder / "random100.extxyz.xz", SLABS),
        "zip batch": lambda: write_batch(folder / "a.pt", SLABS),
        "old batch": lambda: write_batch(folder / "a.pth", SLABS, zipped=False),
        "list": lambda: write_list(folder / "a.pkl", SLABS),
    }
    return writers[kind]()


def write_with_ase(path):
    if path.suffix == ".traj":
        ase.io.write(path, SLABS)
        return path
    with ase.db.connect(path) as database:
        for slab in SLABS:
            database.write(slab)
    return path


def graph(atoms):
    return AtomicData.from_atoms(atoms, 3.0, [1, 8, 29], LabelKeys())


@pytest.mark.parametrize("kind", EXACT + FLOAT32)
def test_every_format_gives_the_same_tensors(tmp_path, kind):
    source = open_source(write(tmp_path, kind))
    found = list(source.read())
    assert len(source) == len(found) == len(SLABS)
    for atoms, slab in zip(found, SLABS, strict=True):
        expected, got = graph(slab), graph(atoms)
        for name in ("atomic_numbers", "tags", "fixed", "pbc"):
            assert torch.equal(got[name], expected[name]), name
        # OCP stores these in float32, everybody else in full.
        for name in ("positions", "cell", "forces"):
            rounded = expected[name].float().double() if kind in FLOAT32 else expected[name]
            assert torch.equal(got[name], rounded), name
        shift = slab.info["reference_energy"] if kind in FLOAT32 else 0.0
        energy = torch.tensor(slab.calc.results["energy"] - shift, dtype=torch.float64)
        # A batch of torch_geometric joins energies in float32, a record of an LMDB holds a number.
        assert got.energy.item() == (energy.float() if "batch" in kind else energy).item()
        if kind not in ("xyz", "gz", "relaxation"):
            assert kind in ("traj", "db") or (got.sid.item(), got.fid.item()) == (slab.info["sid"], slab.info["fid"])


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("shard", {"energy_reference": "total", "reference_energy": -101.25}),
        ("aselmdb", {"energy_reference": "total", "reference_energy": -101.25}),
        ("relaxation", {"energy_reference": "total", "sid": 100, "fid": 3}),
        ("lmdb 1", {"energy_reference": "adsorption", "sid": 103, "fid": 21}),
        ("zip batch", {"energy_reference": "adsorption", "sid": 103, "fid": 21}),
        ("xyz", {}),
    ],
)
def test_what_the_energy_refers_to(tmp_path, kind, expected):
    (record,) = open_source(write(tmp_path, kind)).read(3, 4)
    assert record.info == record.info | expected
    assert ("energy_reference" in record.info) == ("energy_reference" in expected)


@pytest.mark.parametrize("kind", ["shard", "aselmdb", "traj", "db", "gz", "lmdb 2.0", "zip batch"])
def test_parts(tmp_path, kind):
    # Workers get a source by pickle.
    source = pickle.loads(pickle.dumps(open_source(write(tmp_path, kind))))
    every = [atoms.calc.results["energy"] for atoms in source.read()]
    for start, stop in ((0, 3), (5, 9), (10, None), (11, 50), (12, None), (40, 50), (4, 4)):
        assert [atoms.calc.results["energy"] for atoms in source.read(start, stop)] == every[start:stop]


def test_reference_energies_of_relaxations(tmp_path):
    (tmp_path / "system.txt").write_text("random99,-1.5\nrandom100,-101.25\nnonsense\n")
    records = list(open_source(write(tmp_path, "relaxation")).read())
    assert {record.info["reference_energy"] for record in records} == {-101.25}


def test_info_of_a_database(tmp_path):
    path = tmp_path / "a.db"
    with ase.db.connect(path) as database:
        database.write(SLABS[0], kind="slab", data={"weights": np.ones(3), "sid": "random12"})
    (record,) = open_source(path).read()
    assert record.info["kind"] == "slab" and record.info["sid"] == 12 and record.info["weights"].shape == (3,)
