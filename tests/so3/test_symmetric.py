"""The symmetric coupling space: its dimensions, its equivariance, its orthonormality."""

import numpy as np
import torch

from mace_gaunt.so3.layout import degree_slice
from mace_gaunt.so3.symmetric import gaussian_metric, symmetric_bases


def test_dimensions_are_those_of_the_literature():
    bases = symmetric_bases(3, 2, 3)
    assert [[len(block) for block in basis.coefficients] for basis in bases] == [[1, 1, 1], [4, 3, 5], [8, 12, 14]]


def test_basis_is_orthonormal_for_normal_components():
    basis = symmetric_bases(2, 1, 3)[2]
    metric = gaussian_metric(basis.monomials, 9)
    for degree, block in enumerate(basis.coefficients):
        gram = np.einsum("kmt,ts,jms->kj", block, metric.toarray(), block) / (2 * degree + 1)
        np.testing.assert_allclose(gram, np.eye(len(block)), atol=1e-10)


def test_gaunt_powers_lie_in_the_space():
    """The analysed square and cube of a signal are combinations of the basis, residual below 1e-10."""
    from mace_gaunt.tensor_products.gaunt import GauntNodeProduct

    product = GauntNodeProduct(l_in=3, l_out=2, correlation=3, num_elements=1, num_channels=1).double()
    rng = np.random.default_rng(0)
    feats = rng.normal(size=(900, 16))
    powers = product.kernel.orders(torch.from_numpy(feats)[..., None])[..., 0].numpy()
    for basis in symmetric_bases(3, 2, 3)[1:]:
        monomials = feats[:, basis.monomials].prod(axis=-1)
        for degree, block in enumerate(basis.coefficients):
            values = np.einsum("kmt,nt->nmk", block, monomials).reshape(-1, len(block))
            target = powers[basis.order - 1][:, degree_slice(degree)].reshape(-1)
            solution, *_ = np.linalg.lstsq(values, target, rcond=None)
            assert np.abs(values @ solution - target).max() < 1e-10
