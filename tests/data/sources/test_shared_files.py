"""Real files: every one is read, or refused with a reason; all formats of the same frames are the same tensors."""

import lzma
import re

import numpy as np
import pytest

from mace_gaunt.data.readers import read_frames
from mace_gaunt.data.sources.contract import BadRecord
from mace_gaunt.data.sources.discovery import find_sources, open_source
from mace_gaunt.data.sources.usable import Tally, usable
from mace_gaunt.errors import UserError

RECORDS = {
    "is2re_lmdb_pyg1/data.lmdb": ("OCP LMDB", 3),
    "is2re_lmdb_pyg2/data.lmdb": ("OCP LMDB", 3),
    "is2re_sample.extxyz.xz": ("extxyz", 6),
    "oc22_pickle16_train.pkl": ("pickled graphs", 16),
    "ocp_custom_is2re/data.lmdb": ("OCP LMDB", 32),
    "pyg_batches_is2re_bs3.pt": ("pickled graphs", 3),
    "pyg_batches_s2ef_OC20_batch_3.pt": ("pickled graphs", 3),
    "raw_traj/random1000156.traj": ("ASE trajectory", 36),
    "raw_traj/random1000163.traj": ("ASE trajectory", 27),
    "s2ef_aselmdb/data.0000.aselmdb": ("aselmdb", 30),
    "s2ef_lmdb_pyg1/data.0000.lmdb": ("OCP LMDB", 60),
    "s2ef_lmdb_pyg1/data.0001.lmdb": ("OCP LMDB", 60),
    "s2ef_lmdb_pyg2/data.0000.lmdb": ("OCP LMDB", 60),
    "s2ef_referenced_lmdb_pyg2/data.0000.lmdb": ("OCP LMDB", 3),
    "s2ef_referenced_sample.extxyz.xz": ("extxyz", 3),
    "s2ef_shards/0.extxyz.xz": ("OC20 shard", 224),
    "s2ef_shards/1.extxyz.xz": ("OC20 shard", 223),
    "../lmdb_molecular/3bpa_train_300K.lmdb": ("OCP LMDB", 500),
    "../lmdb_molecular/acac_train_300K.lmdb": ("OCP LMDB", 500),
}
REFUSED = {
    "adsorbates.pkl": "it asks for ase.atoms.Atoms, which is no plain data",
    "oc20_linref.npz": "is a side file",
    "ocp_unittest_atoms.json": "JSON is not read",
    "s2ef_lmdb_pyg1/data_log.0000.txt": "is a side file",
    "s2ef_shards/0.txt.xz": "is a side file",
    "relaxations/summary.json": "JSON is not read",
}


@pytest.fixture(scope="module")
def oc20(shared_data):
    return shared_data / "oc20"


@pytest.mark.parametrize("name", list(RECORDS))
def test_files_are_read_whole(oc20, name):
    source = open_source(oc20 / name)
    found = list(usable(source))
    assert (source.format, len(source), len(found)) == (*RECORDS[name], RECORDS[name][1])
    assert all(len(atoms) and (atoms.numbers > 0).all() for atoms in found)


@pytest.mark.parametrize("name", list(REFUSED))
def test_files_that_are_refused_say_why(oc20, name):
    with pytest.raises(UserError, match=re.escape(REFUSED[name])):
        open_source(oc20 / name)


def test_every_file_is_accounted_for(oc20):
    names = {str(file.relative_to(oc20)) for file in oc20.rglob("*") if file.is_file()}
    relaxations = {name for name in names if re.fullmatch(r"relaxations/random\d+\.extxyz\.xz", name)}
    side = {"s2ef_lmdb_pyg1/data_log.0001.txt", "s2ef_shards/1.txt.xz"}
    assert names - relaxations - side == {n for n in RECORDS if ".." not in n} | set(REFUSED)
    assert len(relaxations) == 15


def test_the_whole_folder(oc20):
    sources = find_sources(oc20)
    assert [source.path.name for source in sources if source.format == "refused"] == ["adsorbates.pkl"]
    assert len(sources) == 17 + 15 + 1
    relaxations = [source for source in sources if source.path.parent.name == "relaxations"]
    assert sum(len(source) for source in relaxations) == 2658


def test_relaxations_are_whole_trajectories(oc20):
    atoms = read_frames(oc20 / "relaxations" / "random1000100.extxyz.xz[120:]").atoms
    assert [frame.info["fid"] for frame in atoms] == list(range(120, 126))
    assert {(frame.info["sid"], frame.info["energy_reference"]) for frame in atoms} == {(1000100, "total")}
    # Forces are raw: fixed atoms have them too.
    fixed = atoms[0].constraints[0].get_indices()
    assert np.abs(atoms[0].calc.results["forces"][fixed]).max() > 0.01


def frames(oc20, name):
    return {(a.info["sid"], a.info["fid"]): a for a in read_frames(oc20 / name).atoms}


@pytest.mark.parametrize("name", ["s2ef_lmdb_pyg1", "s2ef_lmdb_pyg2", "s2ef_aselmdb"])
def test_all_formats_of_the_same_frames_are_the_same(oc20, name):
    shards, found = frames(oc20, "s2ef_shards"), frames(oc20, name)
    assert len(found) == {"s2ef_lmdb_pyg1": 120, "s2ef_lmdb_pyg2": 60, "s2ef_aselmdb": 30}[name]
    # LMDBs of OCP store float32 and energies minus the reference; .aselmdb stores all that the shards tell.
    lossy = name != "s2ef_aselmdb"
    for key, atoms in found.items():
        original = shards[key]
        expected = original.positions.astype(np.float32) if lossy else original.positions
        # The shards' positions have eight digits behind the point: where the rest of the digits, which the LMDBs were
        # made from, decided how float32 rounds, both differ by its last bit.
        assert (np.abs(atoms.positions - expected) <= (np.spacing(np.abs(expected)) + 1e-8) * lossy).all()
        pairs = [
            (atoms.cell.array, original.cell.array),
            (atoms.calc.results["forces"], original.calc.results["forces"]),
        ]
        for got, expected in pairs:
            assert np.array_equal(got, expected.astype(np.float32) if lossy else expected)
        assert np.array_equal(atoms.numbers, original.numbers) and np.array_equal(atoms.get_tags(), original.get_tags())
        assert np.array_equal(atoms.constraints[0].get_indices(), original.constraints[0].get_indices())
        assert atoms.pbc.all() and original.pbc.all()
        reference = original.info["reference_energy"] if lossy else 0.0
        assert atoms.calc.results["energy"] == original.calc.results["energy"] - reference
        assert atoms.info["energy_reference"] == ("adsorption" if lossy else "total")
        assert lossy or atoms.info["reference_energy"] == original.info["reference_energy"]


def test_the_lines_of_a_shard(oc20):
    with lzma.open(oc20 / "s2ef_shards" / "0.txt.xz", "rt") as lines:
        told = [line.strip().split(",") for line in lines]
    for atoms, (system, step, energy) in zip(read_frames(oc20 / "s2ef_shards/0.extxyz.xz").atoms, told, strict=True):
        assert (f"random{atoms.info['sid']}", f"frame{atoms.info['fid']}") == (system, step)
        assert atoms.info["reference_energy"] == float(energy)


@pytest.mark.parametrize("names", [("is2re_lmdb_pyg1", "is2re_lmdb_pyg2", "pyg_batches_is2re_bs3.pt")])
def test_relaxed_structures(oc20, names):
    sets = [read_frames(oc20 / name).atoms for name in names]
    text = read_frames(oc20 / "is2re_sample.extxyz.xz").atoms
    for index, same in enumerate(zip(*sets, strict=True)):
        first, last = text[2 * index : 2 * index + 2]
        for atoms in same:
            assert atoms.info["sid"] == first.info["sid"] and (atoms.get_tags() == first.get_tags()).all()
            assert atoms.calc.results["energy"] == pytest.approx(first.info["adsorption_energy"], abs=1e-5)
            assert atoms.info["relaxed_energy"] == pytest.approx(last.info["adsorption_energy"], abs=1e-5)
            assert np.abs(atoms.positions - first.positions).max() < 2e-6
            assert np.abs(atoms.arrays["relaxed_positions"] - last.positions).max() < 2e-6
            assert np.abs(atoms.calc.results["forces"] - first.calc.results["forces"]).max() < 2e-6


def test_true_referenced_frames(oc20):
    names = ("s2ef_referenced_lmdb_pyg2", "pyg_batches_s2ef_OC20_batch_3.pt", "s2ef_referenced_sample.extxyz.xz")
    lmdb, batch, text = (frames(oc20, name) for name in names)
    assert lmdb.keys() == batch.keys() == text.keys()
    for key, atoms in lmdb.items():
        assert atoms.calc.results["energy"] == batch[key].calc.results["energy"] == text[key].calc.results["energy"]
        assert np.array_equal(atoms.positions, batch[key].positions)
        assert np.abs(atoms.positions - text[key].positions).max() < 2e-6


def test_oxides_have_total_energies_and_no_fixed_atoms(oc20):
    found = read_frames(oc20 / "oc22_pickle16_train.pkl").atoms
    assert {atoms.info["energy_reference"] for atoms in found} == {"total"}
    assert not any(atoms.constraints for atoms in found)
    assert sum(2 not in atoms.get_tags() for atoms in found) == 3


@pytest.mark.parametrize("name", ["3bpa", "acac"])
def test_molecules(shared_data, name):
    found = read_frames(shared_data / "lmdb_molecular" / f"{name}_train_300K.lmdb").atoms
    text = read_frames(shared_data / name / "train_300K.xyz.gz").atoms
    assert len(found) == len(text) == 500
    for atoms, original in zip(found, text, strict=True):
        assert not atoms.pbc.any() and (atoms.numbers == original.numbers).all()
        assert np.array_equal(atoms.positions, original.positions.astype(np.float32))
        assert "energy_reference" not in atoms.info
        # Float32 rounds these totals by up to 1 meV.
        assert atoms.calc.results["energy"] == np.float32(original.calc.results["energy"])


def test_the_raw_trajectories_are_the_relaxations(oc20):
    for name in ("random1000156", "random1000163"):
        raw = read_frames(oc20 / "raw_traj" / f"{name}.traj").atoms
        text = read_frames(oc20 / "relaxations" / f"{name}.extxyz.xz").atoms
        for atoms, original in zip(raw, text, strict=True):
            assert atoms.info == original.info
            assert np.abs(atoms.positions - original.positions).max() < 1e-7
            assert atoms.calc.results["energy"] == pytest.approx(original.calc.results["energy"], abs=1e-7)


def test_a_cut_file_gives_the_good_records_first(oc20, tmp_path):
    content = (oc20 / "relaxations" / "random1000187.extxyz.xz").read_bytes()
    (tmp_path / "random1000187.extxyz.xz").write_bytes(content[: len(content) // 2])
    tally = Tally()
    found = list(usable(open_source(tmp_path / "random1000187.extxyz.xz"), "skip", tally=tally))
    assert 50 < len(found) < 150
    assert [bad.index for bad in tally.bad] == [len(found)] and isinstance(tally.bad[0], BadRecord)
