"""The Gaunt family: features are signals on the sphere and multiply pointwise.

Source: Luo, Chen, Krishnapriyan, "Enabling Efficient Equivariant Operations in the Fourier Basis via Gaunt Tensor
Products", ICLR 2024. Couplings with l1 + l2 + l3 odd do not exist; for features of natural parity, parity forbids
those anyway. The weights factor: w(l1) and w(l3) lie in the Linears around the product, w(l2) are the edge weights.
"""

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from mace_gaunt.so3.coefficients import gaunt_amplitude
from mace_gaunt.so3.layout import Degrees
from mace_gaunt.so3.quadrature import analysis_matrix, smallest_rule, synthesis_matrix
from mace_gaunt.so3.scatter import rows_of
from mace_gaunt.tensor_products.contracts import (
    EdgeProduct,
    FeatureProduct,
    NodeProduct,
    check_reached,
    count_paths,
    coupled_paths,
)
from mace_gaunt.tensor_products.kernels.aligned import AlignedGauntEdgeKernel
from mace_gaunt.tensor_products.kernels.fused import FusedGauntEdgeKernel, FusedGauntNodeKernel, FusedScalarEdgeKernel
from mace_gaunt.tensor_products.kernels.gaunt_direct import DirectEdgeKernel, DirectFeatureKernel, DirectNodeKernel
from mace_gaunt.tensor_products.kernels.gaunt_fourier import (
    FourierEdgeKernel,
    FourierFeatureKernel,
    FourierNodeKernel,
)
from mace_gaunt.tensor_products.kernels.gaunt_grid import GridEdgeKernel, GridFeatureKernel, GridNodeKernel
from mace_gaunt.tensor_products.kernels.scalar_input import ScalarInputKernel

NO_ODD_PATH = (
    "its couplings have an even l1 + l2 + l3, and no such triangle of the given degrees ends there; "
    "families 'vector_gaunt', 'matrix' and 'clebsch_gordan' have odd ones"
)


def normalizers(degrees_x: Sequence[int], degrees_y: Sequence[int], degrees_out: Sequence[int]) -> list[float]:
    """Factor of each output degree that gives unit variance for unit-variance inputs (and weights).

    A component of degree l has variance sum over (l1, l2) of kappa^2 / (2l+1), with kappa the amplitude of
    `gaunt_amplitude`.

    Returns:
        Factors, one per output degree.
    """
    factors = []
    for l3 in degrees_out:
        amplitudes = [gaunt_amplitude(l1, l2, l3) for l1 in degrees_x for l2 in degrees_y]
        variance = sum(amplitude**2 for amplitude in amplitudes) / (2 * l3 + 1)
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


class GauntFeatureProduct(FeatureProduct):
    """Feature product of the Gaunt family: one copy of each degree.

    Args:
        degrees_x: Degrees of the first feature: a largest degree, or ascending degrees.
        degrees_y: Degrees of the second.
        degrees_out: Degrees of the result.
        kernel: How it is computed.

    Raises:
        ValueError: If a degree is out of reach, or there is no such kernel.
    """

    family = "gaunt"
    KERNELS: ClassVar = {"grid": GridFeatureKernel, "fourier": FourierFeatureKernel, "direct": DirectFeatureKernel}

    def __init__(self, degrees_x: Degrees, degrees_y: Degrees, degrees_out: Degrees, kernel: str = "auto") -> None:
        super().__init__(degrees_x, degrees_y, degrees_out)
        paths = coupled_paths(self.degrees_x, self.degrees_y, self.degrees_out)
        check_reached(self.family, count_paths(paths, self.degrees_out), self.degrees_out, NO_ODD_PATH)
        self.num_paths_out = (1,) * len(self.degrees_out)
        self.choose_kernel(kernel)

    def build_kernel(self, name: str) -> Any:
        degrees = self.degrees_x, self.degrees_y, self.degrees_out
        return self.KERNELS[name](*degrees, normalizers(*degrees))


class GauntEdgeProduct(EdgeProduct):
    """Edge product of the Gaunt family: one copy of each degree, one weight per harmonic degree and channel."""

    family = "gaunt"
    KERNELS: ClassVar = {
        "grid": GridEdgeKernel,
        "fourier": FourierEdgeKernel,
        "aligned": AlignedGauntEdgeKernel,
        "direct": DirectEdgeKernel,
        "fused": FusedGauntEdgeKernel,
    }

    def __init__(
        self,
        l_in: int,
        l_edge: int,
        l_out: int,
        kernel: str = "auto",
        *,
        num_channels: int | None = None,
        pseudo_in: bool = False,
    ) -> None:
        super().__init__(l_in, l_edge, l_out, num_channels=num_channels, pseudo_in=pseudo_in)
        self.announce((1,) * (l_out + 1), l_edge + 1)
        self.choose_kernel(kernel)

    def build_kernel(self, name: str) -> Any:
        if self.l_in == 0:
            if name == "fused":
                return FusedScalarEdgeKernel(self.l_out, self.l_edge + 1)
            return ScalarInputKernel(self.l_edge, self.l_out)
        degrees = [range(l + 1) for l in (self.l_in, self.l_edge, self.l_out)]
        return self.KERNELS[name](self.l_in, self.l_edge, self.l_out, normalizers(*degrees))


class GauntNodeProduct(NodeProduct):
    """Node product of the Gaunt family: powers of one signal, one weight per element, order, degree and channel."""

    family = "gaunt"
    KERNELS: ClassVar = {
        "grid": GridNodeKernel,
        "fourier": FourierNodeKernel,
        "direct": DirectNodeKernel,
        "fused": FusedGauntNodeKernel,
    }

    def __init__(
        self,
        l_in: int,
        l_out: int,
        correlation: int,
        num_elements: int,
        num_channels: int,
        kernel: str = "auto",
        *,
        pseudo_in: bool = False,
    ) -> None:
        super().__init__(l_in, l_out, correlation, num_elements, num_channels, pseudo_in=pseudo_in)
        self.choose_kernel(kernel)
        self.weight = nn.Parameter(torch.randn(num_elements, correlation, l_out + 1, num_channels))

    def build_kernel(self, name: str) -> Any:
        factors = power_normalizers(self.l_in, self.l_out, self.correlation) / math.sqrt(self.correlation)
        built = self.KERNELS[name](self.l_in, self.l_out, self.correlation, factors)
        return built if isinstance(built, FusedGauntNodeKernel) else WeightedOrders(built, self.l_out)

    def natural(self, node_feats: Tensor, node_types: Tensor) -> Tensor:
        weights = rows_of(self.weight, node_types).permute(1, 2, 0, 3)
        result: Tensor = self.kernel(node_feats, weights)
        return result


class WeightedOrders(nn.Module):
    """Sum over orders of what a kernel gives, weighted per order and degree.

    Args:
        orders: Kernel that gives the orders one by one; see `GridNodeKernel`.
        l_out: Largest degree of the result.
    """

    def __init__(self, orders: nn.Module, l_out: int) -> None:
        super().__init__()
        self.orders = orders
        self.degree_sizes = [2 * degree + 1 for degree in range(l_out + 1)]

    def forward(self, node_feats: Tensor, weights: Tensor) -> Tensor:
        """Weighted powers.

        Args:
            node_feats: Shape [n_nodes, (l_in+1)^2, C].
            weights: Shape [correlation, l_out + 1, n_nodes, C].

        Returns:
            Shape [n_nodes, (l_out+1)^2, C].
        """
        blocks = self.orders(node_feats).split(self.degree_sizes, dim=2)
        return torch.cat([(block * weights[:, l, :, None]).sum(0) for l, block in enumerate(blocks)], dim=1)
