"""What ASE asks of a calculator: properties, cache, files, and only what is asked for."""

import copy
import pickle

import ase.db
import ase.io
import numpy as np
import pytest
import torch
from ase import Atoms
from ase.calculators.calculator import PropertyNotImplementedError, all_properties
from ase.calculators.fd import FiniteDifferenceCalculator
from ase.io.trajectory import Trajectory
from small_models import build
from small_models import crystal as small_crystal

from mace_gaunt.errors import UserError
from mace_gaunt.model.checkpoint import save_model
from mace_gaunt.simulation.calculator import MaceGauntCalculator


@pytest.fixture
def calls(calculator, monkeypatch):
    """One entry for every time the model runs: whether it was differentiated."""
    found = []
    forward = type(calculator.model).forward

    def counted(self, vectors, *args, **kwargs):
        found.append(vectors.requires_grad)
        return forward(self, vectors, *args, **kwargs)

    monkeypatch.setattr(type(calculator.model), "forward", counted)
    return found


def test_what_is_not_implemented_is_refused_and_what_is_comes(calculator, crystal):
    for name in all_properties:
        if name in calculator.implemented_properties:
            assert calculator.get_property(name, crystal) is not None
        else:
            with pytest.raises(PropertyNotImplementedError):
                calculator.get_property(name, crystal)
    with pytest.raises(PropertyNotImplementedError):
        calculator.get_property("energy_std", crystal)


def test_energies_alone_are_not_differentiated(calculator, crystal, calls):
    crystal.calc = calculator
    crystal.get_potential_energy()
    assert crystal.get_potential_energies().sum() == pytest.approx(calculator.results["free_energy"], abs=1e-9)
    assert set(calculator.results) == {"energy", "free_energy", "energies"} and calls == [False]


def test_stress_after_forces_and_forces_after_stress_run_the_model_once(calculator, crystal, calls):
    crystal.calc = calculator
    crystal.get_forces()
    stress = crystal.get_stress()
    assert calls == [True]
    crystal.positions += 0.0
    crystal.get_potential_energy()
    assert calls == [True]
    calculator.reset()
    np.testing.assert_array_equal(crystal.get_stress(), stress)
    crystal.get_forces()
    assert calls == [True, True]


def test_who_asks_for_the_energy_and_then_for_forces_gets_both_at_once_the_next_time(calculator, molecule, calls):
    """As i-PI's client and line searches do."""
    molecule.calc = calculator
    for _ in range(3):
        molecule.positions[0] += 0.01
        molecule.get_potential_energy()
        molecule.get_forces()
    assert calls == [False, True, True, True]
    Atoms("CO", positions=[[0, 0, 0], [1.2, 0, 0]], calculator=calculator).get_potential_energy()
    assert calls[-1] is False, "another system starts anew"


def test_energies_of_many_without_forces(calculator, molecule, crystal, calls):
    found = calculator.evaluate([molecule, crystal], forces=False)
    assert calls == [False] and all("forces" not in result for result in found)
    for result, full in zip(found, calculator.evaluate([molecule, crystal]), strict=True):
        assert result["energy"] == pytest.approx(full["energy"], abs=1e-10)


def test_nothing_is_computed_when_it_is_not_allowed(calculator, molecule, calls):
    assert calculator.get_property("forces", molecule, allow_calculation=False) is None
    energy = calculator.get_property("energy", molecule)
    assert calculator.get_property("energy", molecule, allow_calculation=False) == energy
    assert calculator.get_property("forces", molecule, allow_calculation=False) is None
    assert calculator.calculation_required(molecule, ["forces"]) and len(calls) == 1
    assert not calculator.calculation_required(molecule, ["energy", "energies"])


def test_without_a_structure(calculator, molecule):
    with pytest.raises(UserError, match="no structure yet"):
        calculator.get_property("energy")
    assert calculator.get_property("energy", allow_calculation=False) is None
    energy = calculator.get_property("energy", molecule)
    assert calculator.get_property("energy") == energy == calculator.get_atoms().get_potential_energy()


def test_the_smallest_change_counts(calculator, molecule, calls):
    molecule.calc = calculator
    molecule.get_forces()
    molecule.positions[0, 0] = np.nextafter(molecule.positions[0, 0], 9.0)
    assert calculator.check_state(molecule) == ["positions"]
    molecule.get_forces()
    assert len(calls) == 2
    molecule.info["note"] = "not read"
    molecule.set_tags(1)
    molecule.set_velocities(np.ones((len(molecule), 3)))
    molecule.get_forces()
    assert len(calls) == 2


def test_atoms_come_and_go(calculator, molecule, toy):
    molecule.calc = calculator
    seen = []
    for change in (lambda: None, molecule.pop, lambda: molecule.append("H")):
        change()
        molecule.positions[-1] += 0.05
        fresh = molecule.copy()
        fresh.calc = MaceGauntCalculator(toy, device="cpu")
        assert calculator.check_state(molecule)
        np.testing.assert_allclose(molecule.get_forces(), fresh.get_forces(), atol=1e-12)
        seen.append(molecule.get_potential_energy())
    assert len(set(seen)) == 3
    del molecule[:]
    with pytest.raises(UserError, match="no atoms"):
        molecule.get_potential_energy()


def test_a_failed_calculation_leaves_nothing_stale(calculator, molecule):
    calculator.calculate(molecule)
    broken = molecule.copy()
    broken.positions[0] = np.nan
    with pytest.raises(UserError, match="not finite"):
        calculator.calculate(broken)
    assert calculator.results == {}
    with pytest.raises(UserError, match="not finite"):
        calculator.get_property("stress", Atoms("CO", positions=[[np.nan] * 3, [0, 0, 1]], cell=[3] * 3, pbc=True))
    assert calculator.results == {}


def test_refused_stress_leaves_the_forces(calculator, molecule, calls):
    molecule.calc = calculator
    molecule.get_forces()
    with pytest.raises(PropertyNotImplementedError):
        molecule.get_stress()
    molecule.get_forces()
    assert len(calls) == 1


def test_detaching_and_sharing(calculator, molecule, crystal):
    molecule.calc = crystal.calc = calculator
    first = molecule.get_forces(), crystal.get_forces()
    np.testing.assert_array_equal(molecule.get_forces(), first[0])
    np.testing.assert_array_equal(crystal.get_forces(), first[1])
    molecule.calc = None
    with pytest.raises(RuntimeError, match="no calculator"):
        molecule.get_forces()


@pytest.mark.parametrize("clone", [copy.deepcopy, lambda one: pickle.loads(pickle.dumps(one))])
def test_copies_are_independent(clone):
    atoms = small_crystal()
    atoms.calc = MaceGauntCalculator(build("gaunt"), device="cpu")
    forces, stress = atoms.get_forces(), atoms.get_stress()
    twin = clone(atoms.calc)
    with torch.no_grad():
        for parameter in atoms.calc.model.parameters():
            parameter.zero_()
    np.testing.assert_allclose(twin.get_property("stress", atoms), stress)
    twin.reset()
    np.testing.assert_allclose(twin.get_property("forces", atoms), forces, atol=1e-12)


def test_old_results_survive_new_calculations(calculator, molecule):
    calculator.calculate(molecule)
    kept = calculator.results
    before = copy.deepcopy(kept)
    molecule.positions[0] += 0.1
    calculator.calculate(molecule)
    assert kept["energy"] == before["energy"] != calculator.results["energy"]
    np.testing.assert_array_equal(kept["forces"], before["forces"])
    assert all(not isinstance(value, torch.Tensor) for value in kept.values())


def test_export_properties(calculator, crystal):
    crystal.calc = calculator
    crystal.get_stress()
    found = calculator.export_properties()
    assert found["natoms"] == 2 and found["energy"] == calculator.results["energy"]
    np.testing.assert_array_equal(found["stress"], calculator.results["stress"])
    assert "forces" in calculator.calculate_properties(crystal, ["energy", "forces"])


def test_files_of_ase(calculator, crystal, tmp_path):
    crystal.calc = calculator
    expected = crystal.get_potential_energy(), crystal.get_forces(), crystal.get_stress()
    with Trajectory(tmp_path / "a.traj", "w") as trajectory:
        trajectory.write(crystal)
    ase.io.write(tmp_path / "a.extxyz", crystal)
    with ase.db.connect(tmp_path / "a.json") as database:
        database.write(crystal)
    rows = [ase.io.read(tmp_path / "a.traj"), ase.io.read(tmp_path / "a.extxyz"), database.get_atoms(1)]
    for atoms in rows:
        assert atoms.get_potential_energy() == pytest.approx(expected[0], abs=1e-7)
        np.testing.assert_allclose(atoms.get_forces(), expected[1], atol=1e-7)
        np.testing.assert_allclose(atoms.get_stress(), expected[2], atol=1e-7)
    assert rows[0].calc.name == database.get(1).calculator == "mace_gaunt"
    assert database.get(1).calculator_parameters["dtype"] == "float64"


def test_files_say_which_model(tmp_path, molecule):
    save_model(build("gaunt"), tmp_path / "model")
    calculator = MaceGauntCalculator(tmp_path / "model", device="cpu", kernel="grid")
    expected = {"model": str(tmp_path / "model"), "device": "cpu", "dtype": "float64", "head": None}
    assert calculator.todict() == expected and calculator.name == "mace_gaunt"
    with pytest.raises(UserError, match="dtype cannot be changed"):
        calculator.set(dtype="float32")


def test_under_ases_finite_difference_calculator(calculator, crystal):
    crystal.positions[0] += 0.1
    crystal.calc = FiniteDifferenceCalculator(calculator, eps_disp=1e-4, eps_strain=1e-5)
    numerical = crystal.get_forces(), crystal.get_stress()
    crystal.calc = calculator
    np.testing.assert_allclose(crystal.get_forces(), numerical[0], atol=1e-6)
    np.testing.assert_allclose(crystal.get_stress(), numerical[1], atol=1e-7)


def test_a_changed_model_is_seen_after_reset(molecule):
    model = build("gaunt")
    molecule.calc = MaceGauntCalculator(model, device="cpu")
    energy = molecule.get_potential_energy()
    with torch.no_grad():
        for parameter in model.readouts.parameters():
            parameter.mul_(2.0)
    molecule.calc.reset()
    assert molecule.get_potential_energy() != energy
