"""`md`, `relax` and `phonons` on the command line."""

import json
import os
import signal
import subprocess
import sys
import time

import ase.io
import numpy as np
import pytest
from ase.build import bulk
from small_models import build, crystal, molecule

from mace_gaunt.model.checkpoint import save_model
from mace_gaunt.simulation.md_checkpoint import load_checkpoint

SMALL = {"num_channels": 2, "max_L": 0, "max_ell": 1, "correlation": 1, "radial_MLP": [2], "num_interactions": 1}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_model(build("gaunt", **SMALL), tmp_path_factory.mktemp("simulation") / "model")


@pytest.fixture
def start(tmp_path):
    ase.io.write(tmp_path / "start.xyz", molecule())
    return ["structure=start.xyz", "device=cpu", "compile=off"]


def test_replicas_and_what_goes_on(folder, start, command, tmp_path, monkeypatch):
    monkeypatch.setattr("mace_gaunt.simulation.md_run.plot_simulation", lambda *arguments: None)
    words = ["md", f"model={folder}", *start, "timestep_fs=0.1", "interval=2", "temperature=10", "out=md", "replicas=2"]
    status, out, err = command(*words, "steps=4", "ensemble=bussi", "tdamp=20", "trajectory=traj")
    assert status == 0, err
    assert "replica  seed  finished" in out and "replica_*/health.txt" in out
    status, out, err = command(*words, "steps=6", "ensemble=bussi", "tdamp=20", "trajectory=traj", "resume=auto")
    assert status == 0, err
    assert len(ase.io.read(tmp_path / "md" / "replica_1" / "trajectory.traj", ":")) == 4


def test_a_committee(folder, start, command, tmp_path):
    words = ["md", f"model=[{folder},{folder}]", *start, "timestep_fs=0.1", "steps=3", "temperature=10", "out=md"]
    status, out, err = command(*words, "max_force_std=0.5")
    assert status == 0, err
    assert json.loads((tmp_path / "md" / "health.json").read_text())["largest_force_std_eV_A"] == 0
    assert "committee" in out and (tmp_path / "md" / "md.png").is_file()


def test_a_run_that_blows_up_has_a_status(folder, start, command, tmp_path):
    words = ["md", f"model={folder}", *start, "out=md", "temperature=300", "timestep_fs=50", "max_temperature_K=301"]
    status, _, err = command(*words)
    assert status == 2 and "The simulation was stopped at step" in err
    assert (tmp_path / "md" / "last_good.extxyz").is_file()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("md out=md ensemble=npt", "periodic in all three directions"),
        ("md out=md ensemble=bussy", "Did you mean 'bussi'"),
        ("md out=md replicas=0", "replicas is a whole number of at least 1"),
        ("md out=md pressure_GPA=1", "Did you mean 'pressure_GPa'"),
        ("md out=md resume=must", "resume=must: there is no"),
        ("md out=md max_force_std=1", "a limit for a committee"),
        ("md out=md head=pbe", "head"),
        ("relax out=out optimizer=FIRE3", "Did you mean 'FIRE"),
        ("relax out=out cell=full", "cell=full cannot be relaxed"),
        ("relax out=out index=first", "index='first' is no frame"),
        ("relax out=out index=5:", "has no frames 5:"),
        ("relax index=:", "out is missing"),
        ("relax out=out fmx=1", "Did you mean 'fmax'"),
        ("phonons out=out", "periodic in all three directions"),
        ("phonons out=out supercell=[2,2]", "one number or three"),
        ("phonons out=out displacment=0.1", "Did you mean 'displacement'"),
        ("phonons out=out --multirun", "has no --multirun"),
    ],
)
def test_mistakes_write_nothing(words, message, folder, refused, tmp_path):
    if words.startswith("phonons"):
        pytest.importorskip("phonopy")
    ase.io.write(tmp_path / "start.xyz", molecule())
    assert message in refused(*words.split(), f"model={folder}", "structure=start.xyz", "device=cpu")


@pytest.mark.parametrize("verb", ["relax", "phonons"])
def test_validate_only_writes_nothing(verb, folder, command, tmp_path):
    if verb == "phonons":
        pytest.importorskip("phonopy")
    ase.io.write(tmp_path / "start.xyz", crystal())
    before = sorted(tmp_path.rglob("*"))
    status, out, _ = command(verb, f"model={folder}", "structure=start.xyz", "out=out", "--validate-only")
    assert status == 0 and "nothing was written" in out
    assert sorted(tmp_path.rglob("*")) == before
    assert "fmax=0.01" in command("relax", "--help-keys")[1]


def test_relax_tells_what_it_did(folder, start, command, tmp_path):
    frames = [molecule(), molecule()]
    ase.io.write(tmp_path / "start.xyz", frames)
    words = ["relax", f"model={folder}", *start, "index=:", "optimizer=BFGS"]
    status, out, err = command(*words, "fmax=100", "out=easy")
    assert status == 0, err
    assert "frame 1: 0 steps" in out and len(ase.io.read(tmp_path / "easy" / "relaxed.extxyz", ":")) == 2
    status, _, err = command(*words, "fmax=1e-9", "steps=1", "out=hard")
    assert status == 2 and "2 of 2 structures did not converge in 1 steps" in err


def test_phonons_tell_what_they_are(folder, command, tmp_path):
    pytest.importorskip("phonopy")
    ase.io.write(tmp_path / "carbon.cif", bulk("C", "fcc", a=2.6))
    words = ["phonons", f"model={folder}", "structure=carbon.cif", "supercell=2", "mesh=8.0", "points=3", "device=cpu"]
    status, out, err = command(*words, "out=phonons")
    assert status == 0, err
    assert "space group Fm-3m, supercell [2, 2, 2]" in out and "1 displacements in 8 atoms" in out
    assert json.loads((tmp_path / "phonons" / "phonons.json").read_text())["atoms_in_primitive_cell"] == 1


@pytest.mark.slow
def test_kill_9_and_restart_give_the_same_final_positions(folder, start, command, tmp_path):
    words = ["md", f"model={folder}", *start, "timestep_fs=0.1", "temperature=30", "ensemble=langevin", "steps=1500"]
    words += ["checkpoint_interval=50", "interval=7"]
    assert command(*words, "out=whole")[0] == 0
    line = [sys.executable, "-m", "mace_gaunt.cli.main", *words, "out=killed", "resume=auto"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    child = subprocess.Popen(line, cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not (tmp_path / "killed" / "checkpoint.npz").is_file() or load_checkpoint(tmp_path / "killed").step < 200:
        assert child.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    child.kill()
    assert child.wait() == -signal.SIGKILL
    assert 200 <= load_checkpoint(tmp_path / "killed").step < 1500
    subprocess.run(line, cwd=tmp_path, env=environment, check=True, capture_output=True)
    expected, found = (load_checkpoint(tmp_path / name) for name in ("whole", "killed"))
    assert expected.step == found.step == 1500
    assert np.array_equal(expected.atoms["positions"], found.atoms["positions"])
    for name in ("md.csv", "trajectory.extxyz"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "killed" / name).read_bytes()


def test_a_training_tells_its_model_what_it_saw(trained, data_file, frames, command, tmp_path):
    metadata = json.loads((trained / "model" / "model.json").read_text())["metadata"]
    known = metadata["training_set"]
    assert known["frames"] == metadata["training_frames"] and known["open_frames"] == known["frames"]
    shortest = min(
        atoms.get_all_distances()[np.triu_indices(len(atoms), 1)].min() for atoms in frames if len(atoms) > 1
    )
    assert min(known["smallest_distance_A"].values()) >= shortest - 1e-6
    words = ["md", f"model={trained}", f"structure={data_file}", "steps=2", "temperature=1", "compile=off", "out=md"]
    assert command(*words)[0] == 0
    health = json.loads((tmp_path / "md" / "health.json").read_text())
    assert health["extrapolation_unknown"] is None
