"""Products by the name of their family, as one uses them without a model."""

import pytest
import torch
from families import MISSING

from mace_gaunt.errors import UserError
from mace_gaunt.tensor_products import FAMILIES, edge_product, feature_product, node_product, select_kernel
from mace_gaunt.tensor_products.contracts import EdgeProduct, FeatureProduct, NodeProduct


@pytest.mark.parametrize("family", FAMILIES)
def test_all_three_operations_of_every_family(family):
    x, y = torch.randn(2, 6, 9, 4)
    product = feature_product(family, 2, 2, 2)
    assert isinstance(product, FeatureProduct) and product.family == family
    # As it is made: in the default precision, on the CPU.
    assert product(x, y).dtype == torch.float32
    assert product(x, y).shape[-2:] == (product.num_rows_out, 4)
    messages = edge_product(family, 2, 3, 3, num_channels=4)
    assert isinstance(messages, EdgeProduct) and messages.family == family
    powers = node_product(family, 2, 1, 3, 5, 4)
    assert isinstance(powers, NodeProduct) and powers.family == family
    assert powers(x, torch.arange(6) % 5).shape[-2:] == (4, 4)


def test_precision_changes_without_loss():
    x, y = torch.randn(2, 6, 9, 4, dtype=torch.float64)
    there_and_back = feature_product("gaunt", 2, 2, 2).double().float().double()
    torch.set_default_dtype(torch.float64)
    try:
        exact = feature_product("gaunt", 2, 2, 2)
    finally:
        torch.set_default_dtype(torch.float32)
    assert torch.equal(there_and_back(x, y), exact(x, y))


def test_the_measured_kernel_computes_the_same():
    x, y = torch.randn(2, 50, 9, 4, dtype=torch.float64)
    product = feature_product("gaunt", 2, 2, 4).double()
    before = product(x, y)
    choice = select_kernel(product, (x, y), training=False, cache=False)
    assert product.kernel_name == choice.kernel and len(choice.milliseconds) > 1
    torch.testing.assert_close(product(x, y), before, rtol=0, atol=1e-12)


def test_mistakes_are_named():
    with pytest.raises(UserError, match=r"'gaunts'.*gaunt"):
        feature_product("gaunts", 2, 2, 2)
    with pytest.raises(ValueError, match=r"no kernel 'fourrier'.*fourier"):
        feature_product("gaunt", 2, 2, 2, kernel="fourrier")
    with pytest.raises(ValueError, match="does not reach degree 1"):
        feature_product("gaunt", (1,), (1,), (1,))
    with pytest.raises(ValueError, match="reaches degree 6"):
        edge_product("gaunt", 2, 3, 6)


@pytest.mark.parametrize("kernel", ["cuequivariance", "fused"])
def test_kernels_that_are_left_out_of_the_tests_are_told(kernel):
    if kernel in MISSING:
        pytest.skip(MISSING[kernel])
