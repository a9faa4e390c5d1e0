"""Calculators side by side: none disturbs another, nor what else runs in the process."""

import random
import threading

import numpy as np
import pytest
import torch
from small_models import build, crystal, molecule

from mace_gaunt.errors import UserError
from mace_gaunt.model.checkpoint import save_model
from mace_gaunt.simulation.calculator import MaceGauntCalculator


@pytest.fixture
def folder(tmp_path):
    save_model(build("gaunt"), tmp_path / "model")
    return tmp_path / "model"


def global_state():
    """What a library must not change: precision, threads, modes, random streams."""
    return {
        "dtype": torch.get_default_dtype(),
        "device": torch.get_default_device(),
        "threads": torch.get_num_threads(),
        "grad": torch.is_grad_enabled(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "precision": torch.get_float32_matmul_precision(),
        "torch": torch.get_rng_state().tolist(),
        "numpy": np.random.get_state()[1].tolist(),
        "python": random.getstate(),
        "errors": np.geterr(),
    }


def test_nothing_global_changes(folder):
    """Loading, measuring kernels, computing, everything extra."""
    before = global_state()
    calculator = MaceGauntCalculator(folder, device="cpu", dtype="float32")
    atoms = crystal()
    atoms.calc = calculator
    atoms.get_stress()
    calculator.evaluate([atoms, molecule()])
    calculator.get_hessian(atoms)
    calculator.get_descriptors(atoms)
    assert calculator.kernels and global_state() == before


@pytest.mark.parametrize("default", [torch.float16, torch.float32, torch.float64])
def test_the_default_precision_of_others_does_not_matter(folder, default):
    expected = MaceGauntCalculator(folder, device="cpu", kernel="grid").get_property("forces", molecule())
    before = torch.get_default_dtype()
    torch.set_default_dtype(default)
    try:
        calculator = MaceGauntCalculator(folder, device="cpu", kernel="grid")
        found, hessian = calculator.get_property("forces", molecule()), calculator.get_hessian(molecule(), indices=[0])
        assert calculator.model.dtype == torch.float64 and torch.get_default_dtype() is default
    finally:
        torch.set_default_dtype(before)
    np.testing.assert_allclose(found, expected, atol=1e-10)
    np.testing.assert_allclose(
        hessian, MaceGauntCalculator(folder, device="cpu").get_hessian(molecule(), indices=[0]), atol=1e-8
    )


def test_two_calculators_do_not_disturb_each_other(folder):
    double = MaceGauntCalculator(folder, device="cpu", kernel="grid")
    alone = double.get_property("forces", molecule())
    single = MaceGauntCalculator(folder, device="cpu", dtype="float32", kernel="fourier")
    first = single.get_property("forces", molecule())
    double.reset()
    np.testing.assert_array_equal(double.get_property("forces", molecule()), alone)
    single.reset()
    np.testing.assert_array_equal(single.get_property("forces", molecule()), first)
    assert (double.model.dtype, single.model.dtype) == (torch.float64, torch.float32)


def test_calculators_of_one_model_in_threads():
    model = build("gaunt")
    frames = [molecule(seed) for seed in range(12)]
    expected = MaceGauntCalculator(model, device="cpu").evaluate(frames, stress=False)
    found: dict[int, np.ndarray] = {}

    def work(start):
        calculator = MaceGauntCalculator(model, device="cpu")
        for index in range(start, len(frames), 3):
            found[index] = calculator.get_property("forces", frames[index])

    threads = [threading.Thread(target=work, args=(start,)) for start in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for index, result in enumerate(expected):
        np.testing.assert_allclose(found[index], result["forces"], atol=1e-10)


def test_gradients_of_others(folder):
    """Inside no_grad forces are there all the same, and no gradient is left at the parameters."""
    calculator = MaceGauntCalculator(folder, device="cpu", kernel="grid")
    expected = calculator.get_property("forces", molecule())
    calculator.reset()
    with torch.no_grad():
        np.testing.assert_array_equal(calculator.get_property("forces", molecule()), expected)
        hessian = calculator.get_hessian(molecule(), indices=[0])
    assert np.abs(hessian).max() > 0.1
    assert all(parameter.grad is None for parameter in calculator.model.parameters())


def test_heads_of_one_model_side_by_side():
    numbers = {
        "E0s": [[-13.6, -1029.5, -2041.9], [-13.0, -1030.0, -2042.0]],
        "scale": [0.9, 1.1],
        "shift": [-4.8, -5.0],
    }
    model = build("gaunt", heads=["a", "b"], **numbers)
    with pytest.raises(UserError, match="heads a, b: choose one"):
        MaceGauntCalculator(model, device="cpu")
    first, second = (MaceGauntCalculator(model, device="cpu", head=head) for head in ("a", "b"))
    energies = [one.get_property("energy", molecule()) for one in (first, second)]
    first.reset()
    assert first.get_property("energy", molecule()) == energies[0] != energies[1]
    assert model.head is None and [one.todict()["head"] for one in (first, second)] == ["a", "b"]
