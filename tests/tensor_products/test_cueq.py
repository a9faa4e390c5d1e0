"""NVIDIA's library against our own kernels; on a CPU its plain torch, which is slow."""

import sys

import pytest
import torch

from mace_gaunt.tensor_products.clebsch_gordan import (
    ClebschGordanEdgeProduct,
    ClebschGordanFeatureProduct,
    ClebschGordanNodeProduct,
)
from mace_gaunt.tensor_products.kernels import cueq
from mace_gaunt.tensor_products.selection import call, candidates, derivatives, example_inputs


def feature_case():
    product = ClebschGordanFeatureProduct(2, 1, 2, pseudo=True).double()
    x, y = (torch.randn(4, rows, 3, dtype=torch.float64) for rows in (9, 4))
    return product, (x, y)


def edge_case(n_edges=9):
    product = ClebschGordanEdgeProduct(1, 2, 2, num_channels=3, pseudo=True).double()
    return product, example_inputs(product, 4, n_edges)


def node_case():
    product = ClebschGordanNodeProduct(2, 1, 3, 2, 3).double()
    return product, example_inputs(product, 4, 0)


@pytest.mark.parametrize("case", [feature_case, edge_case, node_case, lambda: edge_case(0)])
def test_equals_dense_with_its_derivatives(case):
    pytest.importorskip("cuequivariance_torch", reason="pip install 'mace-gaunt[cueq]'")
    product, inputs = case()
    results = []
    for kernel in ("dense", "cuequivariance"):
        product.use_kernel(kernel)
        probe = torch.ones_like(call(product, inputs).detach())
        results.append(derivatives(product, inputs, probe, True))
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(other, one, atol=1e-12, rtol=1e-12)


def test_it_is_no_candidate_on_a_cpu():
    assert "cuequivariance" not in candidates(feature_case()[0])


def test_a_missing_library_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "cuequivariance", None)
    with pytest.raises(ImportError, match=r"pip install 'mace-gaunt\[cueq\]'"):
        cueq.import_library()
    with pytest.raises(ImportError, match="cueq"):
        ClebschGordanFeatureProduct(1, 1, 1, kernel="cuequivariance")
