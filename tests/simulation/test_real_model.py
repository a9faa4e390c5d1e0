"""Calculator and dynamics with a MACE of random weights, saved and loaded."""

from functools import partial

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.calculators.fd import calculate_numerical_forces, calculate_numerical_stress

from mace_gaunt import MaceGauntCalculator
from mace_gaunt.data.atomic_data import AtomicData
from mace_gaunt.errors import UserError
from mace_gaunt.evaluation.evaluate import predict_splits
from mace_gaunt.model.checkpoint import save_model
from mace_gaunt.model.mace import MACE
from mace_gaunt.simulation.loading import open_model
from mace_gaunt.simulation.molecular_dynamics import run_md
from mace_gaunt.tensor_products.clebsch_gordan import ClebschGordanEdgeProduct, ClebschGordanNodeProduct
from mace_gaunt.tensor_products.gaunt import GauntEdgeProduct, GauntNodeProduct

FAMILIES = {
    "gaunt": (GauntEdgeProduct, GauntNodeProduct),
    "clebsch_gordan": (ClebschGordanEdgeProduct, ClebschGordanNodeProduct),
}


def build(family: str) -> MACE:
    edge_product, node_product = FAMILIES[family]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return MACE(
            r_max=3.5,
            num_channels=4,
            max_ell=2,
            max_L=1,
            correlation=3,
            radial_MLP=(8,),
            MLP_irreps="4x0e",
            edge_product=partial(edge_product),
            node_product=partial(node_product),
            atomic_numbers=[1, 6, 8],
            E0s=[-13.0, -1029.0, -2042.0],
            avg_num_neighbors=8.0,
            scale=0.5,
            shift=0.0,
        ).to(torch.float64)


@pytest.fixture(params=list(FAMILIES))
def model(request) -> MACE:
    return build(request.param)


@pytest.fixture
def run_folder(model, tmp_path):
    save_model(model, tmp_path / "run" / "model")
    return tmp_path / "run"


def test_forces_and_stress(model, crystal, molecule):
    calculator = MaceGauntCalculator(model, device="cpu")
    crystal.positions += np.random.default_rng(0).normal(scale=0.1, size=(2, 3))
    for atoms in (crystal, molecule):
        atoms.calc = calculator
        numerical = calculate_numerical_forces(atoms, eps=1e-4)
        assert np.abs(numerical).max() > 1e-3
        np.testing.assert_allclose(atoms.get_forces(), numerical, atol=1e-6)
        assert atoms.get_potential_energies().sum() == pytest.approx(atoms.get_potential_energy(), abs=1e-9)
    np.testing.assert_allclose(crystal.get_stress(), calculate_numerical_stress(crystal, eps=1e-5), atol=1e-7)


def test_a_batch_equals_its_members(model, crystal, molecule):
    calculator = MaceGauntCalculator(model, device="cpu")
    structures = [molecule, crystal, Atoms("O"), crystal.repeat((1, 2, 1))]
    for atoms, result in zip(structures, calculator.evaluate(structures), strict=True):
        calculator.calculate(atoms)
        assert result["energy"] == pytest.approx(calculator.results["energy"], abs=1e-10)
        np.testing.assert_allclose(result["forces"], calculator.results["forces"], atol=1e-10, rtol=0)


def test_evaluation_and_calculator_agree(model, crystal, molecule):
    structures = [molecule, crystal]
    frames = [AtomicData.from_atoms(atoms, model.r_max, model.atomic_numbers) for atoms in structures]
    found = predict_splits(model, {"a": frames}, progress=False)["a"]
    results = MaceGauntCalculator(model, device="cpu").evaluate(structures)
    np.testing.assert_allclose(found.energy, [result["energy"] for result in results], atol=1e-10, rtol=0)
    np.testing.assert_allclose(found.forces, np.concatenate([result["forces"] for result in results]), atol=1e-10)


def test_model_and_run_folders_are_both_opened(model, run_folder, molecule):
    molecule.calc = MaceGauntCalculator(model, device="cpu")
    energy = molecule.get_potential_energy()
    for path in (run_folder, str(run_folder / "model")):
        molecule.calc = MaceGauntCalculator(path, device="cpu")
        assert molecule.get_potential_energy() == pytest.approx(energy, abs=1e-10)
    with pytest.raises(UserError, match="kernel"):
        open_model(run_folder, device="cpu", kernel="no_such_kernel")


def test_precision_is_chosen_at_load(run_folder, molecule):
    energies = []
    for dtype in ("float32", "float64"):
        molecule.calc = MaceGauntCalculator(run_folder, device="cpu", dtype=dtype)
        assert molecule.calc.model.dtype == getattr(torch, dtype)
        energies.append(molecule.get_potential_energy())
    assert energies[0] == pytest.approx(energies[1], abs=1e-4)


def test_nve_conserves_energy(model, molecule, tmp_path):
    calculator = MaceGauntCalculator(model, device="cpu")
    health = run_md(calculator, molecule, tmp_path, temperature_K=50, timestep_fs=0.5, steps=100, progress=False)
    assert health["finished"] and health["total_energy_std_meV_per_atom"] < 0.5
