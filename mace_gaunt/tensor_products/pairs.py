"""Families whose kernels return a pair, the even-sum and the odd-sum couplings: vector_gaunt and matrix."""

import itertools
import math
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from mace_gaunt.so3.layout import Degrees, degree_of_component, num_components
from mace_gaunt.so3.linear import EquivariantLinear
from mace_gaunt.so3.scatter import rows_of
from mace_gaunt.tensor_products.contracts import EdgeProduct, FeatureProduct, NodeProduct, check_reached
from mace_gaunt.tensor_products.kernels.scalar_input import ScalarInputKernel
from mace_gaunt.tensor_products.parity import Pairing

Amplitude = Callable[[int, int, int], float]
"""Frobenius norm of the coupling of degrees l1, l2, l3 before normalisation."""


def pair_normalizers(
    amplitude: Amplitude, degrees_x: Sequence[int], degrees_y: Sequence[int], degrees_out: Sequence[int]
) -> tuple[list[float], list[float]]:
    """Factors of each output degree that give unit variance to the even and the odd couplings; 0 if there is none."""
    factors: tuple[list[float], list[float]] = ([], [])
    for l3, odd in itertools.product(degrees_out, (0, 1)):
        paths = [(l1, l2) for l1 in degrees_x for l2 in degrees_y if (l1 + l2 + l3) % 2 == odd]
        variance = sum(amplitude(l1, l2, l3) ** 2 for l1, l2 in paths) / (2 * l3 + 1)
        factors[odd].append(1.0 / math.sqrt(variance) if variance > 1e-18 else 0.0)
    return factors


class PairFeatureProduct(FeatureProduct):
    """A feature product with even and odd couplings: one copy of each degree and parity.

    Args:
        degrees_x: Degrees of the first feature: a largest degree, or ascending degrees.
        degrees_y: Degrees of the second.
        degrees_out: Degrees of the result.
        kernel: How it is computed.

    Raises:
        ValueError: If a degree is out of reach, or there is no such kernel.
    """

    def __init__(self, degrees_x: Degrees, degrees_y: Degrees, degrees_out: Degrees, kernel: str = "auto") -> None:
        super().__init__(degrees_x, degrees_y, degrees_out)
        degrees = self.degrees_x, self.degrees_y, self.degrees_out
        self.factors = pair_normalizers(self.amplitude(), *degrees)
        reached = [int(even + odd > 0) for even, odd in zip(*self.factors, strict=True)]
        check_reached(self.family, reached, self.degrees_out, "no coupling of the given degrees ends there")
        self.num_paths_out = (1,) * len(reached)
        if any(self.factors[1]):
            self.pairing, self.pseudo_out = Pairing(self.num_paths_out, self.num_paths_out, self.degrees_out), True
        self.choose_kernel(kernel)

    @abstractmethod
    def amplitude(self) -> Amplitude:
        """The amplitudes of this family for these degrees."""

    def build_kernel(self, name: str) -> Any:
        kernel = self.KERNELS[name](self.degrees_x, self.degrees_y, self.degrees_out, *self.factors)
        return kernel if self.pairing is not None else EvenOnly(kernel)

    def variances(self, of_x: Tensor, of_y: Tensor, *, both_axes: bool) -> Tensor:
        """Variance of each copy in the result, for independent inputs of given variances.

        Args:
            of_x: Shape [2, len(degrees_x)]: of the natural and the pseudo components of each degree.
            of_y: Shape [2, len(degrees_y)].
            both_axes: Whether both inputs have the parity axis.

        Returns:
            Shape [2 copies (even, odd), 2 parities, len(degrees_out)].
        """
        amplitude, result = self.amplitude(), torch.zeros(2, 2, len(self.degrees_out), dtype=torch.float64)
        for k, l3 in enumerate(self.degrees_out):
            for (i, l1), (j, l2) in itertools.product(enumerate(self.degrees_x), enumerate(self.degrees_y)):
                odd = (l1 + l2 + l3) % 2
                strength = (amplitude(l1, l2, l3) * self.factors[odd][k]) ** 2 / (2 * l3 + 1)
                for p, q in itertools.product((0, 1), (0, 1)):
                    result[odd, p ^ q ^ odd, k] += strength * of_x[p, i] * of_y[q, j]
        return result * (0.5 if both_axes else 1.0)


class EvenOnly(nn.Module):
    """The first result of a pair kernel, where no odd coupling exists."""

    def __init__(self, kernel: Any) -> None:
        super().__init__()
        self.kernel = kernel

    def forward(self, *inputs: Tensor) -> Tensor:
        """Even couplings, summed over neighbours for an edge kernel."""
        result: Tensor = self.kernel(*inputs)[0]
        return result

    def couple(self, *inputs: Tensor) -> Tensor:
        """Even couplings per edge."""
        result: Tensor = self.kernel.couple(*inputs)[0]
        return result


class PairEdgeProduct(EdgeProduct):
    """An edge product with even and odd couplings: one copy of each degree and parity.

    Args:
        l_in: Largest degree of the node features.
        l_edge: Largest degree of the edge harmonics.
        l_out: Largest degree of the messages.
        kernel: How it is computed.
        num_channels: Not needed by these families.
        pseudo_in: Whether the node features have the parity axis.
    """

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
        self.factors = pair_normalizers(self.amplitude(), range(l_in + 1), range(l_edge + 1), range(l_out + 1))
        copies = (1,) * (l_out + 1)
        has_odd = any(self.factors[1])
        numel = l_edge + 1 if l_in == 0 else self.numel()
        self.announce(copies, numel, Pairing(copies, copies) if has_odd else None)
        self.choose_kernel(kernel)

    @abstractmethod
    def amplitude(self) -> Amplitude:
        """The amplitudes of this family for these degrees."""

    @abstractmethod
    def numel(self) -> int:
        """Weights per edge and channel that the kernels take."""

    def build_kernel(self, name: str) -> Any:
        if self.l_in == 0:
            return ScalarInputKernel(self.l_edge, self.l_out)
        kernel = self.KERNELS[name](self.l_in, self.l_edge, self.l_out, *self.factors)
        return kernel if self.pairing is not None else EvenOnly(kernel)


class ChainNodeProduct(NodeProduct):
    """Node product by a chain of feature products: T_1 = A, T_k = T_(k-1) x (A mixed by a Linear of its own).

    The odd couplings of a signal with itself vanish, so each factor mixes the channels anew. Every order and copy
    enters the result with a weight per element, degree, parity and channel. Intermediate degrees end at l_in.

    Args:
        l_in: Largest degree of A.
        l_out: Largest degree of B.
        correlation: Highest order.
        num_elements: Number of elements.
        num_channels: Channels.
        kernel: How the feature products are computed.
        pseudo_in: Whether A has the parity axis.
    """

    feature_product: ClassVar[type[PairFeatureProduct]]
    KERNELS: ClassVar[Mapping[str, Callable[..., Any]]]

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
        if l_out > 2 * l_in:
            raise ValueError(
                f"family '{self.family}' does not reach degree {l_out}: its node product is a chain of pairwise "
                f"products with intermediate degrees up to l_in={l_in}, which end at degree {2 * l_in}"
            )
        self.choose_kernel(kernel)
        paths = (1,) * (l_in + 1)
        self.mix = nn.ModuleList(
            EquivariantLinear(paths, num_channels, num_channels, pseudo=pseudo_in) for _ in range(correlation - 1)
        )
        self.pseudo_out = pseudo_in or any(product.pseudo_out for product in self.kernel)
        scales = self.path_scales()
        self.register_table("scales", scales)
        self.register_buffer("degrees", degree_of_component(l_out), persistent=False)
        self.weight = nn.Parameter(torch.randn(num_elements, *scales.shape, num_channels))

    scales: Tensor
    degrees: Tensor

    def build_kernel(self, name: str) -> Any:
        ends = [max(self.l_in, self.l_out)] * (self.correlation - 2) + [self.l_out] * (self.correlation > 1)
        return nn.ModuleList(self.feature_product(self.l_in, self.l_in, end, kernel=name) for end in ends)

    def path_scales(self) -> Tensor:
        """Factors that give unit variance: shape [paths, 2 parities (or 1), l_out + 1], 0 where nothing arrives.

        The mixing matrices of the factors are independent, so the factors count as independent.
        """
        signal = torch.zeros(2, self.l_in + 1, dtype=torch.float64)
        signal[: 2 if self.pseudo_in else 1] = 1.0
        paths, current, has_axis = [fit(signal, 1, self.l_out + 1)], signal, self.pseudo_in
        for product in self.kernel:
            copies = product.variances(current, signal, both_axes=has_axis and self.pseudo_in)
            separate = product.pairing is not None and has_axis
            paths += [fit(copy, 1, self.l_out + 1) for copy in (copies if separate else copies.sum(0, keepdim=True))]
            current, has_axis = fit(copies.sum(0), 1, self.l_in + 1), has_axis or product.pairing is not None
        table = torch.stack(paths)[:, : 2 if self.pseudo_out else 1]
        counts = (table > 1e-12).sum(0).clamp(min=1)
        return torch.where(table > 1e-12, (table.clamp(min=1e-12) * counts).rsqrt(), 0.0)

    def natural(self, node_feats: Tensor, node_types: Tensor) -> Tensor:
        """Not used: the chain handles the parity axis itself."""
        return self.forward(node_feats, node_types)

    def forward(self, node_feats: Tensor, node_types: Tensor) -> Tensor:
        """Shapes as in `NodeProduct.forward`."""
        paths, current = [node_feats], node_feats
        for product, mix in zip(self.kernel, self.mix, strict=True):
            has_axis = current.dim() == 4
            result = product(current, mix(node_feats))
            copies = [result]
            if product.pairing is not None and has_axis:
                copies = list(result.unflatten(2, (-1, 2)).unbind(3))
            paths += copies
            current = fit(sum(copies[1:], copies[0]), -2, num_components(self.l_in))
        weights = rows_of(self.weight * self.scales[..., None], node_types)
        return self.weigh([fit(path, -2, num_components(self.l_out)) for path in paths], weights)

    def weigh(self, paths: list[Tensor], weights: Tensor) -> Tensor:
        """Sum over paths; weights [n_nodes, paths, parities, l_out + 1, C]."""
        total = None
        for index, path in enumerate(paths):
            spread = weights[:, index].index_select(2, self.degrees)
            if path.dim() == 3:
                term = path * spread[:, 0]
                # A natural path adds nothing to the pseudo half.
                term = torch.stack([term, torch.zeros_like(term)], dim=1) if self.pseudo_out else term
            else:
                term = path * spread
            total = term if total is None else total + term
        assert total is not None
        return total


def fit(values: Tensor, dim: int, size: int) -> Tensor:
    """Cut a dimension, or fill it up with zeros, to a size."""
    found = values.shape[dim]
    if found >= size:
        return values.narrow(dim, 0, size)
    shape = list(values.shape)
    shape[dim] = size - found
    return torch.cat([values, values.new_zeros(shape)], dim=dim)
