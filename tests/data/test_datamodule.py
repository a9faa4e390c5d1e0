"""AtomsDataModule: files to frames, statistics and loaders."""

import hashlib
from dataclasses import asdict
from pathlib import Path

import ase.io
import numpy as np
import pytest
import torch
from ase.constraints import FixAtoms
from omegaconf import OmegaConf
from waters import E0S, make_atom, make_water

from mace_gaunt.data import atomic_data
from mace_gaunt.data.datamodule import AtomsDataModule, name_files
from mace_gaunt.data.neighbors import neighbor_pairs
from mace_gaunt.errors import UserError


def indices(frames):
    return [int(frame.frame_index) for frame in frames]


def test_from_one_file(water_file):
    module = AtomsDataModule(3.0, train_file=water_file, valid_size=4, batch_size=3, seed=1)
    module.setup()
    assert (len(module.train_frames), len(module.valid_frames), module.test_frames) == (16, 4, {})
    assert sorted(indices(module.train_frames) + indices(module.valid_frames)) == list(range(2, 22))
    assert module.statistics.atomic_numbers == [1, 8]
    assert module.statistics.E0s == [E0S["H"], E0S["O"]]
    assert module.statistics.avg_num_neighbors == 2.0
    forces = torch.cat([frame.forces for frame in module.train_frames])
    assert module.statistics.scale == pytest.approx(float(forces.square().mean().sqrt()))
    assert module.file_hashes == {water_file: hashlib.sha256(Path(water_file).read_bytes()).hexdigest()}
    assert "22 energy (calculator)" in module.label_report and "2 without" in module.label_report


def test_setup_is_idempotent_and_lazy(water_file):
    module = AtomsDataModule(3.0, train_file=water_file)
    before = module.train_frames
    module.setup("fit")
    module.setup()
    assert module.train_frames is before


def test_loaders(water_file):
    module = AtomsDataModule(3.0, train_file=water_file, valid_size=5, batch_size=4, valid_batch_size=2)
    loader = module.train_dataloader()
    first = [batch.frame_index.tolist() for batch in loader]
    assert sorted(index for batch in first for index in batch) == indices(module.train_frames) and len(loader) == 4
    loader.batch_sampler.sampler.set_epoch(1)
    assert [batch.frame_index.tolist() for batch in loader] != first
    assert [batch.num_graphs for batch in module.val_dataloader()] == [2, 2, 1]
    batch = next(iter(loader))
    assert batch.positions.dtype == batch.energy.dtype == torch.float64
    assert batch.num_nodes == 3 * batch.num_graphs == len(batch.batch)


def test_max_edges_per_batch(water_file):
    module = AtomsDataModule(3.0, train_file=water_file, batch_size=1, max_edges_per_batch=13)
    assert max(batch.edge_index.shape[1] for batch in module.train_dataloader()) == 12
    with pytest.raises(UserError, match="one frame has 6 edges"):
        AtomsDataModule(3.0, train_file=water_file, max_edges_per_batch=5).train_dataloader()


def test_workers_give_the_same_batches(water_file):
    loaders = [AtomsDataModule(3.0, train_file=water_file, num_workers=n).train_dataloader() for n in (0, 1)]
    for here, there in zip(*loaders, strict=True):
        assert torch.equal(here.positions, there.positions) and here.num_graphs == there.num_graphs


def test_separate_files_and_names(write, water_file):
    valid = write("valid.xyz", *(make_water(i) for i in range(3)))
    tests = OmegaConf.create({"hot": write("hot.traj", make_water(50), make_atom("H")), "part": f"{valid}[1:]"})
    module = AtomsDataModule(
        3.0, train_file=[f"{water_file}[:12]", f"{water_file}[12:]"], valid_file=valid, test_file=tests
    )
    module.setup()
    assert (len(module.train_frames), len(module.valid_frames)) == (20, 3)
    assert {name: indices(frames) for name, frames in module.test_frames.items()} == {"hot": [0, 1], "part": [1, 2]}


def test_slices_share_their_graphs(water_file):
    module = AtomsDataModule(3.0, train_file=water_file, test_file={"all": water_file, "few": f"{water_file}[4:6]"})
    assert module.test_frames["few"][0] is module.test_frames["all"][4]


def test_neighbours_are_found_once_per_frame(water_file, monkeypatch):
    found = []
    monkeypatch.setattr(atomic_data, "neighbor_pairs", lambda *args: found.append(args) or neighbor_pairs(*args))
    tests = {"all": water_file, "few": f"{water_file}[4:6]"}
    module = AtomsDataModule(3.0, train_file=water_file, test_file=tests, valid_size=4, batch_size=3)
    module.setup()
    for _ in range(3):
        for loader in (module.train_dataloader(), module.val_dataloader(), module.train_dataloader()):
            assert sum(batch.num_graphs for batch in loader) in (16, 4)
        assert len(module.test_frames["all"]) == 22 and len(module.test_frames["few"]) == 2
    assert len(found) == 22


def test_names_of_files():
    assert name_files(None) == {}
    assert name_files("a/b.xyz.gz[3:]") == {"b[3:]": "a/b.xyz.gz[3:]"}
    assert name_files(OmegaConf.create(["a.xyz", "~/b.db"])) == {"a": "a.xyz", "b": "~/b.db"}
    with pytest.raises(UserError, match="two files are called 'a'"):
        name_files(["x/a.xyz", "y/a.xyz"])
    for wrong in (5, "", {"a": None}, [["a.xyz"]]):
        with pytest.raises(UserError, match="expected a file, a list of files or"):
            name_files(wrong)


def test_isolated_atoms_from_their_own_file(write):
    waters = write("waters.xyz", *(make_water(i) for i in range(5)))
    atoms = write("atoms.xyz", make_atom("H"), make_atom("O"))
    module = AtomsDataModule(3.0, train_file=waters, isolated_atoms_file=atoms)
    assert module.statistics.E0s == [E0S["H"], E0S["O"]] and len(module.train_frames) == 4
    with pytest.raises(UserError, match=r"no isolated-atom energy for H, O \(found: none\)"):
        AtomsDataModule(3.0, train_file=waters).setup()
    with pytest.raises(UserError, match="isolated_atoms_file: frame 0 has 3 atoms"):
        AtomsDataModule(3.0, train_file=waters, isolated_atoms_file=waters).setup()
    given = AtomsDataModule(3.0, train_file=waters, isolated_atoms_file="absent.xyz", E0s={"H": -1, "O": -2})
    assert given.statistics.E0s == [-1.0, -2.0]


def test_elements_of_isolated_atoms_alone_are_not_learnt(write):
    hydrogens = [make_water(i, energy=None, forces=False)[1:] for i in range(4)]
    for atoms in hydrogens:
        atoms.calc = None
        atoms.info["energy"], atoms.arrays["forces"] = -30.0, np.ones((2, 3))
    module = AtomsDataModule(3.0, train_file=write("hydrogen.xyz", make_atom("H"), make_atom("O"), *hydrogens))
    assert module.statistics.atomic_numbers == [1]
    assert all((frame.node_types == 0).all() for frame in module.train_frames + module.valid_frames)


def test_statistics_of_a_run_go_with_files_that_hold_more_elements(write):
    helium = make_water(0)
    helium.symbols[0] = "He"
    waters = [make_water(i) for i in range(9)]
    E0s = {"H": -13.5, "O": -2041.25, "He": -77.0}
    for name, frames, settings in (
        ("atom.xyz", [make_atom("H"), make_atom("O"), make_atom("He", -77.0), *waters], {}),
        ("rare.xyz", [helium, *waters], {"max_train_frames": 2, "E0s": E0s}),
    ):
        settings["train_file"] = write(name, *frames)
        first = AtomsDataModule(3.0, **settings)
        assert first.statistics.atomic_numbers == [1, 8]
        again = AtomsDataModule(3.0, statistics=asdict(first.statistics), **settings)
        assert again.statistics == first.statistics
        for mine, theirs in ((again.train_frames, first.train_frames), (again.valid_frames, first.valid_frames)):
            assert indices(mine) == indices(theirs)
            assert [f.node_types.tolist() for f in mine] == [f.node_types.tolist() for f in theirs]


def test_unknown_elements_are_named_with_file_and_frame(write, water_file):
    module = AtomsDataModule(3.0, train_file=water_file, statistics={"atomic_numbers": [1], "E0s": [-1.0]})
    first = module.split.choose(20)[0][0] + 2
    with pytest.raises(UserError, match=rf"water.xyz, frame {first}: unknown element O: the known ones are H"):
        module.setup()
    helium = make_water(0)
    helium.symbols[0] = "He"
    module = AtomsDataModule(3.0, train_file=water_file, test_file=write("he.xyz", make_water(1), helium))
    with pytest.raises(UserError, match=r"he.xyz, frame 1: unknown element He: the known ones are H, O"):
        module.setup()


def test_bad_labels_are_named_with_file_and_frame(write):
    broken = make_water(3)
    broken.calc.results["forces"][1, 1] = np.nan
    module = AtomsDataModule(3.0, train_file=write("bad.xyz", make_water(1), make_water(2), broken) + "[1:]")
    with pytest.raises(UserError, match=r"bad.xyz, frame 2: forces \(calculator\) holds values that are not finite"):
        module.setup()


def test_files_without_forces_stop_unless_allowed(write, water_file):
    plain = write("plain.xyz", make_atom("H"), make_atom("O"), *(make_water(i, forces=False) for i in range(5)))
    for settings in ({"train_file": plain}, {"train_file": water_file, "valid_file": plain}):
        with pytest.raises(UserError, match=r"no 'forces' .* in 7/7 frames of .*plain.xyz; found: energy"):
            AtomsDataModule(3.0, **settings).setup("fit")
    module = AtomsDataModule(3.0, train_file=plain, require_forces=False)
    assert module.train_frames[0].forces.isnan().all()
    tested = AtomsDataModule(3.0, train_file=water_file, test_file=plain)
    tested.setup()
    assert tested.test_frames["plain"][2].forces.isnan().all()


def test_some_frames_may_lack_labels(write):
    frames = [make_water(i, energy=None if i == 2 else -2069.0, forces=i != 3) for i in range(6)]
    module = AtomsDataModule(3.0, train_file=write("some.xyz", *frames), E0s={"H": -13.5, "O": -2041.25})
    module.setup()
    assert "5 energy (calculator), 1 without  5 forces (calculator), 1 without" in module.label_report
    assert np.isfinite([module.statistics.scale, module.statistics.shift]).all()
    with pytest.raises(UserError, match="Did you mean energy_key=energy"):
        AtomsDataModule(3.0, train_file=write("some.xyz", *frames), energy_key="enregy").setup()


def test_missing_test_files_stop_before_training(water_file):
    with pytest.raises(UserError, match=r"no file .*watr.xyz. Did you mean 'water.xyz'"):
        AtomsDataModule(3.0, train_file=water_file, test_file=water_file.replace("water", "watr")).setup("fit")


def test_without_training_set(water_file):
    complete = asdict(AtomsDataModule(3.0, train_file=water_file).statistics)
    module = AtomsDataModule(3.0, test_file=water_file, statistics=complete)
    module.setup()
    assert len(module.test_frames["water"]) == 22 and asdict(module.statistics) == complete
    numbers = {"atomic_numbers": [1, 6, 8]}
    assert AtomsDataModule(3.0, test_file=water_file, statistics=numbers).test_frames["water"][2].node_types[0] == 2
    with pytest.raises(UserError, match="give train_file"):
        AtomsDataModule(3.0).setup("fit")


def test_one_frame_and_one_atom_are_enough(write):
    one = write("one.xyz", make_water(0))
    module = AtomsDataModule(3.0, train_file=one, E0s={"H": 0, "O": 0})
    assert len(module.train_frames) == len(module.valid_frames) == 1
    assert next(iter(module.train_dataloader())).num_graphs == 1
    with pytest.raises(UserError, match="isolated atoms only"):
        AtomsDataModule(3.0, train_file=write("atoms.xyz", make_atom("H")), require_forces=False).setup()


def test_config_types(write, water_file):
    typed = write("typed.xyz", *(make_water(i, config_type=f"t{i % 2}") for i in range(4)))
    module = AtomsDataModule(3.0, train_file=typed, E0s={"H": 0, "O": 0}, config_type_weights={"t1": 10.0})
    assert {frame.config_type: float(frame.weight) for frame in module.train_frames} == {"t0": 1.0, "t1": 10.0}
    with pytest.raises(UserError, match="no training frame has config_type 'bulk'"):
        AtomsDataModule(3.0, train_file=water_file, config_type_weights={"bulk": 2.0}).setup()


def test_statistics_are_cached_by_what_they_depend_on(water_file, tmp_path, monkeypatch):
    def statistics(**settings):
        return AtomsDataModule(3.0, train_file=water_file, cache_dir=tmp_path / "cache", **settings).statistics

    first = statistics()
    monkeypatch.setattr("mace_gaunt.data.training_set.compute_statistics", lambda *_: pytest.fail("computed"))
    assert statistics() == first
    monkeypatch.undo()
    for settings in ({"seed": 1}, {"E0s": {"H": 0, "O": 0}}, {"max_train_frames": 3}):
        assert statistics(**settings) != first
    assert len(list((tmp_path / "cache").iterdir())) == 4


def test_the_cache_tells_labels_apart(tmp_path):
    frames = [make_water(i) for i in range(6)]
    for atoms in frames:
        atoms.set_constraint(FixAtoms([0]))
        atoms.calc.results["forces"][0] = 9.0
    ase.io.write(tmp_path / "slabs.xyz", frames)
    settings = {"train_file": tmp_path / "slabs.xyz", "valid_size": 1, "E0s": "zero", "cache_dir": tmp_path / "cache"}
    everything, free = (AtomsDataModule(3.0, forces_mask=mask, **settings).statistics for mask in ("all", "free"))
    assert free.scale < everything.scale - 1.0
    assert free == AtomsDataModule(3.0, forces_mask="free", **(settings | {"cache_dir": None})).statistics


def test_max_train_frames(water_file):
    module = AtomsDataModule(3.0, train_file=water_file, max_train_frames=7, valid_size=4)
    assert (len(module.train_frames), len(module.valid_frames)) == (7, 4)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"batch_size": 0}, "batch_size"),
        ({"valid_batch_size": 0}, "batch_size"),
        ({"max_edges_per_batch": 0}, "max_edges_per_batch"),
        ({"valid_fraction": 2}, "valid_fraction"),
        ({"E0s": "regres"}, "Did you mean 'regress'"),
        ({"statistics": {"shfit": 1}}, "Did you mean 'shift'"),
        ({"r_max": -1.0}, "r_max"),
        ({"config_type_weights": {"bulk": "high"}}, "config_type_weights.bulk"),
    ],
)
def test_settings_out_of_range(settings, message):
    with pytest.raises(UserError, match=message):
        AtomsDataModule(**{"r_max": 3.0, **settings})


def test_real_energy_only_and_mixed_sizes(shared_data):
    folder = shared_data / "ethanol"
    module = AtomsDataModule(
        5.0,
        train_file=f"{folder}/train_eth_meth.xyz.gz[::20]",
        test_file={"dimers": f"{folder}/test_dimers.xyz.gz[::40]", "H": folder / "test_H_removal.xyz"},
        isolated_atoms_file=folder / "isolated_atoms.xyz",
        valid_size=10,
    )
    module.setup()
    assert module.statistics.atomic_numbers == [1, 6, 8]
    assert module.test_frames["dimers"][0].num_nodes == 2
    assert -10 < module.statistics.shift < 0


def test_forces_of_fixed_atoms_can_be_left_out(tmp_path):
    frames = [make_water(i) for i in range(6)]
    for atoms in frames:
        atoms.set_constraint(FixAtoms([0]))
    ase.io.write(tmp_path / "slabs.xyz", frames)
    settings = {"train_file": tmp_path / "slabs.xyz", "valid_size": 1, "E0s": {"H": 0.0, "O": 0.0}}
    everything = AtomsDataModule(3.0, **settings)
    free = AtomsDataModule(3.0, forces_mask="free", **settings)
    for frame, masked in zip(everything.train_frames, free.train_frames, strict=True):
        assert frame.fixed.tolist() == [True, False, False] and bool(frame.forces.isfinite().all())
        assert bool(masked.forces[0].isnan().all()) and torch.equal(masked.forces[1:], frame.forces[1:])
    forces = torch.cat([frame.forces[1:] for frame in everything.train_frames])
    assert free.statistics.scale == pytest.approx(float(forces.square().mean().sqrt()))
    with pytest.raises(UserError, match="Did you mean 'free'"):
        AtomsDataModule(3.0, forces_mask="fre")
