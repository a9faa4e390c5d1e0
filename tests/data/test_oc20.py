"""OC20: splits by name, energy references, tasks, and what is refused."""

from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import add_adsorbate, fcc111
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms

from mace_gaunt.data.oc20 import OC20DataModule, find_split
from mace_gaunt.errors import UserError


def slab(seed: int, energy: float | None = None, **info: object) -> Atoms:
    """Four atoms of copper, the lower two fixed, and an O above them."""
    random = np.random.default_rng(seed)
    atoms = fcc111("Cu", (1, 1, 4), vacuum=5.0, periodic=True)
    add_adsorbate(atoms, "O", 1.5)
    atoms.rattle(0.05, rng=random)
    atoms.set_tags([0, 0, 1, 1, 2])
    atoms.set_constraint(FixAtoms([0, 1]))
    labels = {} if energy is None else {"energy": energy, "forces": random.normal(size=(5, 3))}
    atoms.calc = SinglePointCalculator(atoms, **labels)
    atoms.info |= info
    return atoms


def write(path: Path, count: int = 4, **info: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    frames = [slab(i, -20.0 - 0.1 * i, sid=7, fid=i, reference_energy=-19.5, **info) for i in range(count)]
    ase.io.write(path, frames)
    return path


@pytest.mark.parametrize(
    ("place", "split"),
    [
        ("s2ef/200k/train", "200K"),
        ("s2ef_train_2M", "train_2M"),
        ("data/s2ef/all/val_id", "val_id"),
        ("val_ood_cat", "val_ood_cat"),
    ],
)
def test_splits_are_found_where_the_archives_put_them(tmp_path, place, split):
    write(tmp_path / place / "0.extxyz")
    assert find_split(tmp_path, "s2ef", split) == tmp_path / place
    assert find_split(tmp_path, "is2re", "val_ood_both") is None


def test_splits_by_name(tmp_path):
    write(tmp_path / "s2ef/200k/train/0.extxyz", 4)
    write(tmp_path / "s2ef/200k/train/1.extxyz", 3)
    write(tmp_path / "s2ef/all/val_id/0.extxyz", 2)
    write(tmp_path / "s2ef/all/val_ood_ads.extxyz", 2)
    module = OC20DataModule(3.0, root=tmp_path, E0s="zero")
    module.setup()
    assert (len(module.train_frames), len(module.valid_frames)) == (7, 2)
    assert list(module.test_frames) == ["val_id", "val_ood_ads"]
    frame = module.train_frames[1]
    assert float(frame.energy) == pytest.approx(-0.6)
    assert (int(frame.sid), int(frame.fid)) == (7, 1)
    assert frame.tags.tolist() == [0, 0, 1, 1, 2]
    # Forces of fixed atoms do not count, unless asked for.
    assert frame.forces.isnan().any(dim=1).tolist() == [True, True, False, False, False]
    everything = OC20DataModule(3.0, root=tmp_path, E0s="zero", forces_mask="all")
    assert not everything.train_frames[0].forces.isnan().any()


def test_energy_references(tmp_path):
    path = write(tmp_path / "a.extxyz", energy_reference="total")
    total = OC20DataModule(3.0, train_file=path, valid_size=1, energy_reference="total", E0s="zero")
    adsorption = OC20DataModule(3.0, train_file=path, valid_size=1, energy_reference="adsorption", E0s="zero")
    difference = [float(a.energy - b.energy) for a, b in zip(total.train_frames, adsorption.train_frames, strict=True)]
    assert difference == pytest.approx([-19.5] * 3)
    coefficients = np.zeros(100)
    coefficients[[8, 29]] = -4.0, -4.1
    np.savez(tmp_path / "oc20_linref.npz", coeff=coefficients)
    linear = OC20DataModule(3.0, root=tmp_path, train_file=path, valid_size=1, energy_reference="linear")
    assert linear.statistics.E0s == [-4.0, -4.1]
    assert [float(frame.energy) for frame in linear.train_frames] == [float(f.energy) for f in total.train_frames]


def test_mixed_references_are_refused(tmp_path):
    write(tmp_path / "set" / "0.extxyz", energy_reference="total")
    write(tmp_path / "set" / "1.extxyz", energy_reference="adsorption")
    module = OC20DataModule(3.0, train_file=tmp_path / "set", energy_reference="total", E0s="zero")
    with pytest.raises(UserError, match="needs total energies, but sources hold adsorption energies"):
        module.setup("fit")


def test_total_energies_are_no_adsorption_energies(tmp_path):
    frames = [slab(i, -300.0 - i) for i in range(4)]
    ase.io.write(tmp_path / "a.extxyz", frames)
    module = OC20DataModule(3.0, train_file=tmp_path / "a.extxyz", valid_size=1, E0s="zero")
    with pytest.raises(UserError, match=r"no adsorption energies\. Give energy_reference=total"):
        module.setup("fit")


def test_is2re_learns_the_relaxed_energy(tmp_path):
    frames = [slab(i, sid=i, relaxed_energy=-1.0 - i, energy_reference="adsorption") for i in range(4)]
    ase.io.write(tmp_path / "a.extxyz", frames)
    module = OC20DataModule(3.0, task="is2re", train_file=tmp_path / "a.extxyz", valid_size=1, E0s="zero")
    energies = {int(frame.sid): float(frame.energy) for frame in (*module.train_frames, *module.valid_frames)}
    assert energies == {0: -1.0, 1: -2.0, 2: -3.0, 3: -4.0}
    assert module.train_frames[0].forces.isnan().all()
    write(tmp_path / "b.extxyz")
    with pytest.raises(UserError, match="has no relaxed energies"):
        OC20DataModule(3.0, task="is2re", train_file=tmp_path / "b.extxyz", E0s="zero").setup("fit")


def test_refusals(tmp_path, monkeypatch):
    write(tmp_path / "val_id.extxyz")
    with pytest.raises(UserError, match=r"no split '200K' of s2ef in .* \(there: val_id\)"):
        OC20DataModule(3.0, root=tmp_path).setup("fit")
    with pytest.raises(UserError, match="Did you mean 'val_id'"):
        OC20DataModule(3.0, root=tmp_path, train="val_ids").setup("fit")
    with pytest.raises(UserError, match="Did you mean 's2ef'"):
        OC20DataModule(3.0, task="s2f")
    with pytest.raises(UserError, match="Did you mean 'adsorption'"):
        OC20DataModule(3.0, energy_reference="adsorbtion")
    with pytest.raises(UserError, match=r"cannot be read as an \.npz"):
        OC20DataModule(3.0, root=tmp_path, energy_reference="linear")
    with pytest.raises(UserError, match="with energy_reference=linear only"):
        OC20DataModule(3.0, linear_reference="a.npz")
    monkeypatch.setattr("mace_gaunt.data.oc20.MAX_FRAMES_IN_MEMORY", 3)
    with pytest.raises(UserError, match="mace-gaunt data prepare"):
        OC20DataModule(3.0, train_file=tmp_path / "val_id.extxyz").setup("fit")


def test_a_slice_of_a_large_set(tmp_path, monkeypatch):
    monkeypatch.setattr("mace_gaunt.data.oc20.MAX_FRAMES_IN_MEMORY", 4)
    folder = tmp_path / "set"
    write(folder / "0.extxyz", 4)
    write(folder / "1.extxyz", 4)
    module = OC20DataModule(3.0, train_file=f"{folder}[2:6]", valid_size=1, E0s="zero")
    assert len(module.train_frames) == 3
    with pytest.raises(UserError, match="has 5 frames to read") as refusal:
        OC20DataModule(3.0, train_file=f"{folder}[2:7]", E0s="zero").setup("fit")
    assert f"path={folder} out=" in str(refusal.value)
    with pytest.raises(UserError, match="has 8 frames to read"):
        # All are held in memory while the file is read.
        OC20DataModule(3.0, train_file=f"{folder}[::4]", E0s="zero").setup("fit")


def test_a_validation_split_beside_a_training_file_is_not_dropped(tmp_path):
    path = write(tmp_path / "a.extxyz")
    with pytest.raises(UserError, match="with train_file give valid_file=val_ood_ads"):
        OC20DataModule(3.0, root=tmp_path, train_file=path, valid="val_ood_ads")
    write(tmp_path / "val_ood_ads.extxyz", 2)
    module = OC20DataModule(3.0, root=tmp_path, train_file=path, valid_file="val_ood_ads", E0s="zero")
    assert (len(module.train_frames), len(module.valid_frames)) == (4, 2)
    assert OC20DataModule(3.0, train_file=path, valid=None).valid_file is None


@pytest.mark.parametrize(
    ("kept", "other"),
    [
        ({"energy_reference": "adsorption"}, {"energy_reference": "total"}),
        ({"task": "s2ef"}, {"task": "is2re"}),
    ],
)
def test_the_cache_of_statistics_tells_tasks_and_references_apart(tmp_path, kept, other):
    path = write(tmp_path / "a.extxyz", energy_reference="total", relaxed_energy=-25.0)
    settings = {"train_file": path, "valid_size": 1, "E0s": "zero"}
    cached = [OC20DataModule(3.0, cache_dir=tmp_path, **settings, **s).statistics for s in (kept, other)]
    assert cached == [OC20DataModule(3.0, **settings, **s).statistics for s in (kept, other)]
    assert abs(cached[0].shift - cached[1].shift) > 0.1


def test_the_samples_in_all_formats_are_one_set(shared_data):
    samples = shared_data / "oc20"
    shards = OC20DataModule(5.0, train_file=samples / "s2ef_shards", valid_size=1, E0s="zero")
    shards.setup("fit")
    frames = {(int(f.sid), int(f.fid)): f for f in (*shards.train_frames, *shards.valid_frames)}
    for name in ("s2ef_lmdb_pyg1", "s2ef_lmdb_pyg2"):
        module = OC20DataModule(5.0, train_file=samples / name, valid_size=1, E0s="zero")
        for frame in (*module.train_frames, *module.valid_frames):
            same = frames[int(frame.sid), int(frame.fid)]
            assert float((frame.energy - same.energy).abs()) < 1e-4
            assert np.nanmax(np.abs((frame.forces - same.forces).numpy())) < 1e-5
            assert frame.fixed.tolist() == same.fixed.tolist() and frame.tags.tolist() == same.tags.tolist()
