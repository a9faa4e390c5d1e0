"""Exact second derivatives against differences of forces."""

import numpy as np
import pytest
from ase import Atoms
from ase.vibrations import Vibrations, VibrationsData
from small_models import CHOICES, build, crystal, molecule

from mace_gaunt.errors import UserError
from mace_gaunt.simulation.calculator import MaceGauntCalculator
from mace_gaunt.tensor_products.selection import products_of


def numerical(calculator: MaceGauntCalculator, atoms: Atoms, eps: float = 1e-4) -> np.ndarray:
    """-(F(x + eps) - F(x - eps)) / 2 eps for every coordinate, shape [3n, 3n]."""
    moved = []
    for index in range(3 * len(atoms)):
        for sign in (1, -1):
            copy = atoms.copy()
            copy.positions.flat[index] += sign * eps
            moved.append(copy)
    forces = np.array([result["forces"].ravel() for result in calculator.evaluate(moved)])
    return -(forces[::2] - forces[1::2]) / (2 * eps)


@pytest.mark.parametrize("choice", CHOICES)
def test_against_differences_of_forces(choice):
    """Also for atoms that are their own neighbours, and with every family's first kernel."""
    calculator = MaceGauntCalculator(build(choice, zbl=choice == "gaunt"), device="cpu")
    for atoms in (molecule()[:5], crystal()):
        hessian = calculator.get_hessian(atoms)
        assert hessian.shape == (3 * len(atoms),) * 2 and hessian.dtype == np.float64
        np.testing.assert_allclose(hessian, numerical(calculator, atoms), atol=1e-5 * np.abs(hessian).max())
        np.testing.assert_array_equal(hessian, hessian.T)
        # Moving everything costs nothing.
        np.testing.assert_allclose(hessian.reshape(-1, len(atoms), 3).sum(axis=1), 0, atol=1e-8)


@pytest.mark.parametrize("kernel", ["grid", "fourier", "direct", "fused", "aligned"])
def test_every_kernel_gives_the_same(kernel):
    model = build("gaunt")
    expected = MaceGauntCalculator(model, device="cpu").get_hessian(molecule())
    for _, product in products_of(model):
        if kernel in product.KERNELS:
            product.use_kernel(kernel)
    assert any(product.kernel_name == kernel for _, product in products_of(model))
    np.testing.assert_allclose(MaceGauntCalculator(model, device="cpu").get_hessian(molecule()), expected, atol=1e-8)


def test_chunks_and_indices_are_parts_of_the_whole(toy, molecule):
    calculator = MaceGauntCalculator(toy, device="cpu")
    whole = calculator.get_hessian(molecule)
    for chunk in (1, 4, 18, 100):
        np.testing.assert_allclose(calculator.get_hessian(molecule, chunk=chunk), whole, atol=1e-10)
    rows = [12, 13, 14, 3, 4, 5]
    part = calculator.get_hessian(molecule, chunk=4, indices=[4, 1])
    np.testing.assert_allclose(part, whole[np.ix_(rows, rows)], atol=1e-10)
    assert calculator.get_hessian(molecule, indices=[]).shape == (0, 0)


def test_an_atom_alone(calculator):
    assert not calculator.get_hessian(Atoms("C")).any()


def test_committee_and_last_structure():
    models = [build("gaunt", seed) for seed in (0, 1)]
    atoms = molecule()
    atoms.calc = MaceGauntCalculator(models, device="cpu")
    atoms.get_potential_energy()
    alone = [MaceGauntCalculator(model, device="cpu").get_hessian(atoms) for model in models]
    np.testing.assert_allclose(atoms.calc.get_hessian(), np.mean(alone, axis=0), atol=1e-10)


def test_it_leaves_the_calculation_alone(calculator, molecule):
    molecule.calc = calculator
    forces = molecule.get_forces()
    calculator.get_hessian(molecule[:3])
    assert calculator.check_state(molecule) == []
    np.testing.assert_array_equal(calculator.results["forces"], forces)


def test_vibrations_of_ase_agree(calculator, molecule, tmp_path):
    exact = VibrationsData.from_2d(molecule, calculator.get_hessian(molecule)).get_energies()
    molecule.calc = calculator
    vibrations = Vibrations(molecule, name=str(tmp_path / "vib"), delta=1e-3)
    vibrations.run()
    found = vibrations.get_energies()
    np.testing.assert_allclose(found[6:].real, exact[6:].real, rtol=1e-3)
    assert np.abs(exact[:6]).max() < 1e-3


def test_what_is_refused(calculator, molecule):
    with pytest.raises(UserError, match="chunk"):
        calculator.get_hessian(molecule, chunk=0)
    for indices in ([0, 6], [-1], [1, 1]):
        with pytest.raises(UserError, match="indices"):
            calculator.get_hessian(molecule, indices=indices)
    with pytest.raises(UserError, match="no structure yet"):
        calculator.get_hessian()
    with pytest.raises(UserError, match="holds Fe"):
        calculator.get_hessian(Atoms("Fe"))
