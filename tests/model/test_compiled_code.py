"""Machine code against the eager model: every family, kernel and precision, on a CPU and on a GPU."""

import ase.build
import pytest
import torch
from compiled_cases import DEVICES, KERNELS, assert_agree, batch_of, tiny
from families import EDGE, NODE
from small_models import crystal, molecule
from torch._dynamo.utils import counters
from torch._inductor.utils import clear_caches

from mace_gaunt.model.code_cache import VARIABLE
from mace_gaunt.model.compiled import CompiledGradient, compile_inference
from mace_gaunt.model.gradients import predict
from mace_gaunt.model.kernels import use_kernels_for_compiling

ON_CPU_ONLY = {
    kernel
    for product, kernel in EDGE + NODE
    if "cuda" not in getattr(product.KERNELS[kernel], "devices", ("cpu", "cuda"))
}

FIRST = {family: kernel for family, kernel in reversed(KERNELS)}
IN_SINGLE = [case for case in KERNELS if case[1] in ("fused", FIRST[case[0]])]


@pytest.fixture(autouse=True)
def fresh_compiler():
    yield
    torch._dynamo.reset()


def compiled_agrees(family, kernel, dtype, device, **changes):
    if device == "cuda" and kernel in ON_CPU_ONLY:
        pytest.skip(f"kernel '{kernel}' runs on CPUs")
    model = tiny(family, kernel, dtype, device, max_ell=1, **changes)
    if kernel == "e3nn":
        predict(model, batch_of(model, molecule()), training=True)
    assert_agree(model, CompiledGradient(model))


@pytest.mark.slow
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("family", "kernel"), KERNELS)
def test_compiled_equals_eager(family, kernel, device):
    compiled_agrees(family, kernel, torch.float64, device, zbl=True)


@pytest.mark.slow
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("family", "kernel"), IN_SINGLE)
def test_compiled_equals_eager_in_single_precision(family, kernel, device):
    compiled_agrees(family, kernel, torch.float32, device)


@pytest.mark.slow
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("gate", ["tanh", "sigmoid", "gelu"])
def test_compiled_equals_eager_for_every_gate(gate, device):
    compiled_agrees("gaunt", "grid", torch.float64, device, gate=gate)


@pytest.mark.slow
@pytest.mark.parametrize("device", DEVICES)
def test_compiled_inference_equals_eager(device):
    model = tiny("clebsch_gordan", "sparse", device=device, max_ell=1, zbl=True)
    gradient = compile_inference(model, batch_of(model, molecule()))
    for frames in ([molecule(2)], [crystal(), molecule()], [molecule()[:1]]):
        batch = batch_of(model, *frames)
        found, expected = (predict(model, batch, stress=True, gradient=one) for one in (gradient, None))
        for name in ("energy", "forces", "stress"):
            torch.testing.assert_close(found[name], expected[name], rtol=1e-10, atol=1e-9, equal_nan=True)


@pytest.mark.slow
@pytest.mark.parametrize("family", ["gaunt", "clebsch_gordan", "gaunt_mix"])
def test_models_of_one_element_are_compiled_with_vectors(family):
    """torch 2.13 fails to add gradients into tables of one row with vector instructions (`rows_of`)."""
    settings = {"atomic_numbers": [29], "E0s": [-3.5], "num_channels": 32, "max_ell": 1, "scale": 0.01}
    model = tiny(family, None, torch.float32, **settings)
    use_kernels_for_compiling(model, "cpu")
    copper = ase.build.bulk("Cu", cubic=True) * (2, 1, 1)
    copper.rattle(0.1, seed=0)
    batch = batch_of(model, copper)
    assert_agree(model, CompiledGradient(model), [batch])
    found, expected = (predict(model, batch, gradient=one)["forces"] for one in (compile_inference(model, batch), None))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4 * float(expected.abs().max()))


@pytest.mark.slow
@pytest.mark.parametrize("kernel", ["fused", "grid"])
def test_a_second_start_finds_the_code(kernel, monkeypatch, tmp_path):
    """Also with other weights; not with other settings."""
    monkeypatch.setenv(VARIABLE, "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    def hits_and_misses(**changes):
        torch._dynamo.reset()
        clear_caches()
        counters.clear()
        model = tiny("gaunt", kernel, max_ell=1, **changes)
        assert_agree(model, CompiledGradient(model))
        found = counters["aot_autograd"]
        return found["autograd_cache_hit"], found["autograd_cache_miss"]

    assert hits_and_misses() == (0, 1)
    assert list((tmp_path / "mace_gaunt" / "inductor").rglob("*.so"))
    assert hits_and_misses(seed=1) == (1, 0)
    assert hits_and_misses(scale=2.0) == (0, 1)
    clear_caches()
