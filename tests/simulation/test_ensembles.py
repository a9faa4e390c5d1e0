"""Thermostats, barostats and constraints: what they hold, what they conserve, what is refused."""

import csv
import json

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk
from ase.constraints import FixAtoms, FixBondLengths, FixCartesian, FixedPlane, FixSymmetry
from ase.io import read

from mace_gaunt.errors import UserError
from mace_gaunt.simulation.calculator import MaceGauntCalculator
from mace_gaunt.simulation.integrators import build_integrator
from mace_gaunt.simulation.md_settings import ENSEMBLES, NPT, MDSettings
from mace_gaunt.simulation.molecular_dynamics import run_md
from mace_gaunt.simulation.start import degrees_of_freedom, moving_atoms

pytestmark = pytest.mark.usefixtures("no_plots")
THERMOSTATS = ("langevin", "bussi", "nose_hoover_chain")


def run(calculator, atoms, out, **settings):
    return run_md(calculator, atoms, out, progress=False, **settings)


def column(folder, name):
    with (folder / "md.csv").open() as file:
        return np.array([float(row[name]) for row in csv.DictReader(file)])


@pytest.fixture
def crystal(toy):
    """Carbon on a face-centred lattice, near its minimum in the toy potential."""
    return bulk("C", "fcc", a=1.866, cubic=True).repeat((2, 1, 1))


@pytest.mark.parametrize("ensemble", THERMOSTATS)
@pytest.mark.parametrize("held", [False, True])
def test_the_temperature_of_what_can_move(ensemble, held, calculator, molecule, tmp_path):
    """Six atoms: with 3 N degrees of freedom taken for granted a chain would be 20% or, with two held, 50% too hot."""
    if held:
        molecule.set_constraint(FixAtoms([0, 1]))
    settings = {"ensemble": ensemble, "temperature_K": 200.0, "timestep_fs": 1.0, "steps": 2000, "interval": 500}
    health = run(calculator, molecule, tmp_path, tdamp_fs=30.0, friction_per_fs=0.05, seed=1, **settings)
    assert health["degrees_of_freedom"] == (12 if held else 15)
    assert health["temperature_mean_K"] == pytest.approx(200, rel=0.15)
    assert health["temperature_std_expected_K"] == pytest.approx(200 * np.sqrt(2 / health["degrees_of_freedom"]))
    assert 0 < health["temperature_error_K"] < 30


@pytest.mark.parametrize("ensemble", [name for name in ENSEMBLES if name not in ("nve", "langevin")])
def test_the_conserved_quantity_is_conserved(ensemble, calculator, molecule, crystal, tmp_path):
    atoms = crystal if ensemble in NPT else molecule
    settings = {"ensemble": ensemble, "temperature_K": 150.0, "tdamp_fs": 20.0, "pdamp_fs": 100.0}
    health = run(calculator, atoms, tmp_path, timestep_fs=0.25, steps=200, interval=2, pressure_GPa=1.0, **settings)
    conserved, total = column(tmp_path, "conserved_energy_eV"), column(tmp_path, "total_energy_eV")
    assert np.ptp(conserved) < 0.1 * np.ptp(total)
    slope = np.polyfit(column(tmp_path, "time_ps"), conserved, 1)[0] * 1000 / len(atoms)
    assert health["drift_meV_per_atom_per_ps"] == pytest.approx(slope, rel=0.5, abs=1.0)


def test_nve_needs_no_second_column(calculator, molecule, tmp_path):
    run(calculator, molecule, tmp_path, steps=2)
    assert "conserved_energy_eV" not in (tmp_path / "md.csv").read_text()


@pytest.mark.parametrize("ensemble", NPT)
def test_pressure_moves_the_cell(ensemble, calculator, crystal, tmp_path):
    settings = {"temperature_K": 100.0, "timestep_fs": 0.5, "steps": 250, "interval": 10, "pdamp_fs": 50.0}
    for pressure in (0.0, 100.0):
        out = tmp_path / str(pressure)
        health = run(calculator, crystal, out, ensemble=ensemble, pressure_GPa=pressure, **settings)
        frames = read(out / "trajectory.extxyz", ":")
        assert column(out, "volume_A3")[-1] == pytest.approx(frames[-1].get_volume(), rel=1e-5)
        stress = frames[-1].get_stress(voigt=False, include_ideal_gas=True)
        assert column(out, "pressure_GPa")[-1] == pytest.approx(-np.trace(stress) / 3 / units.GPa, abs=0.1)
        np.testing.assert_allclose(frames[-1].get_momenta().sum(0), 0, atol=1e-5)
        if ensemble == "npt_isotropic":
            np.testing.assert_allclose(frames[-1].cell.angles(), crystal.cell.angles(), atol=1e-5)
    volumes = [column(tmp_path / str(pressure), "volume_A3")[5:].mean() for pressure in (0.0, 100.0)]
    assert volumes[1] < 0.99 * volumes[0]
    assert health["pressure_mean_GPa"] == pytest.approx(100.0, abs=30.0)


def test_a_step_is_one_calculation(toy, molecule, crystal, monkeypatch):
    calls = []
    compute = MaceGauntCalculator._compute
    monkeypatch.setattr(MaceGauntCalculator, "_compute", lambda *args, **kw: calls.append(1) or compute(*args, **kw))
    for ensemble in ENSEMBLES:
        settings = MDSettings(ensemble=ensemble)
        atoms = moving_atoms(crystal if ensemble in NPT else molecule, settings)
        atoms.calc = MaceGauntCalculator(toy, device="cpu")
        integrator = build_integrator(atoms, settings)
        integrator.step()
        calls.clear()
        for _ in range(5):
            integrator.step()
        assert len(calls) == 5, ensemble


@pytest.mark.parametrize("ensemble", [name for name in ENSEMBLES if name not in NPT])
def test_constraints_hold(ensemble, calculator, molecule, tmp_path):
    molecule.set_constraint([FixAtoms([0]), FixCartesian(2, (True, False, False)), FixedPlane(3, (0, 0, 1))])
    run(calculator, molecule, tmp_path, ensemble=ensemble, steps=30, interval=30, timestep_fs=1.0)
    moved = read(tmp_path / "trajectory.extxyz", -1).positions - molecule.positions
    assert np.abs(moved[0]).max() < 1e-7 and abs(moved[2, 0]) < 1e-7 and abs(moved[3, 2]) < 1e-7
    assert np.abs(moved[2, 1:]).max() > 1e-3 and np.abs(moved[3, :2]).max() > 1e-3


def test_bonds_can_be_held_where_the_integrator_can(calculator, molecule, tmp_path):
    molecule.set_constraint(FixBondLengths([[0, 1]]))
    run(calculator, molecule, tmp_path / "bussi", ensemble="bussi", steps=30)
    end = read(tmp_path / "bussi" / "trajectory.extxyz", -1)
    assert end.get_distance(0, 1) == pytest.approx(molecule.get_distance(0, 1), abs=1e-6)
    with pytest.raises(UserError, match="nose_hoover_chain cannot hold FixBondLengths"):
        run(calculator, molecule, tmp_path / "chain", ensemble="nose_hoover_chain")
    assert not (tmp_path / "chain").exists()


@pytest.mark.parametrize("ensemble", NPT)
def test_what_npt_cannot_do_is_refused(ensemble, calculator, molecule, crystal, tmp_path):
    with pytest.raises(UserError, match=r'periodic in all three directions; pbc="F F F"'):
        run(calculator, molecule, tmp_path / "out", ensemble=ensemble)
    crystal.set_constraint(FixAtoms([0]))
    with pytest.raises(UserError, match=r"cannot hold constraints \(FixAtoms\).*Use langevin or bussi"):
        run(calculator, crystal, tmp_path / "out", ensemble=ensemble)
    assert not (tmp_path / "out").exists()


def test_what_has_no_temperature_is_refused(calculator, molecule, crystal, tmp_path):
    for ensemble in THERMOSTATS[1:]:
        with pytest.raises(UserError, match="needs a temperature_K above 0"):
            run(calculator, molecule, tmp_path / "out", ensemble=ensemble, temperature_K=0)
        with pytest.raises(UserError, match="nothing can move"):
            run(calculator, Atoms("C"), tmp_path / "out", ensemble=ensemble)
    molecule.set_momenta(np.zeros((6, 3)))
    with pytest.raises(UserError, match="bussi rescales velocities, and there are none"):
        run(calculator, molecule, tmp_path / "out", ensemble="bussi", velocities="keep")
    crystal.set_constraint(FixSymmetry(crystal))
    with pytest.raises(UserError, match="cannot count the degrees of freedom under FixSymmetry"):
        run(calculator, crystal, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"tdamp_fs": 0.0}, "tdamp_fs is a positive time in fs"),
        ({"pdamp_fs": -1.0}, "pdamp_fs is a positive time in fs"),
        ({"pressure_GPa": float("inf")}, "pressure_GPa is a pressure in GPa"),
        ({"trajectory": "xyz"}, "trajectory is extxyz, traj or h5, not 'xyz'"),
        ({"checkpoint_interval": 0}, "checkpoint_interval is a whole number of at least 1"),
        ({"max_force_std": 0.0}, "max_force_std is a positive force"),
        ({"max_force_std": 1.0}, "a limit for a committee"),
        ({"tempreature_K": 1.0}, "no setting 'tempreature_K'. Did you mean 'temperature_K'"),
    ],
)
def test_wrong_settings_write_nothing(setting, message, calculator, molecule, tmp_path):
    with pytest.raises(UserError, match=message):
        run(calculator, molecule, tmp_path / "out", **setting)
    assert not (tmp_path / "out").exists()


def test_damping_times_follow_the_time_step(calculator, molecule, crystal):
    assert MDSettings(timestep_fs=2.0).tdamp == pytest.approx(200 * units.fs)
    assert MDSettings(timestep_fs=2.0, pdamp_fs=500.0).pdamp == pytest.approx(500 * units.fs)
    atoms = moving_atoms(crystal, MDSettings(ensemble="npt"))
    atoms.calc = calculator
    integrator = build_integrator(atoms, MDSettings(ensemble="npt", temperature_K=300.0))
    freedom = 3 * len(crystal) - 3
    assert degrees_of_freedom(atoms) == freedom
    kT = units.kB * 300
    assert integrator._thermostat._Q[0] == pytest.approx(freedom * kT * (50 * units.fs) ** 2)
    assert pytest.approx((freedom / 3 + 1) * kT * (500 * units.fs) ** 2) == integrator._barostat.W
    assert json.dumps(MDSettings().__dict__)
