"""The Gaunt family: features are signals on the sphere and multiply pointwise.

Source: Luo, Chen, Krishnapriyan, "Enabling Efficient Equivariant Operations in the Fourier Basis via Gaunt Tensor
Products", ICLR 2024. Couplings with l1 + l2 + l3 odd do not exist; for features of natural parity, parity forbids
those anyway. The weights factor: w(l1) and w(l3) lie in the Linears around the product, w(l2) are the edge weights.
"""

import math
from typing import ClassVar

import torch
from torch import Tensor, nn

from mace_gaunt.so3.coefficients import gaunt_amplitude
from mace_gaunt.so3.quadrature import analysis_matrix, smallest_rule, synthesis_matrix
from mace_gaunt.tensor_products.contracts import EdgeProduct, NodeProduct
from mace_gaunt.tensor_products.kernels.gaunt_grid import GridEdgeKernel, GridNodeKernel
from mace_gaunt.tensor_products.kernels.scalar_input import ScalarInputKernel


def edge_normalizers(l_in: int, l_edge: int, l_out: int) -> list[float]:
    """Factor of each output degree that gives unit variance for unit-variance features, harmonics and weights.

    A component of degree l has variance sum over (l1, l2) of kappa^2 / (2l+1), with kappa the amplitude of
    `gaunt_amplitude`.

    Returns:
        Factors, length l_out + 1.
    """
    factors = []
    for l3 in range(l_out + 1):
        variance = sum(
            gaunt_amplitude(l1, l2, l3) ** 2 / (2 * l3 + 1) for l1 in range(l_in + 1) for l2 in range(l_edge + 1)
        )
        factors.append(1.0 / math.sqrt(variance))
    return factors


def power_normalizers(l_in: int, l_out: int, correlation: int) -> Tensor:
    """Factor of each order and output degree that gives unit variance for independent normal features.

    The signal is a Gaussian field with covariance rho(p, q) = sum over lm of Y_lm(p) Y_lm(q); the covariance of its
    powers follows from Wick's theorem and is analysed on the product grid.

    Returns:
        Shape [correlation, l_out + 1], float64.
    """
    rule = smallest_rule(correlation * l_in + l_out)
    synthesis = synthesis_matrix(rule, l_in)
    analysis = analysis_matrix(rule, l_out)
    rho = synthesis @ synthesis.T
    variance = rho[0, 0]
    factors = torch.zeros(correlation, l_out + 1, dtype=torch.float64)
    for order in range(1, correlation + 1):
        component_variances = torch.einsum("kp,pq,kq->k", analysis, power_covariance(rho, variance, order), analysis)
        for degree in range(l_out + 1):
            value = component_variances[degree**2 : (degree + 1) ** 2].mean()
            factors[order - 1, degree] = value.rsqrt() if value > 1e-12 else 0.0
    return factors


def power_covariance(rho: Tensor, variance: Tensor, order: int) -> Tensor:
    """E[f(p)^n f(q)^n] of a Gaussian field: sum over k of C(n,k)^2 k! ((n-k-1)!! variance^((n-k)/2))^2 rho^k."""
    total = torch.zeros_like(rho)
    for k in range(order % 2, order + 1, 2):
        single = math.prod(range(1, order - k, 2)) * variance ** ((order - k) // 2)
        total = total + math.comb(order, k) ** 2 * math.factorial(k) * single**2 * rho**k
    return total


class GauntEdgeProduct(EdgeProduct):
    """Edge product of the Gaunt family: one copy of each degree, one weight per harmonic degree and channel."""

    family = "gaunt"
    KERNELS: ClassVar = {"grid": GridEdgeKernel}

    def __init__(self, l_in: int, l_edge: int, l_out: int, kernel: str = "auto") -> None:
        super().__init__(l_in, l_edge, l_out, kernel)
        self.num_paths_out = (1,) * (l_out + 1)
        self.weight_numel = l_edge + 1
        if l_in == 0:
            self.kernel = ScalarInputKernel(l_edge, l_out)
        else:
            normalizers = edge_normalizers(l_in, l_edge, l_out)
            self.kernel = self.KERNELS[self.kernel_name](l_in, l_edge, l_out, normalizers)


class GauntNodeProduct(NodeProduct):
    """Node product of the Gaunt family: powers of one signal, one weight per element, order, degree and channel."""

    family = "gaunt"
    KERNELS: ClassVar = {"grid": GridNodeKernel}

    def __init__(
        self, l_in: int, l_out: int, correlation: int, num_elements: int, num_channels: int, kernel: str = "auto"
    ) -> None:
        super().__init__(l_in, l_out, correlation, num_elements, num_channels, kernel)
        normalizers = power_normalizers(l_in, l_out, correlation) / math.sqrt(correlation)
        self.kernel = self.KERNELS[self.kernel_name](l_in, l_out, correlation, normalizers)
        self.weight = nn.Parameter(torch.randn(num_elements, correlation, l_out + 1, num_channels))
        self.degree_sizes = [2 * degree + 1 for degree in range(l_out + 1)]

    def forward(self, node_feats: Tensor, node_types: Tensor) -> Tensor:
        orders = self.kernel(node_feats)
        weights = self.weight[node_types].transpose(0, 1)
        blocks = orders.split(self.degree_sizes, dim=2)
        return torch.cat([(block * weights[:, :, l, None]).sum(0) for l, block in enumerate(blocks)], dim=1)
