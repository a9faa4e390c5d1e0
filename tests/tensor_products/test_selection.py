"""kernel=auto: agreement, choice and memory; times themselves are not tested."""

import json

import pytest
import torch

from mace_gaunt.tensor_products import selection
from mace_gaunt.tensor_products.clebsch_gordan import ClebschGordanNodeProduct
from mace_gaunt.tensor_products.gaunt import GauntEdgeProduct
from mace_gaunt.tensor_products.kernels.gaunt_grid import GridEdgeKernel


@pytest.fixture(autouse=True)
def empty_memory(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(selection, "_memory", {})


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
    assert json.loads(selection.cache_file().read_text()) == selection._memory
    monkeypatch.setattr(selection, "_memory", {})
    monkeypatch.setattr(selection, "measure", lambda *arguments: pytest.fail("measured again"))
    again = selection.select_kernel(edge_product(), inputs, training=False)
    assert again.cached
    assert again.kernel == first.kernel
    selection.cache_file().write_text("damaged")
    monkeypatch.setattr(selection, "_memory", {})
    assert selection.recall("anything") is None


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
