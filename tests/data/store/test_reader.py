"""Reading a store: what AtomicData.from_atoms gives, and clear errors when a file is not what it was."""

import pickle
import shutil

import ase.io
import numpy as np
import pytest
import torch
from slabs import same_bits
from torch.utils.data import DataLoader

from mace_gaunt.data.atomic_data import AtomicData
from mace_gaunt.data.collate import collate
from mace_gaunt.data.labels import LabelKeys
from mace_gaunt.data.neighbors import neighbor_pairs
from mace_gaunt.data.sources.discovery import find_sources, open_source
from mace_gaunt.data.store.reader import Store
from mace_gaunt.errors import UserError

ELEMENTS = [1, 6, 8, 29, 79]


@pytest.fixture
def folder(slabs, make, tmp_path):
    """A store of 12 slabs in three shards."""
    make(slabs, shard_size=5)
    return tmp_path / "store"


def test_frames_are_those_of_the_files(folder, slabs):
    store = Store(folder, ELEMENTS)
    frames = [(i, atoms) for path in slabs for i, atoms in enumerate(ase.io.iread(path))]
    assert len(store) == 12
    for position, (index, atoms) in enumerate(frames):
        expected = AtomicData.from_atoms(atoms, 4.0, ELEMENTS, LabelKeys(), frame_index=index)
        same_bits(store[position], expected)
        same_bits(store[position - 12], expected)
    same_bits(Store(folder)[0], AtomicData.from_atoms(frames[0][1], 4.0, [1, 8, 29, 79], LabelKeys()))
    for position in (12, -13):
        with pytest.raises(IndexError, match="a store with 12 frames"):
            store[position]
    assert len(list(store)) == 12


def test_sizes_without_reading_frames(folder, monkeypatch):
    store = Store(folder)
    frames = [store[i] for i in range(12)]
    (folder / "00001.lmdb").write_bytes(bytes((folder / "00001.lmdb").stat().st_size))
    fresh = Store(folder)
    assert fresh.n_atoms.tolist() == [frame.num_nodes for frame in frames]
    assert fresh.n_pairs.tolist() == [frame.pair_index.shape[1] for frame in frames]
    assert fresh.column("energy").tolist() == [frame.energy.item() for frame in frames]
    assert fresh.column("source").tolist() == [0] * 7 + [1] * 5
    assert fresh.starts.tolist() == [0, 5, 10, 12]
    assert fresh.shard_index(1)["record"].tolist() == [5, 6, 0, 1, 2]
    assert fresh.locate(7) == (1, 2)


def test_a_shorter_cutoff(folder):
    for whole, near in zip(Store(folder), Store(folder, r_max=3.0), strict=True):
        pairs, shifts = neighbor_pairs(whole.positions.numpy(), whole.cell[0].numpy(), whole.pbc[0].numpy(), 3.0)
        assert near.pair_index.tolist() == pairs.tolist()
        np.testing.assert_array_equal(near.shifts, shifts)
        assert near.num_edges < whole.num_edges
    with pytest.raises(UserError, match="r_max=5 is more than the 4 Å"):
        Store(folder, r_max=5.0)


def test_fields_that_do_not_exist(folder):
    with pytest.raises(UserError, match="Did you mean 'relaxed_energy'"):
        Store(folder, extra=["relaxed_energies"])


def test_workers_of_a_loader(folder):
    """However they are started, from a store that has files open already."""
    store = Store(folder)
    expected = torch.cat([store[i].energy for i in range(12)])
    # Spawned workers receive a pickled store.
    assert [frame.energy.item() for frame in pickle.loads(pickle.dumps(store))] == expected.tolist()
    loader = DataLoader(store, batch_size=3, num_workers=2, collate_fn=collate, multiprocessing_context="fork")
    assert torch.cat([batch.energy for batch in loader]).tolist() == expected.tolist()
    assert store[0].energy == expected[0]


def test_few_files_stay_open(folder, monkeypatch):
    monkeypatch.setattr(Store, "OPEN_SHARDS", 2)
    store = Store(folder)
    expected = [frame.energy.item() for frame in store]
    order = [11, 0, 6, 11, 5, 0, 1, 10]
    assert [store[i].energy.item() for i in order] == [expected[i] for i in order]
    assert len(store._open) == 2


def test_incomplete_and_missing_stores(folder, slabs, make, tmp_path):
    with pytest.raises(UserError, match="is no store"):
        Store(tmp_path / "sources")
    with pytest.raises(UserError, match="is no store"):
        Store(tmp_path / "absent")
    slabs[1].write_text("nonsense\n")
    with pytest.raises(UserError, match="on_bad_frame=skip"):
        make(slabs, "half", shard_size=5)
    with pytest.raises(UserError, match="is not complete"):
        Store(tmp_path / "half")


@pytest.mark.parametrize("name", ["00001.lmdb", "00001.npy"])
def test_files_missing_or_cut_off(folder, name):
    """A map of a file that is cut off ends the process with a bus error; nothing here maps."""
    store = Store(folder)
    whole = (folder / name).read_bytes()
    (folder / name).write_bytes(whole[:100])
    with pytest.raises(UserError, match=rf"{name} has 100 bytes; the manifest says {len(whole)}"):
        Store(folder)
    # Cut off after the store was opened.
    with pytest.raises(UserError, match=r"the file ends before it|its checksum is not"):
        store[6]
    (folder / name).unlink()
    with pytest.raises(UserError, match="No such file"):
        Store(folder)
    with pytest.raises(UserError, match=r"No such file|the file ends before it"):
        pickle.loads(pickle.dumps(store))[6]


def test_any_changed_byte_of_a_shard_is_noticed_or_does_not_matter(folder, tmp_path):
    """In a record it is refused; in LMDB's own pages it is not even read."""
    expected = Store(folder)
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    whole = (folder / "00000.lmdb").read_bytes()
    rng = np.random.default_rng(0)
    n_refused = 0
    for position in [*range(0, 8192, 512), *rng.integers(0, len(whole), 80).tolist()]:
        changed = bytearray(whole)
        changed[position] ^= 0x40
        (copy / "00000.lmdb").write_bytes(changed)
        store = Store(copy)
        for frame in range(5):
            try:
                same_bits(store[frame], expected[frame])
            except UserError as error:
                assert f"frame {frame}, record {frame} of {copy / '00000.lmdb'}" in str(error)
                n_refused += 1
    assert 0 < n_refused < 96


def test_any_changed_byte_of_an_index_is_noticed(folder):
    whole = (folder / "00000.npy").read_bytes()
    for position in np.random.default_rng(0).integers(0, len(whole), 40):
        changed = bytearray(whole)
        changed[position] ^= 0x01
        (folder / "00000.npy").write_bytes(changed)
        with pytest.raises(UserError, match=r"00000\.npy cannot be read: its checksum"):
            Store(folder)[0]


def test_frames_of_oc20(shared_data, make, tmp_path):
    """Bit for bit, with their tags, fixed atoms and identifiers; of IS2RE what belongs to the relaxed structure too."""
    path = shared_data / "oc20" / "s2ef_lmdb_pyg2"
    made = make([path], r_max=6.0, shard_size=25).manifest
    assert made.settings.energy_reference == "adsorption"
    store = Store(tmp_path / "store", range(1, 100))
    (source,) = find_sources(path)
    for position, atoms in enumerate(source.read()):
        same_bits(store[position], AtomicData.from_atoms(atoms, 6.0, range(1, 100), LabelKeys(), frame_index=position))
    assert len(store) == 60
    assert store[0].sid >= 1_000_000
    assert store[0].tags.unique().tolist() == [0, 1, 2]
    assert 0 < store[0].fixed.sum() < store[0].num_nodes

    path = shared_data / "oc20" / "is2re_lmdb_pyg1" / "data.lmdb"
    made = make([path], "relaxed").manifest
    store = Store(tmp_path / "relaxed", extra=["relaxed_energy", "relaxed_positions"])
    for position, atoms in enumerate(open_source(path).read()):
        assert store[position].relaxed_energy.item() == atoms.info["relaxed_energy"]
        assert store[position].relaxed_positions.numpy().tobytes() == atoms.arrays["relaxed_positions"].tobytes()
    energies = [frame.relaxed_energy.item() for frame in store]
    assert (made.sums.relaxed.count, made.sums.relaxed.mean) == (3, pytest.approx(np.mean(energies)))
