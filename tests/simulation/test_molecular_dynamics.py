"""Molecular dynamics: conservation, temperature, files, and runs that go wrong."""

import csv
import json
from functools import partial

import ase.io
import numpy as np
import pytest
from ase import Atoms, units
from ase.constraints import FixAtoms

from mace_gaunt.errors import UserError
from mace_gaunt.simulation.calculator import MaceGauntCalculator
from mace_gaunt.simulation.molecular_dynamics import SimulationError, run_md

pytestmark = pytest.mark.usefixtures("no_plots")
run = partial(run_md, progress=False)


def rows(folder):
    with (folder / "md.csv").open() as file:
        return list(csv.DictReader(file))


def column(folder, name):
    return np.array([float(row[name]) for row in rows(folder)])


def health_file(folder):
    return json.loads((folder / "health.json").read_text())


def test_nve_conserves_energy(calculator, molecule, tmp_path):
    health = run(calculator, molecule, tmp_path, temperature_K=300, timestep_fs=0.25, steps=800, interval=5)
    assert abs(health["drift_meV_per_atom_per_ps"]) < 0.5
    assert health["total_energy_std_meV_per_atom"] < 0.5
    total = column(tmp_path, "total_energy_eV")
    assert np.ptp(column(tmp_path, "kinetic_energy_eV")) > 20 * np.ptp(total)


def test_drift_is_the_slope_of_the_total_energy(calculator, molecule, tmp_path):
    health = run(calculator, molecule, tmp_path, timestep_fs=1.0, steps=60, interval=1)
    slope = np.polyfit(column(tmp_path, "time_ps"), column(tmp_path, "total_energy_eV"), 1)[0]
    assert health["drift_meV_per_atom_per_ps"] == pytest.approx(1000 * slope / len(molecule), rel=1e-6)
    spread = column(tmp_path, "total_energy_eV").std()
    assert health["total_energy_std_meV_per_atom"] == pytest.approx(1000 * spread / len(molecule), rel=1e-6)


def test_langevin_holds_its_temperature(calculator, molecule, tmp_path):
    settings = {"ensemble": "langevin", "friction_per_fs": 0.05, "timestep_fs": 1.0, "temperature_K": 250.0}
    health = run(calculator, molecule, tmp_path, steps=4000, interval=100, seed=3, **settings)
    assert health["temperature_mean_K"] == pytest.approx(250, rel=0.15)
    assert health["drift_meV_per_atom_per_ps"] is None


def test_files_hold_what_the_run_did(calculator, molecule, tmp_path):
    health = run(calculator, molecule, tmp_path / "new" / "md", steps=25, interval=10, timestep_fs=0.5)
    folder = tmp_path / "new" / "md"
    assert health == health_file(folder)
    assert health["finished"] is True and health["reason"] is None and health["steps"] == 25
    names = "step time_ps potential_energy_eV kinetic_energy_eV total_energy_eV temperature_K closest_distance_A "
    names += "max_force_eV_A"
    assert list(rows(folder)[0]) == names.split()
    assert [int(row["step"]) for row in rows(folder)] == [0, 10, 20, 25]
    assert column(folder, "time_ps")[-1] == pytest.approx(0.0125)
    frames = ase.io.read(folder / "trajectory.extxyz", ":")
    assert len(frames) == 4
    for frame, energy, kinetic in zip(
        frames, column(folder, "potential_energy_eV"), column(folder, "kinetic_energy_eV"), strict=True
    ):
        again = frame.copy()
        again.calc = calculator
        assert frame.get_potential_energy() == pytest.approx(energy, abs=1e-6)
        assert again.get_potential_energy() == pytest.approx(energy, abs=1e-5)
        np.testing.assert_allclose(frame.get_forces(), again.get_forces(), atol=1e-5)
        assert frame.get_kinetic_energy() == pytest.approx(kinetic, rel=1e-5)
    assert min(column(folder, "closest_distance_A")) >= health["closest_distance_A"] > 0.5


def test_first_velocities_are_thermal_and_at_rest(calculator, molecule, tmp_path):
    run(calculator, molecule, tmp_path, steps=1, temperature_K=450.0)
    assert column(tmp_path, "temperature_K")[0] == pytest.approx(450.0)
    for frame in ase.io.read(tmp_path / "trajectory.extxyz", ":"):
        np.testing.assert_allclose(frame.get_momenta().sum(0), 0, atol=1e-6)


def test_velocities_can_be_kept(calculator, molecule, tmp_path):
    with pytest.raises(UserError, match="velocities=keep needs momenta"):
        run(calculator, molecule, tmp_path / "none", velocities="keep")
    run(calculator, molecule, tmp_path / "first", steps=40, interval=20, timestep_fs=0.25)
    half = ase.io.read(tmp_path / "first" / "trajectory.extxyz", 1)
    run(calculator, half, tmp_path / "second", steps=20, interval=20, timestep_fs=0.25, velocities="keep")
    last = [ase.io.read(tmp_path / name / "trajectory.extxyz", -1) for name in ("first", "second")]
    np.testing.assert_allclose(last[0].positions, last[1].positions, atol=1e-5)


@pytest.mark.parametrize("ensemble", ["nve", "langevin"])
def test_a_seed_is_a_run(calculator, molecule, tmp_path, ensemble):
    state = np.random.get_state()[1].copy()
    for name, seed in (("a", 5), ("b", 5), ("c", 6)):
        run(calculator, molecule, tmp_path / name, ensemble=ensemble, steps=20, seed=seed)
    texts = {name: (tmp_path / name / "md.csv").read_text() for name in "abc"}
    assert texts["a"] == texts["b"] != texts["c"]
    assert np.array_equal(state, np.random.get_state()[1])


def test_the_structure_is_left_alone(calculator, molecule, tmp_path):
    molecule.info["energy"] = -1.0
    molecule.arrays["forces"] = np.ones((6, 3))
    before = molecule.copy()
    run(calculator, molecule, tmp_path, steps=3)
    assert molecule == before and molecule.calc is None and not molecule.constraints and not molecule.has("momenta")
    frame = ase.io.read(tmp_path / "trajectory.extxyz", -1)
    assert frame.get_potential_energy() < -3000  # the potential's, not the label it came with


def test_constraints_are_respected(calculator, molecule, tmp_path):
    molecule.set_constraint(FixAtoms([0, 2]))
    run(calculator, molecule, tmp_path, steps=20, ensemble="langevin")
    last = ase.io.read(tmp_path / "trajectory.extxyz", -1)
    np.testing.assert_allclose(last.positions[[0, 2]], molecule.positions[[0, 2]], atol=1e-8)
    assert list(last.constraints[0].index) == [0, 2]
    assert column(tmp_path, "temperature_K")[0] == pytest.approx(300)


def test_periodic_cells_and_lone_atoms(calculator, crystal, tmp_path):
    health = run(calculator, crystal.repeat(2), tmp_path / "crystal", steps=20, temperature_K=100)
    assert health["finished"]
    health = run(calculator, Atoms("C"), tmp_path / "atom", steps=3)
    assert health["finished"] and health["closest_distance_A"] is None
    assert column(tmp_path / "atom", "temperature_K").max() == 0
    assert rows(tmp_path / "atom")[0]["closest_distance_A"] == ""


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"ensemble": "nvt"}, "npt_isotropic or npt, not 'nvt'. Did you mean 'nve'"),
        ({"velocities": "kept"}, "Did you mean 'keep'"),
        ({"steps": 0}, "steps is a whole number of at least 1"),
        ({"interval": 2.5}, "interval is a whole number"),
        ({"seed": -1}, "seed is a whole number"),
        ({"timestep_fs": 0.0}, "timestep_fs is a positive time"),
        ({"temperature_K": -1.0}, "temperature_K"),
        ({"temperature_K": float("nan")}, "temperature_K"),
        ({"ensemble": "langevin", "friction_per_fs": 0.0}, "friction_per_fs"),
        ({"max_temperature_K": 100.0}, "start structure is unphysical: the temperature is 300 K"),
    ],
)
def test_wrong_settings_write_nothing(calculator, molecule, tmp_path, setting, message):
    with pytest.raises(UserError, match=message):
        run(calculator, molecule, tmp_path / "out", **setting)
    assert not (tmp_path / "out").exists()


def test_wrong_structures_write_nothing(calculator, molecule, tmp_path):
    close = molecule.copy()
    close.positions[1] = close.positions[0] + [0.2, 0, 0]
    for atoms, message in ((Atoms("Fe"), "holds Fe"), (Atoms(), "no atoms"), (close, r"0.200 Å apart \(limit 0.3 Å\)")):
        with pytest.raises(UserError, match=message):
            run(calculator, atoms, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_earlier_runs_are_kept_unless_told_otherwise(calculator, molecule, tmp_path):
    run(calculator, molecule, tmp_path, steps=2)
    before = (tmp_path / "md.csv").read_text()
    with pytest.raises(UserError, match=r"already holds health\.json, .*md\.csv.*, or set overwrite"):
        run(calculator, molecule, tmp_path, steps=4)
    assert (tmp_path / "md.csv").read_text() == before
    assert run(calculator, molecule, tmp_path, steps=4, overwrite=True)["steps"] == 4
    assert health_file(tmp_path)["steps"] == 4
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="is a file"):
        run(calculator, molecule, tmp_path / "file" / "deeper")


def test_an_exploding_run_stops_and_says_why(calculator, molecule, tmp_path):
    with pytest.raises(SimulationError, match=r"stopped at step \d+ of 500: the temperature is .* K") as caught:
        run(calculator, molecule, tmp_path, timestep_fs=12.0, steps=500, temperature_K=600)
    health = health_file(tmp_path)
    assert health == caught.value.health
    assert health["finished"] is False and "temperature" in health["reason"]
    assert 0 < health["steps"] < 500 and health["steps_planned"] == 500
    assert int(rows(tmp_path)[-1]["step"]) == health["steps"]  # the step that broke it is there to be looked at


def test_atoms_that_meet_stop_the_run(toy, tmp_path):
    toy.depth.data.fill_(-1.0)  # turns the wall into a well
    calculator = MaceGauntCalculator(toy, device="cpu")
    atoms = Atoms("CC", positions=[[0, 0, 0], [0.6, 0, 0]])
    with pytest.raises(SimulationError, match=r"two atoms are 0\.\d+ Å apart"):
        run(calculator, atoms, tmp_path, steps=500, timestep_fs=0.02, max_temperature_K=1e9, temperature_K=0.0)
    assert health_file(tmp_path)["closest_distance_A"] < 0.3


def test_energies_that_are_not_numbers_stop_the_run(calculator, molecule, tmp_path, monkeypatch):
    original, calls = MaceGauntCalculator.calculate, []

    def broken(self, *args, **kwargs):
        original(self, *args, **kwargs)
        calls.append(1)
        if len(calls) > 5:
            self.results["energy"] = float("nan")

    monkeypatch.setattr(MaceGauntCalculator, "calculate", broken)
    with pytest.raises(SimulationError, match="step 5 of 20: the potential energy is nan"):
        run(calculator, molecule, tmp_path, steps=20)
    assert health_file(tmp_path)["finished"] is False


def test_a_run_that_is_interrupted_says_so(calculator, molecule, tmp_path, monkeypatch):
    original, calls = MaceGauntCalculator.calculate, []

    def interrupted(self, *args, **kwargs):
        calls.append(1)
        if len(calls) > 12:
            raise KeyboardInterrupt
        original(self, *args, **kwargs)

    monkeypatch.setattr(MaceGauntCalculator, "calculate", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(calculator, molecule, tmp_path, steps=50, interval=5)
    health = health_file(tmp_path)
    assert health["finished"] is False and health["reason"] == "interrupted" and health["steps"] == 11
    assert len(rows(tmp_path)) == 3


def test_progress_tells_speed_and_time_left(calculator, molecule, tmp_path, capsys):
    run_md(calculator, molecule, tmp_path, steps=5)
    assert "md 5/5 steps" in (line := capsys.readouterr().err) and "steps/s" in line and "ns/day" in line


def test_masses_are_used(calculator, tmp_path):
    heavy = Atoms("OH", positions=[[0, 0, 0], [1.3, 0, 0]], masses=[15.999, 2.014])
    run(calculator, heavy, tmp_path, steps=2, temperature_K=300)
    frame = ase.io.read(tmp_path / "trajectory.extxyz", -1)
    np.testing.assert_allclose(frame.get_masses(), [15.999, 2.014])
    assert frame.get_kinetic_energy() / (1.5 * units.kB) == pytest.approx(column(tmp_path, "temperature_K")[-1])
