"""The Gaunt mix family: sums of Gaunt products whose factors are mixed differently, to buy back expressivity.

A Gaunt product ties the weights of all paths together, w(l1) w(l2) w(l3). Here R products are summed, each with weights
of its own on every factor: a decomposition of rank R of the Clebsch-Gordan path weights. Edge and node product mix the
channels too, with a Linear (one matrix per degree, a bias on the scalars) for every factor; thanks to the biases one
product of all factors holds the lower orders as well, as in the Gaunt option of instadeepai/mlip v2.
"""

import math
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from mace_gaunt.so3.layout import Degrees, degree_of_component
from mace_gaunt.so3.linear import EquivariantLinear
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
from mace_gaunt.tensor_products.gaunt import NO_ODD_PATH, normalizers
from mace_gaunt.tensor_products.kernels.fused import FusedGauntEdgeKernel, FusedScalarEdgeKernel
from mace_gaunt.tensor_products.kernels.gaunt_grid import GridEdgeKernel, GridFactorsKernel, GridFeatureKernel
from mace_gaunt.tensor_products.kernels.scalar_input import ScalarInputKernel


class MixedFactors(nn.Module):
    """Several Linears at once, with a bias on the scalars, whose sum has unit mean square.

    Args:
        l_in: Largest degree.
        num_channels: Channels of the features.
        num_factors: How many different Linears.
        pseudo: Whether features have the parity axis; pseudoscalars have no bias.
    """

    def __init__(self, l_in: int, num_channels: int, num_factors: int, *, pseudo: bool = False) -> None:
        super().__init__()
        self.linear = EquivariantLinear((1,) * (l_in + 1), num_channels, num_factors * num_channels, pseudo=pseudo)
        self.bias = nn.Parameter(torch.ones(num_factors * num_channels))

    def forward(self, features: Tensor) -> Tensor:
        """Shape [n, (2,) (l_in+1)^2, C] to [n, (2,) (l_in+1)^2, num_factors * C]."""
        mixed = self.linear(features)
        if features.dim() == 3:
            return self.add_bias(mixed)
        return torch.stack([self.add_bias(mixed[:, 0]), mixed[:, 1]], dim=1)

    def add_bias(self, mixed: Tensor) -> Tensor:
        """The scalars and their bias share the unit mean square."""
        scalars = (mixed[:, :1] + self.bias) * math.sqrt(0.5)
        return torch.cat([scalars, mixed[:, 1:]], dim=1)


class GauntMixFeatureProduct(FeatureProduct):
    """Feature product of the Gaunt mix family: R Gaunt products with weights per degree on x, y and z, summed.

    Bilinear, so without biases; one copy of each degree comes out.

    Args:
        degrees_x: Degrees of the first feature: a largest degree, or ascending degrees.
        degrees_y: Degrees of the second.
        degrees_out: Degrees of the result.
        kernel: How it is computed.
        num_products: R.
    """

    family = "gaunt_mix"
    KERNELS: ClassVar = {"grid": GridFeatureKernel}

    def __init__(
        self,
        degrees_x: Degrees,
        degrees_y: Degrees,
        degrees_out: Degrees,
        kernel: str = "auto",
        *,
        num_products: int = 2,
    ) -> None:
        super().__init__(degrees_x, degrees_y, degrees_out)
        check_num_products(num_products)
        self.num_products = num_products
        paths = coupled_paths(self.degrees_x, self.degrees_y, self.degrees_out)
        check_reached(self.family, count_paths(paths, self.degrees_out), self.degrees_out, NO_ODD_PATH)
        self.num_paths_out = (1,) * len(self.degrees_out)
        for name, degrees in (("x", self.degrees_x), ("y", self.degrees_y), ("out", self.degrees_out)):
            self.register_parameter(f"weight_{name}", nn.Parameter(torch.randn(len(degrees), num_products)))
            rows = torch.arange(len(degrees)).repeat_interleave(2 * torch.tensor(degrees) + 1)
            self.register_buffer(f"degree_{name}", rows, persistent=False)
        self.choose_kernel(kernel)

    def build_kernel(self, name: str) -> Any:
        degrees = self.degrees_x, self.degrees_y, self.degrees_out
        factors = [factor / math.sqrt(self.num_products) for factor in normalizers(*degrees)]
        return self.KERNELS[name](*degrees, factors)

    def bilinear(self, x: Tensor, y: Tensor) -> Tensor:
        result: Tensor = self.kernel(self.weigh(x, "x"), self.weigh(y, "y"))
        return (result.unflatten(2, (self.num_products, -1)) * self.weights_of("out")).sum(2)

    def weights_of(self, name: str) -> Tensor:
        """Weight of each row in each product, shape [rows, R, 1]."""
        return self.get_parameter(f"weight_{name}").index_select(0, self.get_buffer(f"degree_{name}"))[..., None]

    def weigh(self, features: Tensor, name: str) -> Tensor:
        """The factor of every product, in the channels: [n, rows, C] to [n, rows, R C]."""
        return (features[:, :, None] * self.weights_of(name)).flatten(2)

    def options(self) -> dict[str, Any]:
        return {"num_products": self.num_products}


class GauntMixEdgeProduct(EdgeProduct):
    """Edge product of the Gaunt mix family: R Gaunt products side by side, which the next Linear sums.

    Each has a Linear (with a bias on the scalars) of its own on the node features, and its own weights per edge and
    degree of the harmonics.

    Args:
        l_in: Largest degree of the node features.
        l_edge: Largest degree of the edge harmonics.
        l_out: Largest degree of the messages.
        kernel: How it is computed.
        num_channels: Channels of the node features; this family needs to know.
        pseudo_in: Whether the node features have the parity axis.
        num_products: R.
    """

    family = "gaunt_mix"
    # R products of C channels are one product of R C channels.
    KERNELS: ClassVar = {"grid": GridEdgeKernel, "fused": FusedGauntEdgeKernel}

    def __init__(
        self,
        l_in: int,
        l_edge: int,
        l_out: int,
        kernel: str = "auto",
        *,
        num_channels: int | None = None,
        pseudo_in: bool = False,
        num_products: int = 2,
    ) -> None:
        super().__init__(l_in, l_edge, l_out, num_channels=num_channels, pseudo_in=pseudo_in)
        check_num_products(num_products)
        if num_channels is None:
            raise ValueError("family 'gaunt_mix' mixes channels in its edge product: num_channels must be given")
        self.num_products = num_products
        self.announce((num_products,) * (l_out + 1), num_products * (l_edge + 1))
        self.factors = MixedFactors(l_in, num_channels, num_products, pseudo=pseudo_in)
        self.choose_kernel(kernel)

    def build_kernel(self, name: str) -> Any:
        if self.l_in == 0:
            if name == "fused":
                return FusedScalarEdgeKernel(self.l_out, self.l_edge + 1)
            return ScalarInputKernel(self.l_edge, self.l_out)
        degrees = [range(l + 1) for l in (self.l_in, self.l_edge, self.l_out)]
        return self.KERNELS[name](self.l_in, self.l_edge, self.l_out, normalizers(*degrees))

    def couple(self, node_feats: Tensor, edge_attrs: Tensor, weights: Tensor) -> Tensor:
        return self.as_copies(super().couple(self.factors(node_feats), edge_attrs, self.as_channels(weights)))

    def forward(self, node_feats: Tensor, edge_attrs: Tensor, weights: Tensor, edge_index: Tensor) -> Tensor:
        factors, spread = self.factors(node_feats), self.as_channels(weights)
        return self.as_copies(super().forward(factors, edge_attrs, spread, edge_index))

    def as_channels(self, weights: Tensor) -> Tensor:
        """[n_edges, degrees * R, C] to [n_edges, degrees, R C]."""
        return weights.unflatten(1, (-1, self.num_products)).flatten(2)

    def as_copies(self, result: Tensor) -> Tensor:
        """[n, (2,) rows, R C] to [n, (2,) rows * R, C]."""
        return result.unflatten(-1, (self.num_products, -1)).flatten(-3, -2)

    def options(self) -> dict[str, Any]:
        return {"num_products": self.num_products}


class GauntMixNodeProduct(NodeProduct):
    """Node product of the Gaunt mix family: R products of `correlation` differently mixed signals.

    Every factor is a Linear of A with a bias on the scalars, so that one product holds all orders up to correlation;
    what it gives without A is subtracted.

    Args:
        l_in: Largest degree of A.
        l_out: Largest degree of B.
        correlation: Highest order.
        num_elements: Number of elements.
        num_channels: Channels.
        kernel: How it is computed.
        pseudo_in: Whether A has the parity axis.
        num_products: R.
    """

    family = "gaunt_mix"
    KERNELS: ClassVar = {"grid": GridFactorsKernel}

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
        num_products: int = 2,
    ) -> None:
        super().__init__(l_in, l_out, correlation, num_elements, num_channels, pseudo_in=pseudo_in)
        check_num_products(num_products)
        self.num_products = num_products
        self.factors = MixedFactors(l_in, num_channels, correlation * num_products)
        self.weight = nn.Parameter(torch.randn(num_elements, l_out + 1, num_products, num_channels))
        self.register_buffer("degrees", degree_of_component(l_out), persistent=False)
        self.choose_kernel(kernel)

    degrees: Tensor

    def build_kernel(self, name: str) -> Any:
        factors = factor_normalizers(self.l_in, self.l_out, self.correlation) / math.sqrt(self.num_products)
        return self.KERNELS[name](self.l_in, self.l_out, self.correlation, factors)

    def natural(self, node_feats: Tensor, node_types: Tensor) -> Tensor:
        factors = self.factors(torch.cat([torch.zeros_like(node_feats[:1]), node_feats]))
        products = self.kernel(factors)
        # The first row is what the biases alone give.
        products = (products[1:] - products[:1]).unflatten(2, (self.num_products, -1))
        weights = rows_of(self.weight, node_types).index_select(1, self.degrees)
        return (products * weights).sum(2)

    def options(self) -> dict[str, Any]:
        return {"num_products": self.num_products}


def factor_normalizers(l_in: int, l_out: int, correlation: int) -> Tensor:
    """Factor of each output degree that gives unit variance to a product of independent signals less its constant part.

    A factor has unit mean square in every component, half of the scalar's from the bias, so that with
    rho(p, q) = sum over lm of Y_lm(p) Y_lm(q) the product less its constant has covariance
    rho^correlation - (Y_00^2 / 2)^correlation.

    Returns:
        Shape [l_out + 1], float64.
    """
    rule = smallest_rule(correlation * l_in + l_out)
    synthesis, analysis = synthesis_matrix(rule, l_in), analysis_matrix(rule, l_out)
    covariance = (synthesis @ synthesis.T) ** correlation - (1.0 / (8.0 * math.pi)) ** correlation
    variances = torch.einsum("kp,pq,kq->k", analysis, covariance, analysis)
    means = torch.stack([variances[l * l : (l + 1) ** 2].mean() for l in range(l_out + 1)])
    return torch.where(means > 1e-12, means.clamp(min=1e-12).rsqrt(), 0.0)


def check_num_products(num_products: int) -> None:
    """Refuse an empty sum."""
    if num_products < 1:
        raise ValueError(f"num_products is the number of Gaunt products in the sum, at least 1, found {num_products}")
