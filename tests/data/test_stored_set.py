"""Training on a store: the same frames as from files, and what is refused."""

import gc
import tracemalloc
from pathlib import Path

import ase.io
import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import fcc111
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms

from mace_gaunt.data.datamodule import AtomsDataModule
from mace_gaunt.data.oc20 import OC20DataModule
from mace_gaunt.data.store.engines import open_engine
from mace_gaunt.data.store.prepare import prepare
from mace_gaunt.data.store.request import Request
from mace_gaunt.data.stored_set import StoredFrames, atoms_of, edges_of, is_store
from mace_gaunt.errors import UserError

SETTINGS = {"E0s": {"Cu": -3.0, "Ni": -4.0}, "forces_mask": "free", "batch_size": 3}


def write(path: Path, count: int, element: str = "Cu") -> Path:
    """Slabs of several sizes, the lowest layer fixed, with energies that a fit per element explains nearly."""
    frames = []
    for i in range(count):
        random = np.random.default_rng(i)
        atoms = fcc111("Cu", (1, 1, 2 + i % 3), vacuum=4.0, periodic=True)
        atoms.numbers[1 + i % 2 :] = atoms.numbers[0] if element == "Cu" else 28
        atoms.rattle(0.05, rng=random)
        atoms.set_constraint(FixAtoms([0]))
        energy = float(np.where(atoms.numbers == 29, -3.0, -4.0).sum() + 0.1 * random.normal())
        atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=random.normal(size=(len(atoms), 3)))
        atoms.info |= {"sid": i, "relaxed_energy": energy - 0.5, "reference_energy": energy + 1.0}
        atoms.info |= {"energy_reference": "total"}
        frames.append(atoms)
    ase.io.write(path, frames, format="extxyz")
    return path


def make_store(folder: Path, source: Path, r_max: float = 3.0, **settings: object) -> Path:
    with open_engine("local", 1) as engine:
        prepare(Request(paths=[source], out=folder, r_max=r_max, **settings), engine)
    return folder


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    """A file of slabs and a store of it."""
    source = write(tmp_path / "slabs.extxyz", 14, "Ni")
    return source, make_store(tmp_path / "store", source)


def same(first, second) -> bool:
    return all(
        torch.equal(torch.nan_to_num(a), torch.nan_to_num(b)) if isinstance(a, torch.Tensor) else a == b
        for a, b in ((first[key], second[key]) for key in first.keys())  # noqa: SIM118
    )


def test_equals_a_training_on_the_file(files, tmp_path):
    source, store = files
    valid = write(tmp_path / "valid.extxyz", 5)
    of_file = AtomsDataModule(3.0, train_file=source, valid_file=valid, **SETTINGS)
    valid_store = make_store(tmp_path / "valid", valid)
    of_store = AtomsDataModule(3.0, train_file=store, valid_file=valid_store, test_file=valid_store, **SETTINGS)
    of_store.setup()
    assert is_store(store) and not is_store(source)
    for name in ("scale", "shift", "avg_num_neighbors"):
        assert getattr(of_store.statistics, name) == pytest.approx(getattr(of_file.statistics, name), rel=1e-12)
    assert of_store.statistics.E0s == of_file.statistics.E0s == [-4.0, -3.0]
    for split in ("train_frames", "valid_frames"):
        expected, found = getattr(of_file, split), getattr(of_store, split)
        assert len(found) == len(expected) and isinstance(found, StoredFrames)
        assert all(same(a, b) for a, b in zip(expected, found, strict=True))
        assert edges_of(found).tolist() == edges_of(expected).tolist()
        assert atoms_of(found).tolist() == atoms_of(expected).tolist()
    batches = [zip(m.train_dataloader(), m.train_dataloader(), strict=True) for m in (of_file, of_store)]
    assert all(same(a[0], b[0]) for a, b in zip(*batches, strict=True))
    assert [len(frames) for frames in of_store.test_frames.values()] == [5]
    assert str(store) in of_store.file_hashes


def test_a_part_of_a_store(files, tmp_path):
    source, store = files
    settings = SETTINGS | {"statistics": {"atomic_numbers": [28, 29]}}
    module = AtomsDataModule(
        3.0, train_file=store, test_file={"a": f"{store}[2:9:3]", "b": f"{source}[2:9:3]"}, **settings
    )
    kept, read = module.test_frames["a"], module.test_frames["b"]
    assert len(kept) == 3 and all(map(same, kept, read)) and is_store(f"{store}[:3]")
    part = AtomsDataModule(3.0, train_file=f"{store}[:10]", valid_size=2, **SETTINGS)
    assert len(part.train_frames) + len(part.valid_frames) == 10
    assert max(int(frame.frame_index) for frame in part.train_frames) < 10
    with pytest.raises(UserError, match="selects no frame; it has 14"):
        AtomsDataModule(3.0, train_file=f"{store}[20:]", **SETTINGS).setup("fit")


def test_frames_split_off_are_those_of_a_file(files):
    source, store = files
    settings = SETTINGS | {"valid_size": 4, "max_train_frames": 6, "seed": 3}
    of_file = AtomsDataModule(3.0, train_file=source, **settings)
    of_store = AtomsDataModule(3.0, train_file=store, **settings)
    for split in ("train_frames", "valid_frames"):
        found = [int(f.sid) for f in getattr(of_store, split)]
        assert found == [int(f.sid) for f in getattr(of_file, split)]
    assert [int(f.sid) for f in of_store.train_frames[1:3]] == [int(f.sid) for f in of_file.train_frames[1:3]]


def test_other_processes_read_the_same(files):
    _, store = files
    alone = AtomsDataModule(3.0, train_file=store, valid_size=2, **SETTINGS)
    helped = AtomsDataModule(3.0, train_file=store, valid_size=2, num_workers=2, **SETTINGS)
    loaders = alone.train_dataloader(), helped.train_dataloader()
    assert all(same(a, b) for a, b in zip(*loaders, strict=True))


@pytest.mark.parametrize("policy", ["regress", "zero"])
def test_energies_of_elements(files, policy):
    source, store = files
    settings = SETTINGS | {"E0s": policy, "valid_file": store}
    found = AtomsDataModule(3.0, train_file=store, **settings).statistics
    expected = AtomsDataModule(3.0, train_file=source, **(settings | {"valid_file": source})).statistics
    assert found.E0s == pytest.approx(expected.E0s, rel=1e-9)
    assert found.shift == pytest.approx(expected.shift, abs=1e-9)


def test_oc20_tasks(tmp_path):
    source = write(tmp_path / "slabs.extxyz", 6)
    store = make_store(tmp_path / "store", source, energy_reference="adsorption")
    for task, energy in (("s2ef", -1.0), ("is2re", -1.5)):
        module = OC20DataModule(3.0, task=task, train_file=store, valid_size=1, E0s="zero")
        assert [float(f.energy) for f in module.train_frames] == pytest.approx([energy] * 5)
        assert module.train_frames[0].forces.isnan().all() == (task == "is2re")
        assert "relaxed_energy" not in next(iter(module.train_dataloader()))
    with pytest.raises(UserError, match="energies of the reference adsorption, but energy_reference is total"):
        OC20DataModule(3.0, train_file=store, energy_reference="total").setup("fit")


@pytest.fixture
def with_atoms(tmp_path: Path) -> tuple[Path, Path]:
    """A file of slabs among isolated atoms, and a store of it."""
    frames = ase.io.read(write(tmp_path / "slabs.extxyz", 14, "Ni"), ":")
    for place, symbol in ((0, "Ni"), (7, "Cu")):
        atom = Atoms(symbol, positions=[[0.0, 0.0, 0.0]])
        atom.calc = SinglePointCalculator(atom, energy={"Ni": -4.0, "Cu": -3.0}[symbol], forces=np.zeros((1, 3)))
        frames.insert(place, atom)
    ase.io.write(tmp_path / "mixed.extxyz", frames)
    return tmp_path / "mixed.extxyz", make_store(tmp_path / "mixed", tmp_path / "mixed.extxyz")


def test_isolated_atoms_are_not_trained_on(with_atoms):
    _, store = with_atoms
    for settings in ({"valid_size": 3}, {"valid_size": 3, "max_train_frames": 5}):
        of_file, of_store = (AtomsDataModule(3.0, train_file=path, **settings) for path in with_atoms)
        for split in ("train_frames", "valid_frames"):
            assert all(map(same, getattr(of_store, split), getattr(of_file, split)))
            assert len(getattr(of_store, split)) == len(getattr(of_file, split))
        assert of_store.statistics.E0s == of_file.statistics.E0s == [-4.0, -3.0]
    both = AtomsDataModule(3.0, train_file=store, valid_file=f"{store}[:9]", test_file=store)
    assert (len(both.train_frames), len(both.valid_frames), len(both.test_frames["mixed"])) == (14, 7, 16)
    with pytest.raises(UserError, match="gives isolated atoms only"):
        AtomsDataModule(3.0, train_file=f"{store}[:1]").setup("fit")


@pytest.mark.parametrize("policy", ["isolated", "regress"])
def test_given_energies_hold_on_a_store(files, policy):
    source, store = files
    found, expected = (
        AtomsDataModule(
            3.0, train_file=path, valid_file=path, E0s=policy, forces_mask="free", statistics={"E0s": [-4.2, -3.5]}
        ).statistics
        for path in (store, source)
    )
    assert found.E0s == expected.E0s == [-4.2, -3.5]
    assert found.shift == pytest.approx(expected.shift, abs=1e-9)
    more = {"atomic_numbers": [1, 28, 29], "E0s": [0.0, -4.2, -3.5]}
    assert AtomsDataModule(3.0, train_file=store, statistics=more).statistics.shift == pytest.approx(
        AtomsDataModule(3.0, train_file=source, statistics=more, valid_file=source).statistics.shift, abs=1e-9
    )
    for wrong, message in (
        ({"E0s": [-4.2]}, "1 E0s for 2 elements"),
        ({"atomic_numbers": [28]}, "atomic_numbers leaves out Cu"),
    ):
        with pytest.raises(UserError, match=message):
            AtomsDataModule(3.0, train_file=store, statistics=wrong).setup("fit")


def test_refusals(files, tmp_path):
    source, store = files
    other = make_store(tmp_path / "other", source)
    with pytest.raises(UserError, match="prepare it again with r_max=4"):
        AtomsDataModule(4.0, train_file=store, **SETTINGS).setup("fit")
    for train in ([store, other], [store, source]):
        with pytest.raises(UserError, match="one store is trained on alone"):
            AtomsDataModule(3.0, train_file=train, **SETTINGS).setup("fit")
    with pytest.raises(UserError, match="validated on one store"):
        AtomsDataModule(3.0, train_file=store, valid_file=source, **SETTINGS).setup("fit")
    with pytest.raises(UserError, match="no energy for Ni"):
        AtomsDataModule(3.0, train_file=store, E0s={"Cu": 0.0}).setup("fit")
    with pytest.raises(UserError, match="gives no energy for Ni, Cu"):
        AtomsDataModule(3.0, train_file=store, valid_size=2).setup("fit")


def test_memory_does_not_grow_with_the_store(tmp_path, monkeypatch):
    monkeypatch.setattr("mace_gaunt.data.store.reader.Store.OPEN_SHARDS", 2)
    peaks = []
    for count in (100, 400):
        source = write(tmp_path / f"{count}.extxyz", count)
        store = make_store(tmp_path / f"store{count}", source, shard_size=20)
        module = AtomsDataModule(3.0, train_file=store, valid_size=4, **SETTINGS)
        module.setup("fit")
        loader = module.train_dataloader()
        next(iter(loader))
        gc.collect()
        tracemalloc.start()
        assert sum(batch.num_graphs for batch in loader) == count - 4
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    # Frames that were kept would take some 10 kB each of what is traced here.
    assert peaks[1] < peaks[0] + 300 * 3e3
