"""Relaxations: minima, cells, constraints, and structures that do not converge."""

import csv
import json
import math

import ase.io
import numpy as np
import pytest
from ase import Atoms, units
from ase.constraints import FixAtoms

from mace_gaunt.errors import UserError
from mace_gaunt.simulation.calculator import MaceGauntCalculator
from mace_gaunt.simulation.relaxation import OPTIMIZERS, RelaxationError, relax_structures


def relax(calculator, structures, out, **settings):
    return relax_structures(calculator, structures, out, progress=False, **settings)


@pytest.fixture
def bent(molecule):
    atoms = molecule.copy()
    atoms.positions += np.random.default_rng(1).normal(scale=0.05, size=atoms.positions.shape)
    return atoms


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_molecule_finds_its_minimum(optimizer, calculator, molecule, bent, tmp_path):
    before = bent.copy()
    entry = relax(calculator, [bent], tmp_path, optimizer=optimizer, fmax=1e-3)[0]
    assert bent == before and bent.calc is None
    molecule.calc = calculator
    assert entry["converged"] and entry["max_force_eV_A"] < 1e-3 and entry["volume_A3"] is None
    assert entry["energy_eV"] == pytest.approx(molecule.get_potential_energy(), abs=1e-4)
    assert entry["energy_eV"] < entry["energy_start_eV"] - 0.01
    end = ase.io.read(tmp_path / "relaxed.extxyz")
    assert end.get_potential_energy() == pytest.approx(entry["energy_eV"], abs=1e-6)
    np.testing.assert_allclose(end.get_all_distances(), molecule.get_all_distances(), atol=0.01)


def test_every_step_is_kept(calculator, bent, tmp_path):
    entry = relax(calculator, [bent, bent], tmp_path, optimizer="BFGS")[1]
    with (tmp_path / "relax.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["frame"] == "1"]
    assert [int(row["step"]) for row in rows] == list(range(entry["steps"] + 1))
    frames = ase.io.read(tmp_path / "trajectory.extxyz", ":")
    assert [frame.info["frame"] for frame in frames] == [0] * len(rows) + [1] * len(rows)
    assert float(rows[-1]["energy_eV"]) == entry["energy_eV"] < float(rows[0]["energy_eV"])
    summary = json.loads((tmp_path / "relax.json").read_text())
    assert summary["optimizer"] == "BFGS" and len(summary["structures"]) == 2


def test_a_cell_relaxes_to_the_pressure(calculator, crystal, tmp_path):
    for cell, pressure in (("full", 0.0), ("full", 20.0), ("isotropic", 20.0)):
        out = tmp_path / f"{cell}{pressure}"
        settings = {"optimizer": "BFGS", "fmax": 1e-3, "cell": cell, "pressure_GPa": pressure}
        relax(calculator, [crystal], out, **settings)
        end = ase.io.read(out / "relaxed.extxyz")
        stress = end.get_stress(voigt=False) / units.GPa
        assert -np.trace(stress) / 3 == pytest.approx(pressure, abs=0.3)
        if cell == "full":
            np.testing.assert_allclose(stress, -pressure * np.eye(3), atol=0.3)
        else:
            np.testing.assert_allclose(end.cell.angles(), crystal.cell.angles(), atol=1e-6)


def test_a_cell_keeps_its_volume(calculator, crystal, tmp_path):
    entry = relax(calculator, [crystal], tmp_path, optimizer="BFGS", cell="constant_volume", fmax=0.01)[0]
    end = ase.io.read(tmp_path / "relaxed.extxyz")
    assert entry["volume_A3"] == pytest.approx(crystal.get_volume(), rel=1e-6)
    assert np.abs(end.cell.angles() - crystal.cell.angles()).max() > 0.1


def test_constraints_are_kept_to(calculator, bent, tmp_path):
    bent.set_constraint(FixAtoms([0, 3]))
    relax(calculator, [bent], tmp_path)
    end = ase.io.read(tmp_path / "relaxed.extxyz")
    np.testing.assert_allclose(end.positions[[0, 3]], bent.positions[[0, 3]], atol=1e-8)
    assert np.abs(end.positions - bent.positions).max() > 0.01


def test_what_does_not_converge_is_told_and_written(calculator, molecule, bent, tmp_path):
    with pytest.raises(RelaxationError, match=r"1 of 2 structures did not converge in 2 steps \(frames 1;"):
        relax(calculator, [molecule, bent], tmp_path, steps=2, fmax=0.01)
    assert len(ase.io.read(tmp_path / "relaxed.extxyz", ":")) == 2
    entries = json.loads((tmp_path / "relax.json").read_text())["structures"]
    assert [entry["converged"] for entry in entries] == [True, False]


def break_at(monkeypatch, atoms, calculations, error):
    """From the given calculation of this many atoms on, the error is raised."""
    compute, done = MaceGauntCalculator._compute, []

    def counted(self, one, forces):
        done.extend([one] * (len(one) == atoms))
        if len(one) == atoms and len(done) >= calculations:
            raise error
        return compute(self, one, forces)

    monkeypatch.setattr(MaceGauntCalculator, "_compute", counted)


@pytest.mark.parametrize(
    ("error", "calculations"),
    [
        (UserError("the cell has no volume."), 3),
        (np.linalg.LinAlgError("Singular matrix"), 2),
        (RuntimeError("LineSearch failed!"), 1),
    ],
)
def test_a_failure_costs_one_structure(error, calculations, calculator, bent, molecule, tmp_path, monkeypatch):
    break_at(monkeypatch, 5, calculations, error)
    with pytest.raises(RelaxationError, match=r"1 of 3 structures failed.* \(frame 1: [^.]*\)\. See"):
        relax(calculator, [bent, bent[:5], molecule], tmp_path)
    entries = json.loads((tmp_path / "relax.json").read_text())["structures"]
    assert [entry["converged"] for entry in entries] == [True, False, True]
    assert entries[1]["failure"] == str(error).rstrip(".") and entries[1]["steps"] == max(0, calculations - 2)
    assert (entries[1]["energy_eV"] is None) == (calculations == 1)
    ends = ase.io.read(tmp_path / "relaxed.extxyz", ":")
    assert [len(end) for end in ends] == [6, 5, 6] and [end.info["frame"] for end in ends] == [0, 1, 2]
    if calculations == 1:
        assert ends[1].calc is None
        np.testing.assert_allclose(ends[1].positions, bent[:5].positions, atol=1e-8)
    else:
        assert ends[1].get_potential_energy() == pytest.approx(entries[1]["energy_eV"], abs=1e-6)


def test_an_energy_that_is_no_number_is_a_failure(calculator, bent, tmp_path, monkeypatch):
    compute, calls = MaceGauntCalculator._compute, []

    def counted(self, atoms, forces):
        calls.append(atoms)
        answer = compute(self, atoms, forces)
        if len(calls) > 3:
            self.results["energy"] = math.nan
        return answer

    monkeypatch.setattr(MaceGauntCalculator, "_compute", counted)
    with pytest.raises(RelaxationError, match=r"failed.*frame 0: energy, forces or stress are not finite\)"):
        relax(calculator, [bent], tmp_path)
    (entry,) = json.loads((tmp_path / "relax.json").read_text())["structures"]
    assert entry["steps"] == 2 and math.isfinite(entry["energy_eV"])
    assert math.isfinite(ase.io.read(tmp_path / "relaxed.extxyz").get_potential_energy())


def test_a_kill_costs_one_structure(calculator, bent, tmp_path, monkeypatch):
    relax(calculator, [bent], tmp_path)
    assert (tmp_path / "relax.json").is_file()
    break_at(monkeypatch, 5, 3, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        relax(calculator, [bent, bent, bent[:5]], tmp_path, overwrite=True)
    assert len(ase.io.read(tmp_path / "relaxed.extxyz", ":")) == 2
    assert not (tmp_path / "relax.json").exists(), "it is that of another run"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"optimizer": "BFGSS"}, "Did you mean 'BFGS'"),
        ({"cell": "ful"}, "Did you mean 'full'"),
        ({"fmax": 0.0}, "fmax is a positive force in eV/Å"),
        ({"steps": 0}, "steps is a whole number of at least 1"),
        ({"pressure_GPa": 1.0}, "no effect with cell=fixed"),
        ({"cell": "full"}, r'cell=full cannot be relaxed: .*pbc="F F F"'),
    ],
)
def test_mistakes_write_nothing(settings, message, calculator, molecule, tmp_path):
    with pytest.raises(UserError, match=message):
        relax(calculator, [molecule], tmp_path / "out", **settings)
    with pytest.raises(UserError, match="holds Fe"):
        relax(calculator, [molecule, Atoms("Fe")], tmp_path / "out")
    with pytest.raises(UserError, match="structure 1: atoms 0 and 1 are at the same place"):
        relax(calculator, [molecule, Atoms("CC")], tmp_path / "out")
    assert not (tmp_path / "out").exists()
