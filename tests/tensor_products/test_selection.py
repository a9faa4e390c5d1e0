"""kernel=auto: agreement, choice and memory; times themselves are not tested."""

import json
import os

import pytest
import torch

from mace_gaunt.tensor_products import measurements, selection
from mace_gaunt.tensor_products.clebsch_gordan import ClebschGordanEdgeProduct, ClebschGordanNodeProduct
from mace_gaunt.tensor_products.gaunt import GauntEdgeProduct
from mace_gaunt.tensor_products.kernels.gaunt_grid import GridEdgeKernel


@pytest.fixture(autouse=True)
def empty_memory(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(measurements, "_memory", {})


def edge_product():
    return GauntEdgeProduct(1, 2, 2, num_channels=4)


@pytest.mark.parametrize("training", [False, True])
def test_the_fastest_is_chosen_and_the_function_stays(training, monkeypatch):
    product = edge_product().double()
    inputs = selection.example_inputs(product, 5, 12)
    before = selection.call(product, inputs)
    monkeypatch.setattr(
        selection, "timed_in_turns", lambda runs, device: {name: 1.0 + (name != "aligned") for name in runs}
    )
    choice = selection.select_kernel(product, inputs, training=training)
    assert (choice.kernel, product.kernel_name, product.asked_for) == ("aligned", "aligned", "auto")
    assert "aligned 1 ms" in str(choice)
    assert "measured" in str(choice)
    torch.testing.assert_close(selection.call(product, inputs), before, atol=1e-12, rtol=1e-12)


def test_a_measurement_is_kept_between_processes(monkeypatch):
    product = edge_product()
    inputs = selection.example_inputs(product, 5, 12)
    first = selection.select_kernel(product, inputs, training=False)
    assert not first.cached
    assert json.loads(measurements.cache_file().read_text()) == measurements._memory
    monkeypatch.setattr(measurements, "_memory", {})
    monkeypatch.setattr(selection, "measure", lambda *arguments: pytest.fail("measured again"))
    again = selection.select_kernel(edge_product(), inputs, training=False)
    assert again.cached
    assert again.kernel == first.kernel
    measurements.cache_file().write_text("damaged")
    monkeypatch.setattr(measurements, "_memory", {})
    assert measurements.recall("anything") is None


def test_sizes_and_passes_are_measured_apart():
    product = edge_product()
    keys = {
        selection.describe(product, selection.example_inputs(product, n, 10 * n), ["grid"], training)
        for n in (10, 100)
        for training in (False, True)
    }
    assert len(keys) == 4


def test_kernels_that_disagree_are_refused(monkeypatch):
    class Wrong(GridEdgeKernel):
        def forward(self, *inputs):
            return super().forward(*inputs) * 1.01

    monkeypatch.setattr(GauntEdgeProduct, "KERNELS", {"grid": GridEdgeKernel, "wrong": Wrong})
    product = edge_product()
    with pytest.raises(selection.KernelDisagreementError, match="'grid' and 'wrong' of family 'gaunt' differ"):
        selection.select_kernel(product, selection.example_inputs(product, 5, 12), training=True)
    assert product.kernel_name == "grid"


def test_a_kernel_that_cannot_be_built_is_no_candidate(monkeypatch):
    class Missing:
        def __init__(self, *arguments):
            raise ImportError("pip install something")

    monkeypatch.setattr(GauntEdgeProduct, "KERNELS", {"grid": GridEdgeKernel, "external": Missing})
    assert selection.candidates(edge_product()) == ["grid"]


def test_references_are_no_candidates():
    product = ClebschGordanNodeProduct(2, 1, 2, 1, 4)
    assert "e3nn" not in selection.candidates(product)


def test_scalar_features_leave_little_to_choose():
    """One kernel stands in for all but the fused one."""
    product = GauntEdgeProduct(0, 3, 3, num_channels=4)
    assert set(selection.candidates(product)) <= {"grid", "fused"}
    choice = selection.select_kernel(product, selection.example_inputs(product, 5, 12), training=True)
    assert choice.kernel in selection.candidates(product)


def test_no_random_state_is_used():
    state = torch.get_rng_state()
    product = edge_product()
    selection.select_kernel(product, selection.example_inputs(product, 5, 12), training=True)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("training", [False, True])
def test_harmonics_of_degree_0_alone(training):
    """They do not depend on the vectors, so no gradient arrives there."""
    product = ClebschGordanEdgeProduct(1, 0, 1, num_channels=4)
    choice = selection.select_kernel(product, selection.example_inputs(product, 5, 12), training=training)
    assert {"dense", "sparse"} <= set(choice.milliseconds)


@pytest.mark.parametrize("calls", [0, 1, 2, 5])
def test_a_kernel_that_does_not_fit_into_memory_is_left_out(calls, monkeypatch):
    """Whether it fails in the check, or later when it is timed."""
    done = []

    class Large(GridEdgeKernel):
        def forward(self, *inputs):
            done.append(1)
            if len(done) > calls:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
            return super().forward(*inputs)

    monkeypatch.setattr(GauntEdgeProduct, "KERNELS", {"grid": GridEdgeKernel, "large": Large})
    monkeypatch.setattr(selection, "ENOUGH_SECONDS", 0.0)
    product = edge_product()
    inputs = selection.example_inputs(product, 5, 12)
    choice = selection.select_kernel(product, inputs, training=True)
    assert (list(choice.milliseconds), product.kernel_name, len(done)) == (["grid"], "grid", calls + 1)
    # The family's first kernel is what everything else is compared with.
    monkeypatch.setattr(GauntEdgeProduct, "KERNELS", {"large": Large, "grid": GridEdgeKernel})
    with pytest.raises(torch.OutOfMemoryError):
        selection.select_kernel(edge_product(), inputs, training=True, cache=False)


def test_a_user_without_a_home_measures_anew(monkeypatch):
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    with pytest.raises(RuntimeError, match="home"):
        measurements.cache_file()
    measurements.remember("key", {"grid": 1.0})
    monkeypatch.setattr(measurements, "_memory", {})
    assert measurements.recall("key") is None


def test_an_empty_setting_is_none(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert measurements.cache_file() == tmp_path / ".cache" / "mace_gaunt" / "kernels.json"
