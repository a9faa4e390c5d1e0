"""Committees: means, standard deviations, limits."""

import numpy as np
import pytest
from ase import Atoms, units
from ase.calculators.calculator import PropertyNotImplementedError
from ase.calculators.fd import calculate_numerical_forces, calculate_numerical_stress
from ase.io.trajectory import Trajectory
from ase.md.verlet import VelocityVerlet
from ase.optimize import BFGS
from small_models import build, crystal, molecule

from mace_gaunt.errors import UserError
from mace_gaunt.model.checkpoint import save_model
from mace_gaunt.simulation.calculator import MaceGauntCalculator
from mace_gaunt.simulation.committee import UncertaintyError


@pytest.fixture(scope="module")
def members():
    """Of different families, weights and cutoffs."""
    settings = [("gaunt", 0, 4.0), ("gaunt", 1, 3.0), ("clebsch_gordan", 2, 3.5)]
    return [build(choice, seed, r_max=r_max) for choice, seed, r_max in settings]


@pytest.fixture
def committee(members):
    return MaceGauntCalculator(members, device="cpu")


def single(members, atoms):
    """Results of every member alone."""
    found = []
    for model in members:
        calculator = MaceGauntCalculator(model, device="cpu")
        calculator.calculate(atoms, ["stress"] if atoms.pbc.all() else ["forces"])
        found.append(calculator.results)
    return found


@pytest.mark.parametrize("structure", [molecule, crystal])
def test_mean_and_standard_deviation(members, committee, structure):
    atoms = structure()
    alone = single(members, atoms)
    committee.calculate(atoms, ["stress"] if atoms.pbc.all() else ["forces"])
    results = committee.results
    names = [name for name in alone[0] if name != "free_energy"]
    assert set(results) == set(alone[0]) | {f"{name}_std" for name in names}
    for name in names:
        values = np.array([result[name] for result in alone])
        np.testing.assert_allclose(results[name], values.mean(axis=0), atol=1e-10)
        np.testing.assert_allclose(results[f"{name}_std"], values.std(axis=0, ddof=0), atol=1e-10)
        assert np.shape(results[f"{name}_std"]) == np.shape(results[name]) and np.max(results[f"{name}_std"]) > 1e-3
    assert results["free_energy"] == results["energy"] == pytest.approx(results["energies"].sum(), abs=1e-9)
    assert type(results["energy_std"]) is float and committee.models == members


def test_the_mean_forces_are_the_slope_of_the_mean_energy(committee):
    atoms = crystal()
    atoms.calc = committee
    np.testing.assert_allclose(atoms.get_forces(), calculate_numerical_forces(atoms, eps=1e-4), atol=1e-6)
    np.testing.assert_allclose(atoms.get_stress(), calculate_numerical_stress(atoms, eps=1e-5), atol=1e-7)


def test_spreads_come_through_get_property_and_only_when_asked(members, committee):
    atoms = crystal()
    assert committee.get_property("energy_std", atoms) > 0 and "forces" not in committee.results
    assert committee.get_property("forces_std", atoms).shape == (6, 3) and "stress_std" not in committee.results
    assert committee.get_property("stress_std", atoms).shape == (6,)
    with pytest.raises(PropertyNotImplementedError):
        MaceGauntCalculator(members[0], device="cpu").get_property("energy_std", atoms)
    with pytest.raises(PropertyNotImplementedError, match="periodic"):
        committee.get_property("stress_std", molecule())


def test_many_structures(committee):
    frames = [molecule(), crystal(), Atoms("H"), molecule(3)]
    for atoms, result in zip(frames, committee.evaluate(frames, max_edges_per_batch=100), strict=True):
        committee.calculate(atoms)
        assert set(result) == set(committee.results)
        for name, value in committee.results.items():
            np.testing.assert_allclose(result[name], value, atol=1e-10, rtol=0)
    assert committee.evaluate([Atoms("O")])[0]["energy_std"] == 0.0
    assert "forces_std" not in committee.evaluate(frames, forces=False)[0]


def test_twins_agree(members):
    twins = MaceGauntCalculator([members[0], members[0]], device="cpu", max_force_std=1e-9)
    twins.calculate(molecule())
    assert twins.results["energy_std"] == 0.0 and not twins.results["forces_std"].any()


def test_a_limit_ends_dynamics_and_leaves_the_results_in_the_error(members):
    atoms = molecule()
    free = MaceGauntCalculator(members, device="cpu")
    free.calculate(atoms)
    worst = np.linalg.norm(free.results["forces_std"], axis=1).max()
    atoms.calc = MaceGauntCalculator(members, device="cpu", max_force_std=1.001 * worst)
    atoms.get_forces()
    atoms.calc = MaceGauntCalculator(members, device="cpu", max_force_std=0.999 * worst)
    atoms.get_potential_energy()  # forces are not computed for it
    for _ in range(2):
        with pytest.raises(
            UncertaintyError, match=r"the force on atom \d+ \([CHO]\) .* more than max_force_std="
        ) as error:
            VelocityVerlet(atoms, units.fs).run(5)
    np.testing.assert_allclose(error.value.results["forces_std"], free.results["forces_std"], atol=1e-10)
    with pytest.raises(UncertaintyError):
        BFGS(atoms, logfile=None).run(steps=3)
    assert len(atoms.calc.evaluate([atoms])) == 1


def test_files_of_ase(committee, tmp_path):
    atoms = molecule()
    atoms.calc = committee
    atoms.get_forces()
    with Trajectory(tmp_path / "a.traj", "w") as trajectory:
        trajectory.write(atoms)
    assert "energy_std" not in committee.export_properties()
    with Trajectory(tmp_path / "a.traj") as trajectory:
        np.testing.assert_allclose(trajectory[0].get_forces(), atoms.get_forces())


def test_folders_kernels_and_names(members, tmp_path):
    folders = []
    for index, model in enumerate(members[:2]):
        save_model(model, tmp_path / f"run{index}" / "model")
        folders.append(str(tmp_path / f"run{index}"))
    calculator = MaceGauntCalculator(folders, device="cpu")
    expected = MaceGauntCalculator(members[:2], device="cpu").get_property("energy_std", molecule())
    assert calculator.get_property("energy_std", molecule()) == pytest.approx(expected, abs=1e-10)
    assert {name.split(".")[0] for name in calculator.kernels} == {"0", "1"}
    assert calculator.todict()["model"] == folders


def test_what_is_refused(members, tmp_path):
    with pytest.raises(UserError, match="two models or more, not 1"):
        MaceGauntCalculator(members[:1])
    with pytest.raises(UserError, match="two models or more, not 0"):
        MaceGauntCalculator([])
    other = build("gaunt", atomic_numbers=[1, 6], E0s=[-13.6, -1029.5])
    with pytest.raises(UserError, match="model 0 knows H, C, O, model 1 H, C"):
        MaceGauntCalculator([members[0], other])
    with pytest.raises(UserError, match="max_force_std"):
        MaceGauntCalculator(members[0], max_force_std=0.1)
    with pytest.raises(UserError, match="max_force_std"):
        MaceGauntCalculator(members, max_force_std=0.0)
    with pytest.raises(UserError, match="package"):
        MaceGauntCalculator(members, package=tmp_path / "a.pt2")
