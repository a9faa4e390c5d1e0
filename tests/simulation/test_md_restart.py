"""Simulations that are stopped and go on: the same to the last bit, for every ensemble and format."""

import os
import shutil
import signal

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.constraints import FixAtoms
from ase.filters import FrechetCellFilter
from ase.optimize import BFGS

from mace_gaunt.errors import UserError
from mace_gaunt.simulation.calculator import MaceGauntCalculator
from mace_gaunt.simulation.md_checkpoint import NAME, load_checkpoint
from mace_gaunt.simulation.md_run import Simulation
from mace_gaunt.simulation.md_settings import ENSEMBLES, NPT
from mace_gaunt.simulation.molecular_dynamics import run_md, run_replicas

pytestmark = pytest.mark.usefixtures("no_plots")
FAST = {"timestep_fs": 1.0, "steps": 60, "interval": 4, "checkpoint_interval": 20, "temperature_K": 250.0, "seed": 3}


@pytest.fixture(scope="module")
def found() -> list[Atoms]:
    """The crystal below, once it has been found."""
    return []


@pytest.fixture
def crystal(toy, found):
    """Eight atoms in a skewed cell smaller than the cutoff, at their minimum."""
    if not found:
        cell = [[2.4, 0.1, 0.0], [0.9, 2.6, 0.0], [-0.4, 0.5, 2.9]]
        atoms = Atoms("CO", scaled_positions=[[0.02, 0.03, 0.01], [0.55, 0.43, 0.52]], cell=cell, pbc=True)
        atoms = atoms.repeat((2, 2, 1))
        atoms.calc = MaceGauntCalculator(toy, device="cpu")
        BFGS(FrechetCellFilter(atoms), logfile=None).run(fmax=0.01, steps=100)
        found.append(atoms)
    return found[0].copy()


class KilledError(Exception):
    """In the place of a kill: nothing is written after it."""


def run(toy, atoms, folder, **settings):
    """With a calculator that has computed nothing yet, as in a new process; in a short skin, so that lists are made."""
    return run_md(MaceGauntCalculator(toy, device="cpu", skin=0.2), atoms, folder, progress=False, **FAST | settings)


def kill(toy, atoms, folder, monkeypatch, after, **settings):
    """The same, ended within the calculation of a step, with no chance to tidy up."""
    calls = 0
    compute = MaceGauntCalculator._compute

    def counted(self, *args, **kwargs):
        nonlocal calls
        calls += 1
        if calls > after:
            raise KilledError
        return compute(self, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(MaceGauntCalculator, "_compute", counted)
        with pytest.raises(KilledError):
            run(toy, atoms, folder, **settings)


def assert_same_end(one, other):
    """Atoms, thermostats, random numbers and results after the last step, bit for bit."""
    first, second = load_checkpoint(one), load_checkpoint(other)
    assert first.step == second.step == FAST["steps"]
    for part in ("atoms", "integrator", "results"):
        expected, found = getattr(first, part), getattr(second, part)
        assert expected.keys() == found.keys()
        for name in expected:
            assert np.array_equal(expected[name], found[name]), name
    for name in ("random", "monitor", "watch"):
        assert first.info[name] == second.info[name]


@pytest.mark.parametrize("ensemble", ENSEMBLES)
def test_a_killed_run_goes_on_as_if_it_never_had_been(ensemble, toy, molecule, crystal, tmp_path, monkeypatch):
    atoms = crystal if ensemble in NPT else molecule
    settings = {"ensemble": ensemble, "pressure_GPa": 1.0, "pdamp_fs": 200.0}
    run(toy, atoms, tmp_path / "whole", **settings)
    kill(toy, atoms, tmp_path / "killed", monkeypatch, after=34, **settings)
    assert load_checkpoint(tmp_path / "killed").step == 20
    assert len((tmp_path / "killed" / "md.csv").read_text().splitlines()) > 2 + 20 // 4
    health = run(toy, atoms, tmp_path / "killed", resume="must", **settings)
    assert health["finished"] and health["continued_from_step"] == 20
    for name in ("trajectory.extxyz", "md.csv"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "killed" / name).read_bytes()
    assert_same_end(tmp_path / "whole", tmp_path / "killed")


def test_constraints_go_on(toy, molecule, tmp_path, monkeypatch):
    molecule.set_constraint(FixAtoms([1]))
    settings = {"ensemble": "nose_hoover_chain"}
    run(toy, molecule, tmp_path / "whole", **settings)
    kill(toy, molecule, tmp_path / "killed", monkeypatch, after=50, **settings)
    run(toy, molecule, tmp_path / "killed", resume="auto", **settings)
    assert_same_end(tmp_path / "whole", tmp_path / "killed")
    molecule.set_constraint(FixAtoms([2]))
    with pytest.raises(UserError, match="the constraints of the structure are other ones"):
        run(toy, molecule, tmp_path / "killed", resume="auto", **settings)


@pytest.mark.parametrize("trajectory", ["traj", "h5"])
def test_binary_trajectories_are_cut_back(trajectory, toy, crystal, tmp_path, monkeypatch):
    run(toy, crystal, tmp_path / "whole", trajectory=trajectory)
    kill(toy, crystal, tmp_path / "killed", monkeypatch, after=34, trajectory=trajectory)
    run(toy, crystal, tmp_path / "killed", trajectory=trajectory, resume="must")
    read = {"traj": read_traj, "h5": read_h5}[trajectory]
    expected, found = (read(tmp_path / name / f"trajectory.{trajectory}") for name in ("whole", "killed"))
    assert len(found["step"]) == 16
    for name in expected:
        assert np.array_equal(expected[name], found[name]), name
    assert sorted(path.name for path in (tmp_path / "killed").iterdir()) == sorted(
        path.name for path in (tmp_path / "whole").iterdir()
    )


@pytest.mark.parametrize(("trajectory", "draft"), [("traj", "trajectory.tmp"), ("h5", "trajectory.earlier")])
def test_drafts_of_an_earlier_run_are_gone(trajectory, draft, toy, crystal, tmp_path):
    """A resume that was killed while it cut the trajectory leaves one; a new run has nothing to do with it."""
    pytest.importorskip("h5py")
    settings = {"trajectory": trajectory, "steps": 8}
    run(toy, crystal, tmp_path, **settings)
    shutil.copy(tmp_path / f"trajectory.{trajectory}", tmp_path / draft)
    run(toy, crystal, tmp_path, overwrite=True, **settings | {"seed": 9})
    assert not (tmp_path / draft).exists()
    read = {"traj": read_traj, "h5": read_h5}[trajectory]
    before = read(tmp_path / f"trajectory.{trajectory}")
    run(toy, crystal, tmp_path, resume="must", **settings | {"seed": 9})
    after = read(tmp_path / f"trajectory.{trajectory}")
    assert before.keys() == after.keys() and all(np.array_equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize("trajectory", ["extxyz", "traj", "h5"])
def test_files_that_were_lost_are_told_and_nothing_is_changed(trajectory, toy, molecule, tmp_path):
    pytest.importorskip("h5py")
    settings = {"trajectory": trajectory, "steps": 8}
    run(toy, molecule, tmp_path / "run", **settings)
    run(toy, molecule, tmp_path / "short", **settings | {"steps": 4})
    name = f"trajectory.{trajectory}"
    for lost in (name, "md.csv"):
        whole = (tmp_path / "run" / lost).read_bytes()
        (tmp_path / "run" / lost).write_bytes((tmp_path / "short" / lost).read_bytes())
        for message in (f"{lost}' is shorter than its checkpoint says", f"there is no '.*{lost}' to continue"):
            before = {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()}
            with pytest.raises(UserError, match=message):
                run(toy, molecule, tmp_path / "run", resume="must", **settings)
            assert before == {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()}
            (tmp_path / "run" / lost).unlink(missing_ok=True)
        (tmp_path / "run" / lost).write_bytes(whole)
    assert run(toy, molecule, tmp_path / "run", resume="must", **settings)["finished"]


def test_replicas_of_an_earlier_run_are_not_gone_on_with(toy, molecule, tmp_path, monkeypatch):
    def replicas(**settings):
        calculator = MaceGauntCalculator(toy, device="cpu")
        return run_replicas(calculator, molecule, tmp_path, 2, progress=False, **FAST | {"steps": 8} | settings)

    replicas()
    molecule.positions[0, 0] += 0.02

    def killed(*args):
        raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr(Simulation, "go", killed)
        with pytest.raises(KilledError):
            replicas(overwrite=True)
    replicas(resume="auto")
    first = ase.io.read(tmp_path / "replica_1" / "trajectory.extxyz", 0)
    np.testing.assert_allclose(first.positions, molecule.positions, atol=1e-7)


def read_traj(path):
    frames = ase.io.read(path, ":")
    return {
        "step": [frame.info["step"] for frame in frames],
        "positions": np.array([frame.positions for frame in frames]),
        "momenta": np.array([frame.get_momenta() for frame in frames]),
        "forces": np.array([frame.get_forces() for frame in frames]),
        "energy": [frame.get_potential_energy() for frame in frames],
    }


def read_h5(path):
    h5py = pytest.importorskip("h5py")
    found = {}
    with h5py.File(path) as file:
        file.visititems(lambda name, item: found.update({name: item[()]}) if isinstance(item, h5py.Dataset) else None)
    return found | {"step": found["particles/all/position/step"]}


def test_an_h5_file_that_was_never_closed_can_be_read(toy, crystal, tmp_path):
    """What a kill leaves: a process that ends without any tidying up."""
    pytest.importorskip("h5py")
    child = os.fork()
    if child == 0:
        MaceGauntCalculator.calculate = lambda self, *args, **kwargs: os.kill(os.getpid(), signal.SIGKILL)
        from mace_gaunt.simulation.health import Sample
        from mace_gaunt.simulation.recorder import Recorder

        atoms = crystal.copy()
        atoms.set_momenta(np.zeros((8, 3)))
        atoms.calc = type("Calculator", (), {"results": {"forces": np.ones((8, 3))}})
        recorder = Recorder(tmp_path, 1, "h5", ["step"])
        for step in range(5):
            recorder.record(Sample(step, step * 1e-3, -1.0, 0.0, 0.0, None), atoms)
        recorder.sync()
        os.kill(os.getpid(), signal.SIGKILL)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    from mace_gaunt.simulation.trajectories import open_trajectory

    open_trajectory(tmp_path / "trajectory.h5", mark=3).close()
    assert list(read_h5(tmp_path / "trajectory.h5")["step"]) == [0, 1, 2]


def test_sigterm_leaves_a_checkpoint_of_the_step(toy, molecule, tmp_path, monkeypatch):
    run(toy, molecule, tmp_path / "whole", ensemble="langevin")
    compute, calls = MaceGauntCalculator._compute, []

    def signalled(self, *args, **kwargs):
        calls.append(1)
        if len(calls) == 28:
            os.kill(os.getpid(), signal.SIGTERM)
        return compute(self, *args, **kwargs)

    before = signal.getsignal(signal.SIGTERM)
    with monkeypatch.context() as patch:
        patch.setattr(MaceGauntCalculator, "_compute", signalled)
        with pytest.raises(SystemExit) as caught:
            run(toy, molecule, tmp_path / "killed", ensemble="langevin")
    assert caught.value.code == 143 and signal.getsignal(signal.SIGTERM) is before
    assert load_checkpoint(tmp_path / "killed").step == 27
    assert "SIGTERM" in (tmp_path / "killed" / "health.txt").read_text()
    run(toy, molecule, tmp_path / "killed", ensemble="langevin", resume="auto")
    assert (tmp_path / "whole" / "md.csv").read_bytes() == (tmp_path / "killed" / "md.csv").read_bytes()
    assert_same_end(tmp_path / "whole", tmp_path / "killed")


def test_a_finished_run_can_be_made_longer(toy, molecule, tmp_path):
    run(toy, molecule, tmp_path / "whole")
    run(toy, molecule, tmp_path / "short", steps=40)
    assert run(toy, molecule, tmp_path / "short", steps=40, resume="auto")["finished"]
    run(toy, molecule, tmp_path / "short", resume="auto")
    assert_same_end(tmp_path / "whole", tmp_path / "short")


def test_what_cannot_go_on_is_told_and_left_alone(toy, molecule, crystal, tmp_path):
    with pytest.raises(UserError, match="resume=must: there is no"):
        run(toy, molecule, tmp_path / "none", resume="must")
    assert not (tmp_path / "none").exists()
    run(toy, molecule, tmp_path, steps=8)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(UserError, match=r"timestep_fs was 1\.0 and is 2\.0"):
        run(toy, molecule, tmp_path, resume="auto", timestep_fs=2.0)
    with pytest.raises(UserError, match="the numbers of the structure are other ones"):
        run(toy, crystal, tmp_path, resume="auto")
    with pytest.raises(UserError, match="resume is never, auto or must, not 'allways'"):
        run(toy, molecule, tmp_path, resume="allways")
    with pytest.raises(UserError, match="resume=auto to continue"):
        run(toy, molecule, tmp_path)
    toy.depth.data.fill_(2.0)
    with pytest.raises(UserError, match="cannot be continued with this model: energy and forces"):
        run(toy, molecule, tmp_path, resume="auto")
    assert before == {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    (tmp_path / NAME).write_bytes(b"PK damaged")
    with pytest.raises(UserError, match="is damaged"):
        run(toy, molecule, tmp_path, resume="auto")


def test_another_rounding_is_told(toy, molecule, tmp_path, caplog, monkeypatch):
    run(toy, molecule, tmp_path, steps=8)
    toy.depth.data.mul_(1 + 1e-12)
    with caplog.at_level("INFO"):
        run(toy, molecule, tmp_path, resume="auto")
    assert "not bit for bit" in caplog.text
