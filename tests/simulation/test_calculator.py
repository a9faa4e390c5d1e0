"""The calculator against ASE's finite differences, its drivers, and misuse."""

import random

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.calculators.calculator import PropertyNotImplementedError
from ase.calculators.fd import calculate_numerical_forces, calculate_numerical_stress
from ase.filters import FrechetCellFilter
from ase.optimize import BFGS
from ase.phonons import Phonons
from ase.vibrations import Vibrations

from mace_gaunt.errors import UserError
from mace_gaunt.simulation.calculator import MaceGauntCalculator


def rattled(atoms: Atoms, seed: int, width: float = 0.1) -> Atoms:
    atoms = atoms.copy()
    atoms.positions += np.random.default_rng(seed).normal(scale=width, size=atoms.positions.shape)
    return atoms


def test_forces_of_a_molecule_are_the_slope_of_its_energy(calculator, molecule):
    atoms = rattled(molecule, 0)
    atoms.calc = calculator
    np.testing.assert_allclose(atoms.get_forces(), calculate_numerical_forces(atoms, eps=1e-4), atol=1e-6)


def test_forces_and_stress_of_a_skewed_cell(calculator, crystal):
    atoms = rattled(crystal, 1)
    atoms.calc = calculator
    np.testing.assert_allclose(atoms.get_forces(), calculate_numerical_forces(atoms, eps=1e-4), atol=1e-6)
    numerical = calculate_numerical_stress(atoms, eps=1e-5)
    assert np.abs(numerical).max() > 1e-2
    np.testing.assert_allclose(atoms.get_stress(), numerical, atol=1e-7)


def test_results_are_plain_float64_arrays(calculator, crystal):
    crystal.calc = calculator
    crystal.get_stress()
    results = calculator.results
    assert type(results["energy"]) is float and results["free_energy"] == results["energy"]
    shapes = {name: results[name].shape for name in ("energies", "forces", "stress")}
    assert shapes == {"energies": (2,), "forces": (2, 3), "stress": (6,)}
    assert all(results[name].dtype == np.float64 for name in shapes)
    assert results["energies"].sum() == pytest.approx(results["energy"], abs=1e-9)
    assert set(results) == set(calculator.implemented_properties)


def test_stress_is_computed_only_when_asked(calculator, crystal):
    crystal.calc = calculator
    crystal.get_forces()
    assert "stress" not in calculator.results
    crystal.get_stress()
    assert "forces" in calculator.results


def test_stress_of_a_molecule_is_refused_and_its_forces_are_not(calculator, molecule):
    molecule.calc = calculator
    with pytest.raises(PropertyNotImplementedError, match='pbc="F F F"'):
        molecule.get_stress()
    assert np.isfinite(molecule.get_forces()).all()
    molecule.set_cell([5, 5, 5])
    molecule.pbc = [True, True, False]
    with pytest.raises(PropertyNotImplementedError, match='pbc="T T F"'):
        molecule.get_stress()


def test_a_lone_atom_has_its_own_energy_and_no_force(calculator):
    atoms = Atoms("C", calculator=calculator)
    assert atoms.get_potential_energy() == -1029.0
    assert np.array_equal(atoms.get_forces(), np.zeros((1, 3)))
    assert calculator.closest_distance is None


def test_closest_distance(calculator):
    atoms = Atoms("COH", positions=[[0, 0, 0], [1.3, 0, 0], [0, 0, 1.1]], calculator=calculator)
    atoms.get_potential_energy()
    assert calculator.closest_distance == pytest.approx(1.1)


def test_unknown_elements_are_named_with_the_known_ones(calculator):
    with pytest.raises(UserError, match=r"holds N, Fe, but the model knows only H, C, O"):
        Atoms("FeNC", positions=np.eye(3), calculator=calculator).get_potential_energy()


def test_impossible_structures_are_refused(calculator, molecule):
    with pytest.raises(UserError, match="no atoms"):
        Atoms(calculator=calculator).get_potential_energy()
    broken = molecule.copy()
    broken.calc = calculator
    broken.get_potential_energy()  # a list exists: the refusal must not depend on building one
    broken.positions[2, 1] = np.nan
    with pytest.raises(UserError, match="atom 2 is not finite"):
        broken.get_potential_energy()
    flat = molecule.copy()
    flat.calc, flat.pbc = calculator, True
    with pytest.raises(UserError, match="no volume"):
        flat.get_potential_energy()
    flat.set_cell([[5, 0, 0], [5, 0, 0], [0, 0, 5]])
    with pytest.raises(UserError, match="no volume"):
        flat.get_potential_energy()


def test_an_error_leaves_no_stale_results(calculator, molecule):
    molecule.calc = calculator
    energy = molecule.get_potential_energy()
    good = molecule.positions.copy()
    molecule.positions[0] = np.inf
    for _ in range(2):
        with pytest.raises(UserError):
            molecule.get_potential_energy()
    molecule.positions[:] = good
    assert molecule.get_potential_energy() == energy


def test_the_cache_sees_every_change_the_model_reads(toy, crystal):
    calculator = MaceGauntCalculator(toy, device="cpu")
    crystal.calc = calculator
    seen = [crystal.get_potential_energy()]

    def move():
        crystal.positions[0, 0] += 0.01

    def strain():
        crystal.set_cell(crystal.cell * 1.01)

    def substitute():
        crystal.numbers[0] = 8

    def open_up():
        crystal.pbc = [True, True, False]

    for change in (move, strain, substitute, open_up):
        change()
        fresh = crystal.copy()
        fresh.calc = MaceGauntCalculator(toy, device="cpu")
        assert crystal.get_potential_energy() == pytest.approx(fresh.get_potential_energy(), abs=1e-10)
        np.testing.assert_allclose(crystal.get_forces(), fresh.get_forces(), atol=1e-10)
        seen.append(crystal.get_potential_energy())
    assert len(set(seen)) == len(seen)


def test_equal_structures_are_not_computed_twice(calculator, molecule, monkeypatch):
    molecule.calc = calculator
    molecule.get_forces()
    monkeypatch.setattr(type(calculator.model), "forward", lambda *_, **__: pytest.fail("computed again"))
    molecule.get_potential_energy()
    molecule.set_initial_charges([1.0] + [0.0] * 5)  # the model does not read charges
    molecule.get_potential_energy()


def test_atoms_and_global_state_stay_as_they_are(calculator, crystal):
    crystal.info["note"] = "mine"
    crystal.positions += 7.0  # outside the cell, and to stay there
    before = crystal.copy()
    states = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate(), torch.get_default_dtype()
    crystal.calc = calculator
    crystal.get_stress()
    calculator.evaluate([crystal, before])
    assert crystal == before and crystal.info == before.info and set(crystal.arrays) == set(before.arrays)
    assert torch.equal(states[0], torch.get_rng_state()) and torch.get_default_dtype() is states[3]
    assert np.array_equal(states[1], np.random.get_state()[1]) and states[2] == random.getstate()


def test_results_belong_to_the_caller(calculator, molecule):
    molecule.calc = calculator
    forces = molecule.get_forces()
    forces[:] = 0
    assert np.abs(molecule.get_forces()).max() > 0


def test_a_batch_equals_its_members(calculator, molecule, crystal):
    slab = crystal.copy()
    slab.pbc = [True, True, False]
    structures = [rattled(molecule, 3), crystal, Atoms("H"), slab, rattled(molecule, 4), crystal.repeat((2, 1, 1))]
    for max_edges in (1, 60, 10_000):
        together = calculator.evaluate(structures, max_edges_per_batch=max_edges)
        assert len(together) == len(structures)
        for atoms, result in zip(structures, together, strict=True):
            calculator.calculate(atoms)
            assert set(result) == set(calculator.results)
            for name, value in calculator.results.items():
                np.testing.assert_allclose(result[name], value, atol=1e-10, rtol=0)


def test_a_batch_with_stress(calculator, crystal):
    structures = [rattled(crystal, seed) for seed in range(3)]
    for atoms, result in zip(structures, calculator.evaluate(structures, stress=True), strict=True):
        atoms.calc = calculator
        np.testing.assert_allclose(result["stress"], atoms.get_stress(), atol=1e-10, rtol=0)


def test_a_batch_names_the_structure_that_is_wrong(calculator, molecule):
    with pytest.raises(UserError, match="structure 1: the structure holds Fe"):
        calculator.evaluate([molecule, Atoms("Fe")])
    with pytest.raises(PropertyNotImplementedError, match="structure 0: stress"):
        calculator.evaluate([molecule], stress=True)
    with pytest.raises(ValueError, match="max_edges_per_batch"):
        calculator.evaluate([molecule], max_edges_per_batch=0)
    assert calculator.evaluate([]) == []


def relax_cell(crystal):
    BFGS(FrechetCellFilter(crystal), logfile=None).run(fmax=1e-3, steps=300)


def test_cells_relax_under_ases_filter(calculator, crystal):
    crystal.calc = calculator
    relax_cell(crystal)
    assert np.abs(crystal.get_stress()).max() < 1e-3
    assert np.abs(crystal.get_forces()).max() < 1e-3


def test_vibrations(calculator, molecule, tmp_path):
    molecule.calc = calculator
    vibrations = Vibrations(molecule, name=str(tmp_path / "vib"), delta=1e-3)
    vibrations.run()
    energies = vibrations.get_energies()
    assert np.sum(np.abs(energies) < 2e-3) == 6  # translations and rotations
    assert np.sum(energies.real > 5e-3) == 3 * len(molecule) - 6


def test_phonons(calculator, crystal, tmp_path):
    crystal.calc = calculator
    relax_cell(crystal)
    phonons = Phonons(crystal, calculator, supercell=(3, 3, 3), name=str(tmp_path / "phonon"))
    phonons.run()
    phonons.read()
    at_gamma, between = phonons.band_structure([[0, 0, 0], [0.1, 0.2, 0.3]])
    assert np.abs(at_gamma[:3]).max() < 2e-3  # acoustic
    assert between.min() > 5e-3  # stable


def test_float32_is_near_float64_and_keeps_totals_in_float64(toy, molecule):
    calculator = MaceGauntCalculator(toy, device="cpu", dtype="float32")
    assert calculator.model.dtype == torch.float32 and toy.dtype == torch.float64
    molecule.calc = calculator
    single, forces = molecule.get_potential_energy(), molecule.get_forces()
    assert forces.dtype == np.float64
    molecule.calc = MaceGauntCalculator(toy, device="cpu")
    assert molecule.get_potential_energy() == pytest.approx(single, abs=1e-5)
    np.testing.assert_allclose(forces, molecule.get_forces(), atol=1e-4)


def test_a_loaded_model_is_used_as_it_is(toy):
    assert MaceGauntCalculator(toy, device="cpu").model is toy
    with pytest.raises(UserError, match="kernel"):
        MaceGauntCalculator(toy, device="cpu", kernel="grid")


def test_wrong_arguments_are_named(toy, tmp_path):
    with pytest.raises(UserError, match="skin"):
        MaceGauntCalculator(toy, skin=-0.1)
    with pytest.raises(UserError, match="Did you mean 'float32'"):
        MaceGauntCalculator(toy, dtype="float23")
    with pytest.raises(UserError, match=r"device='nonsense'"):
        MaceGauntCalculator(toy, device="nonsense")
    with pytest.raises(UserError, match="float64"):
        MaceGauntCalculator(toy, device="mps")
    (tmp_path / "good_run").mkdir()
    with pytest.raises(UserError, match="Did you mean 'good_run'"):
        MaceGauntCalculator(tmp_path / "god_run")
    with pytest.raises(UserError, match="holds no model"):
        MaceGauntCalculator(tmp_path / "good_run")
