"""Preparing a store: the same bytes however often it is cut short, nothing done twice, nothing mixed."""

import dataclasses
import json
import shutil
from pathlib import Path

import ase.io
import numpy as np
import pytest
from slabs import contents, make_slab

from mace_gaunt.data.store import build, manifest, shard
from mace_gaunt.data.store.folder import sole_writer
from mace_gaunt.data.store.manifest import read_manifest
from mace_gaunt.data.store.reader import Store
from mace_gaunt.errors import UserError


class Cut(BaseException):
    """Stands for a kill: nothing in the program catches it."""


def cut_after(monkeypatch, n_steps: int) -> None:
    """Raise `Cut` instead of the n-th step that writes: shards, indices, parts and the manifest, begun or renamed."""
    steps = iter(range(10**6))

    def counted(function):
        def run(*arguments, **settings):
            if next(steps) == n_steps:
                raise Cut
            return function(*arguments, **settings)

        return run

    monkeypatch.setattr(shard, "_write_lmdb", counted(shard._write_lmdb))
    monkeypatch.setattr(shard, "_offsets", counted(shard._offsets))
    monkeypatch.setattr(Path, "replace", counted(Path.replace))
    for module in (shard, build, manifest):
        monkeypatch.setattr(module, "write_whole", counted(shard.write_whole))


def prepare_cut(make, monkeypatch, slabs, n_steps: int, shard_size: int) -> bool:
    """Prepare and cut at a step; whether there was such a step."""
    with monkeypatch.context() as patch:
        cut_after(patch, n_steps)
        try:
            make(slabs, "cut", shard_size=shard_size)
        except Cut:
            return True
    return False


def test_cut_short_at_any_step_and_completed(slabs, make, tmp_path, monkeypatch):
    make(slabs, "undisturbed", shard_size=7)
    expected = contents(tmp_path / "undisturbed")
    n_steps = 0
    while prepare_cut(make, monkeypatch, slabs, n_steps, shard_size=7):
        make(slabs, "cut", shard_size=7)
        assert contents(tmp_path / "cut") == expected
        shutil.rmtree(tmp_path / "cut")
        n_steps += 1
    assert n_steps > 14


def test_cut_short_again_and_again(slabs, make, tmp_path, monkeypatch):
    make(slabs, "undisturbed", shard_size=2)
    for n_steps in (1, 6, 3, 14, 9):
        assert prepare_cut(make, monkeypatch, slabs, n_steps, shard_size=2)
    assert 0 < make(slabs, "cut", shard_size=2).kept < 6
    assert contents(tmp_path / "cut") == contents(tmp_path / "undisturbed")


def test_shards_that_are_done_are_kept(slabs, make, monkeypatch):
    real = build.gather
    monkeypatch.setattr(build, "gather", lambda task: real(task) if task.number < 2 else pytest.fail("a third"))
    with pytest.raises(pytest.fail.Exception):
        make(slabs, shard_size=5)
    monkeypatch.setattr(build, "gather", lambda task: real(task) if task.number == 2 else pytest.fail("again"))
    done = make(slabs, shard_size=5)
    assert (done.built, done.kept) == (1, 2)
    assert done.manifest.sums.frames == 12


def test_a_complete_store_is_left_alone(slabs, make, tmp_path):
    make(slabs)
    before = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in (tmp_path / "store").iterdir()}
    done = make(slabs)
    assert (done.built, done.kept) == (0, 1)
    assert {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in (tmp_path / "store").iterdir()} == before


def test_folders_and_files_give_the_same(slabs, make, tmp_path):
    make(slabs, "files")
    make([slabs[0].parent], "folder")
    assert contents(tmp_path / "files") == contents(tmp_path / "folder")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"r_max": 3.5}, "r_max is 3.5, there 4.0"),
        ({"shard_size": 3}, "shard_size is 3, there 100"),
        ({"energy_reference": "linear"}, "energy_reference is linear, there total"),
    ],
)
def test_other_settings_are_refused(slabs, make, tmp_path, settings, message):
    make(slabs)
    before = contents(tmp_path / "store")
    with pytest.raises(UserError, match=f"prepared from something else: {message}"):
        make(slabs, **settings)
    assert contents(tmp_path / "store") == before


def test_other_sources_are_refused(slabs, make, tmp_path):
    make(slabs)
    with pytest.raises(UserError, match="1 source files, there 2"):
        make(slabs[:1])
    ase.io.write(slabs[1], [make_slab(i) for i in range(8, 13)])
    with pytest.raises(UserError, match=r"1\.extxyz changed"):
        make(slabs)
    assert make(slabs, overwrite=True).built == 1
    assert Store(tmp_path / "store")[11].energy.item() == make_slab(12).get_potential_energy()


def test_overwriting_leaves_no_rests(slabs, make, tmp_path):
    make(slabs, shard_size=3)
    (tmp_path / "store" / "notes.txt").write_text("mine")
    make(slabs, shard_size=6, overwrite=True)
    names = ["00000.lmdb", "00000.npy", "00001.lmdb", "00001.npy", "manifest.json", "notes.txt"]
    assert sorted(contents(tmp_path / "store")) == names


def test_moved_sources_are_the_same_sources(slabs, make, tmp_path):
    make(slabs)
    moved = tmp_path / "elsewhere"
    slabs[0].parent.rename(moved)
    assert make([moved]).built == 0


def test_missing_shards_are_made_again(slabs, make, tmp_path):
    make(slabs, shard_size=4)
    before = contents(tmp_path / "store")
    (tmp_path / "store" / "00001.lmdb").unlink()
    (tmp_path / "store" / "00002.npy").write_bytes(b"short")
    assert make(slabs, shard_size=4).built == 2
    assert contents(tmp_path / "store") == before


def test_folders_of_others_are_not_touched(slabs, make, tmp_path):
    folder = tmp_path / "store"
    folder.mkdir()
    (folder / "00000.lmdb").write_bytes(b"another program's")
    for overwrite in (False, True):
        with pytest.raises(UserError, match="is no store, but holds files"):
            make(slabs, overwrite=overwrite)
    assert contents(folder) == {"00000.lmdb": b"another program's"}
    with pytest.raises(UserError, match="lies in"):
        make([slabs[0].parent], "sources/store")
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be a folder"):
        make(slabs, "file/store")


def test_two_writers(slabs, make, tmp_path):
    with sole_writer(tmp_path / "store"), pytest.raises(UserError, match="another process is preparing"):
        make(slabs)
    assert not (tmp_path / "store").exists()
    assert make(slabs).built == 1


def damage(path: Path, frame: int) -> None:
    """Give a frame a label that is not a number."""
    frames = ase.io.read(path, ":")
    frames[frame].calc.results["forces"][1, 2] = np.nan
    ase.io.write(path, frames)


def test_bad_records_stop(slabs, make, tmp_path):
    damage(slabs[1], 3)
    with pytest.raises(UserError, match=r"1\.extxyz, record 3: .*not finite.*on_bad_frame=skip"):
        make(slabs, shard_size=5)
    assert make(slabs, shard_size=5, on_bad_frame="skip").manifest.sums.frames == 11


def test_bad_records_are_skipped_and_counted(slabs, make, tmp_path):
    damage(slabs[1], 3)
    (slabs[0].parent / "2.extxyz").write_text("nonsense\n")
    (slabs[0].parent / "3.traj").write_bytes(b"nonsense")
    found = make([slabs[0].parent], on_bad_frame="skip").manifest
    assert [(bad.source, bad.record) for bad in found.bad] == [(1, 3), (2, 0), (3, 0)]
    assert "not finite" in found.bad[0].reason
    store = Store(tmp_path / "store")
    assert len(store) == 11
    assert store[10].frame_index.item() == 4
    assert read_manifest(tmp_path / "store").bad == found.bad
    assert json.loads((tmp_path / "store" / "manifest.json").read_text())["totals"] == {
        "records": 14,
        "frames": 11,
        "bad_records": 3,
        "bytes": sum(shard.lmdb.size + shard.index.size for shard in found.shards),
        "elements": ["H", "O", "Cu", "Au"],
    }


def test_nothing_but_bad_records(slabs, make):
    slabs[0].write_text("nonsense\n")
    with pytest.raises(UserError, match="none of 1 records can be used"):
        make(slabs[:1], on_bad_frame="skip")


def test_a_source_that_shrinks_under_way(slabs, make, monkeypatch):
    real = build.gather

    def shrink(task):
        ase.io.write(slabs[0], [make_slab(0)])
        return real(task)

    monkeypatch.setattr(build, "gather", shrink)
    with pytest.raises(UserError, match="gives 1 records, but had 7"):
        make(slabs)


def test_adsorption_energies(make, tmp_path):
    slabs = [make_slab(i, energy_reference="total", reference_energy=-3.0 * (4 + i % 3)) for i in range(6)]
    ase.io.write(tmp_path / "a.extxyz", slabs)
    found = make([tmp_path / "a.extxyz"], energy_reference="adsorption").manifest
    energies = np.array([a.get_potential_energy() - a.info["reference_energy"] for a in slabs])
    assert found.energies["reference"] == "adsorption"
    assert found.energies["mean"] == pytest.approx(energies.mean())
    assert found.energies["spread"] == pytest.approx(energies.std())
    store = Store(tmp_path / "store", extra=["reference_energy"])
    assert store[4].energy.item() == energies[4]
    assert store[4].reference_energy.item() == -15.0
    assert make([tmp_path / "a.extxyz"], "total").manifest.settings.energy_reference == "total"


def test_adsorption_energies_that_are_none(make, tmp_path):
    ase.io.write(tmp_path / "a.extxyz", [make_slab(i, energy=-200.0) for i in range(3)])
    with pytest.raises(UserError, match="no adsorption energies"):
        make([tmp_path / "a.extxyz"], energy_reference="adsorption")


def test_a_linear_reference_fitted_or_given(make, tmp_path):
    slabs = [make_slab(i) for i in range(3)] + [ase.Atoms("CuAu", [[0, 0, 0], [0, 0, 2.5]], info={"energy": -6.0})]
    ase.io.write(tmp_path / "a.extxyz", slabs)
    paths = [tmp_path / "a.extxyz"]
    fitted = make(paths, "fitted", energy_reference="linear").manifest
    assert fitted.E0s == pytest.approx(fitted.sums.regress())
    assert abs(fitted.energies["mean"]) < 1e-9
    assert Store(tmp_path / "fitted")[3].energy.item() == -6.0
    ase.io.write(tmp_path / "a.extxyz", slabs[:3])
    # Three compositions of four elements: what is done is kept until a file tells the energies.
    with pytest.raises(UserError, match="cannot determine Cu, Au"):
        make(paths, energy_reference="linear")
    coefficients = np.zeros(100)
    coefficients[[1, 8, 29, 79]] = -3.0
    np.savez(tmp_path / "fit.npz", coeff=coefficients)
    done = make(paths, energy_reference="linear", linear_reference=tmp_path / "fit.npz")
    assert (done.built, done.kept, done.manifest.E0s) == (0, 1, [-3.0] * 4)
    assert read_manifest(tmp_path / "store").energies == done.manifest.energies


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"r_max": 0.0}, "r_max is a positive length"),
        ({"r_max": float("nan")}, "r_max is a positive length"),
        ({"energy_reference": "totl"}, "Did you mean 'total'"),
        ({"linear_reference": "x.npz"}, "belongs to energy_reference=linear"),
        ({"on_bad_frame": "go"}, "on_bad_frame=go is not possible"),
        ({"shard_size": 0}, "shard_size is a number"),
    ],
)
def test_mistakes(slabs, make, tmp_path, settings, message):
    with pytest.raises(UserError, match=message):
        make(slabs, **settings)
    assert not (tmp_path / "store").exists()


def test_files_that_are_not_there_or_there_twice(slabs, make, tmp_path):
    with pytest.raises(UserError, match="named twice"):
        make([slabs[0], slabs[0].parent / ".." / "sources" / "0.extxyz"])
    with pytest.raises(UserError):
        make([tmp_path / "absent.xyz"])
    with pytest.raises(UserError, match=r"0.extxyz\[:2\]: a store is made of whole files.*train_file='.*store\[:2\]'"):
        make([f"{slabs[0]}[:2]"])
    assert not (tmp_path / "store").exists()


def test_a_manifest_of_a_newer_program(slabs, make, tmp_path):
    made = make(slabs).manifest
    path = tmp_path / "store" / "manifest.json"
    text = path.read_text()
    path.write_text(text.replace('"schema": 1', '"schema": 2'))
    with pytest.raises(UserError, match="has schema 2; this program reads 1"):
        make(slabs)
    path.write_text(text.replace('"r_max": 4.0', '"r_max": 5.0'))
    with pytest.raises(UserError, match="was changed after it was written"):
        make(slabs)
    path.write_text(text[:100])
    with pytest.raises(UserError, match="cannot read"):
        make(slabs)
    assert make(slabs, overwrite=True).manifest.to_json() == made.to_json()
    path.write_text('{"format": "another"}')
    with pytest.raises(UserError, match="is not the manifest of a store"):
        make(slabs, overwrite=True)


def test_counts_that_contradict_each_other(slabs, make, tmp_path):
    made = make(slabs, shard_size=5).manifest
    for changed in (
        dataclasses.replace(made, shards=made.shards[:-1]),
        dataclasses.replace(made, shards=[dataclasses.replace(entry, frames=3) for entry in made.shards]),
        dataclasses.replace(made, bad=[manifest.BadEntry(0, 0, "none")]),
    ):
        changed.write(tmp_path / "store")
        with pytest.raises(UserError, match="is damaged"):
            read_manifest(tmp_path / "store")


def test_any_changed_byte_of_a_manifest_is_noticed_or_does_not_matter(slabs, make, tmp_path):
    made = make(slabs, shard_size=5).manifest.to_json()
    path = tmp_path / "store" / "manifest.json"
    whole = path.read_bytes()
    n_refused = 0
    for position in np.random.default_rng(0).integers(0, len(whole), 200):
        changed = bytearray(whole)
        changed[position] ^= 0x04
        path.write_bytes(changed)
        try:
            assert read_manifest(tmp_path / "store").to_json() == made
        except UserError:
            n_refused += 1
    assert n_refused > 150
    path.write_text("[" * 100_000)
    with pytest.raises(UserError, match="cannot read"):
        read_manifest(tmp_path / "store")
