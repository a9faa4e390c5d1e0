"""The contracts every family of tensor products fulfils: feature product, edge product and node product.

A family is a function of its inputs and weights; a kernel is one way to compute it. Kernels hold constant tables only,
so that all kernels of a family share one state dict, and a kernel may change at any time (`use_kernel`).

Features of natural parity (-1)^l are `[n, (l_max+1)^2, C]`; where pseudo-tensors occur, features carry a parity axis,
`[n, 2, (l_max+1)^2, C]` (`parity.py`). Families without odd couplings make no pseudo-tensors, but carry them along.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from mace_gaunt.errors import nearest
from mace_gaunt.so3.layout import Degrees, degree_tuple
from mace_gaunt.so3.scatter import scatter_sum
from mace_gaunt.so3.tables import TableModule
from mace_gaunt.tensor_products.parity import (
    Pairing,
    both_signs,
    channels_to_parity,
    half_sum_and_difference,
    halves,
    parity_to_channels,
)

Path = tuple[int, int, int]
"""Degrees (l1, l2, l3) of one coupling."""


def coupled_paths(
    degrees_x: Sequence[int], degrees_y: Sequence[int], degrees_out: Sequence[int], *, odd: bool = False
) -> list[Path]:
    """Triangles (l1, l2, l3) with an even sum, or with an odd one, ordered by l3, l1, l2."""
    return [
        (l1, l2, l3)
        for l3 in degrees_out
        for l1 in degrees_x
        for l2 in degrees_y
        if abs(l1 - l2) <= l3 <= l1 + l2 and (l1 + l2 + l3) % 2 == int(odd)
    ]


def count_paths(paths: Sequence[Path], degrees_out: Sequence[int]) -> tuple[int, ...]:
    """How many paths end in each degree."""
    return tuple(sum(path[2] == degree for path in paths) for degree in degrees_out)


class Product(TableModule, ABC):
    """What all products share: a family's name, and a kernel that can be exchanged.

    Attributes:
        family: Name of the function; saved with the model.
        KERNELS: What computes it, by name; the first is the default.
        kernel_name: Name of the kernel that computes it now.
        asked_for: The kernel asked for: a name, or "auto" (the first, until `select_kernels` has measured).
        pseudo_out: Whether the result has the parity axis.
        pairing: Set where the kernel returns a pair, the results of the even and of the odd couplings.
    """

    family: ClassVar[str]
    KERNELS: ClassVar[Mapping[str, Callable[..., Any]]]

    kernel: Any
    where: Tensor
    pseudo_out: bool
    pairing: Pairing | None

    def __init__(self) -> None:
        super().__init__()
        self.pairing = None
        # Follows the module's device and precision, which a kernel of index tables alone would not tell.
        self.register_buffer("where", torch.zeros(()), persistent=False)

    def choose_kernel(self, kernel: str) -> None:
        """Resolve a name and build the kernel.

        Raises:
            ValueError: If the family has no such kernel, or it cannot compute what is asked for here.
        """
        self.asked_for = kernel
        self.kernel_name = resolve_kernel(self.family, self.KERNELS, kernel)
        self.kernel = self.build_kernel(self.kernel_name)

    @abstractmethod
    def build_kernel(self, name: str) -> Any:
        """A kernel of this name with the product's tables, float64 on the CPU."""

    def use_kernel(self, name: str) -> Self:
        """Compute by another kernel of the family from now on; nothing else changes.

        Args:
            name: The kernel; "auto" for the family's first.

        Raises:
            ValueError: If the family has no such kernel.
        """
        self.choose_kernel(name)
        self.kernel.to(self.where.device, self.where.dtype)
        return self

    def options(self) -> dict[str, Any]:
        """What a model file must know to build the product again, besides degrees; JSON values."""
        return {}


class FeatureProduct(Product):
    """z = T(x, y): an equivariant bilinear map of two features, channel by channel.

    What is learned lies in the Linears around it, `EquivariantLinear(num_paths_out, ...)` (as in Xie et al., "The Price
    of Freedom in Selecting Tensor Products", ICML 2025). Unit-variance inputs give unit-variance outputs. The rows of
    the result are ordered by degree, then m, then path.

    Attributes:
        degrees_x: Degrees of the first feature.
        degrees_y: Degrees of the second feature.
        degrees_out: Degrees of the result.
        num_paths_out: Copies of each of them in the result of two natural features.
        num_paths_parity: Copies where an input has the parity axis.
        num_channels: Channels of its inputs, where it is known; for measurements alone.
    """

    num_paths_out: tuple[int, ...]
    num_channels: int | None = None

    def __init__(self, degrees_x: Degrees, degrees_y: Degrees, degrees_out: Degrees) -> None:
        super().__init__()
        self.degrees_x = degree_tuple(degrees_x, "degrees_x")
        self.degrees_y = degree_tuple(degrees_y, "degrees_y")
        self.degrees_out = degree_tuple(degrees_out, "degrees_out")
        self.pseudo_out = False

    @property
    def num_paths_parity(self) -> tuple[int, ...]:
        """Copies of each degree in the result where an input has the parity axis."""
        return self.num_paths_out if self.pairing is None else self.pairing.num_paths_parity

    @property
    def num_rows_out(self) -> int:
        """Rows of the result of natural features: sum over l of (2l+1) num_paths_out."""
        return sum((2 * l + 1) * paths for l, paths in zip(self.degrees_out, self.num_paths_out, strict=True))

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Couple.

        Args:
            x: Shape [n, sum of 2l+1 over degrees_x, C], or [n, 2, same, C] with pseudo-tensors.
            y: Shape [n, sum of 2l+1 over degrees_y, C], or with the parity axis.

        Returns:
            Shape [n, num_rows_out, C]; [n, 2, num_rows_out, C] if an input has the parity axis.
        """
        if x.dim() == 3 and y.dim() == 3:
            result = self.bilinear(x, y)
            return result if self.pairing is None else self.pairing.of_natural(*result)
        result = self.bilinear(both_signs(x), both_signs(y))
        # Both parities of both inputs contribute to each parity of the result: twice the variance.
        scale = math.sqrt(0.5) if x.dim() == y.dim() else 1.0
        if self.pairing is None:
            return torch.stack(half_sum_and_difference(result), dim=1) * scale
        (even, even_pseudo), (odd_pseudo, odd) = (half_sum_and_difference(part) for part in result)
        return torch.stack([self.pairing.joint(even, odd), self.pairing.joint(even_pseudo, odd_pseudo)], dim=1) * scale

    def bilinear(self, x: Tensor, y: Tensor) -> Any:
        """The map on natural features: [n, rows, C], or a pair of them where there is a pairing."""
        return self.kernel(x, y)


class EdgeKernel(TableModule, ABC):
    """One way to compute an edge product; holds constant tables only."""

    @abstractmethod
    def couple(self, node_feats: Tensor, edge_attrs: Tensor, weights: Tensor) -> Any:
        """Per edge; shapes as in `EdgeProduct.couple`, natural features only."""

    def forward(self, node_feats: Tensor, edge_attrs: Tensor, weights: Tensor, edge_index: Tensor) -> Any:
        """Gather, couple, scatter; shapes as in `EdgeProduct.forward`. Kernels that can fuse override it."""
        sender, receiver = edge_index[0], edge_index[1]
        coupled = self.couple(node_feats[sender], edge_attrs, weights)
        if isinstance(coupled, tuple):
            return tuple(scatter_sum(part, receiver, node_feats.shape[0]) for part in coupled)
        return scatter_sum(coupled, receiver, node_feats.shape[0])


class EdgeProduct(Product):
    """m_i = sum over neighbours j of h_j (x) Y(r_ij), weighted by w_ij; gather and scatter included.

    A family announces what the layers around it must know; a kernel computes it. The rows of the result are ordered
    by degree l, then m, then path, so that one degree reshapes to [n, 2l+1, num_paths_out[l] * C] without a copy.

    Attributes:
        l_in: Largest degree of the node features.
        l_edge: Largest degree of the edge harmonics.
        l_out: Largest degree of the messages.
        pseudo_in: Whether the node features have the parity axis.
        pseudo_out: Whether the messages have it.
        num_paths_out: Copies of each degree 0..l_out in the messages, which the next Linear mixes.
        weight_numel: Weights per edge and channel.
    """

    num_paths_out: tuple[int, ...]
    weight_numel: int

    def __init__(
        self, l_in: int, l_edge: int, l_out: int, *, num_channels: int | None = None, pseudo_in: bool = False
    ) -> None:
        super().__init__()
        check_degrees(l_in=l_in, l_edge=l_edge, l_out=l_out)
        if l_out > l_in + l_edge:
            raise ValueError(
                f"no path of an edge product reaches degree {l_in + l_edge + 1}: node features of degree {l_in} and "
                f"harmonics of degree {l_edge} couple to degree {l_in + l_edge} at most, l_out={l_out} was asked for"
            )
        self.l_in, self.l_edge, self.l_out = l_in, l_edge, l_out
        self.num_channels, self.pseudo_in, self.pseudo_out = num_channels, pseudo_in, pseudo_in

    def announce(self, num_paths_out: Sequence[int], weight_numel: int, pairing: Pairing | None = None) -> None:
        """Set what the layers around read, for a kernel on natural features.

        Args:
            num_paths_out: Copies of each degree; ignored where there is a pairing.
            weight_numel: Weights per edge and channel; natural and pseudo features have weights of their own.
            pairing: For a kernel that returns a pair.
        """
        self.pairing = pairing
        self.pseudo_out = self.pseudo_in or pairing is not None
        if pairing is not None:
            num_paths_out = pairing.num_paths_parity if self.pseudo_in else pairing.num_paths_natural
        self.num_paths_out = tuple(num_paths_out)
        self.weight_numel = weight_numel * (2 if self.pseudo_in else 1)

    @property
    def num_rows_out(self) -> int:
        """Rows of the messages: sum over l of (2l+1) num_paths_out[l]."""
        return sum((2 * degree + 1) * paths for degree, paths in enumerate(self.num_paths_out))

    def couple(self, node_feats: Tensor, edge_attrs: Tensor, weights: Tensor) -> Tensor:
        """Couple one sender's features with one edge each: the definition of the family.

        Args:
            node_feats: Features gathered per edge, shape [n_edges, (l_in+1)^2, C], or [n_edges, 2, (l_in+1)^2, C] if
                `pseudo_in`.
            edge_attrs: Component-normalised harmonics of unit vectors, shape [n_edges, (l_edge+1)^2].
            weights: Shape [n_edges, weight_numel, C].

        Returns:
            Shape [n_edges, num_rows_out, C], or [n_edges, 2, num_rows_out, C] if `pseudo_out`.
        """
        if not self.pseudo_in:
            return self.assemble(self.kernel.couple(node_feats, edge_attrs, weights))
        return self.assemble(self.kernel.couple(parity_to_channels(node_feats), edge_attrs, halves(weights)))

    def forward(self, node_feats: Tensor, edge_attrs: Tensor, weights: Tensor, edge_index: Tensor) -> Tensor:
        """Gather, couple, sum over neighbours: equal to that in value, free to fuse.

        Args:
            node_feats: Shape [n_nodes, (l_in+1)^2, C], or [n_nodes, 2, (l_in+1)^2, C] if `pseudo_in`.
            edge_attrs: Component-normalised harmonics of unit vectors, shape [n_edges, (l_edge+1)^2].
            weights: Shape [n_edges, weight_numel, C].
            edge_index: Shape [2, n_edges]: senders, receivers.

        Returns:
            Shape [n_nodes, num_rows_out, C], or [n_nodes, 2, num_rows_out, C] if `pseudo_out`.
        """
        if not self.pseudo_in:
            return self.assemble(self.kernel(node_feats, edge_attrs, weights, edge_index))
        return self.assemble(self.kernel(parity_to_channels(node_feats), edge_attrs, halves(weights), edge_index))

    def assemble(self, coupled: Any) -> Tensor:
        """The layout of the result, from what the kernel returns; natural and pseudo features lie in the channels."""
        if self.pairing is not None:
            return self.pairing.of_channels(*coupled) if self.pseudo_in else self.pairing.of_natural(*coupled)
        result: Tensor = channels_to_parity(coupled) if self.pseudo_in else coupled
        return result


class NodeProduct(Product):
    """B_i: products of A_i with itself, orders 1 to correlation, weighted by element and channel.

    Attributes:
        l_in: Largest degree of A.
        l_out: Largest degree of B.
        correlation: Highest order.
        pseudo_in: Whether A has the parity axis.
        pseudo_out: Whether B has it.
    """

    def __init__(
        self,
        l_in: int,
        l_out: int,
        correlation: int,
        num_elements: int,
        num_channels: int,
        *,
        pseudo_in: bool = False,
    ) -> None:
        super().__init__()
        check_degrees(l_in=l_in, l_out=l_out)
        if correlation < 1:
            raise ValueError(f"correlation is the highest order of the node product, at least 1, found {correlation}")
        if l_out > l_in * correlation:
            raise ValueError(
                f"no product of {correlation} features of degree {l_in} reaches degree {l_out}: "
                f"{l_in * correlation} is the largest"
            )
        self.l_in, self.l_out, self.correlation = l_in, l_out, correlation
        self.num_elements, self.num_channels = num_elements, num_channels
        self.pseudo_in = self.pseudo_out = pseudo_in

    def forward(self, node_feats: Tensor, node_types: Tensor) -> Tensor:
        """Products of each node's features with themselves.

        Args:
            node_feats: A, shape [n_nodes, (l_in+1)^2, C], or [n_nodes, 2, (l_in+1)^2, C] if `pseudo_in`.
            node_types: Element indices, shape [n_nodes].

        Returns:
            B, shape [n_nodes, (l_out+1)^2, C], or [n_nodes, 2, (l_out+1)^2, C] if `pseudo_out`.
        """
        if not self.pseudo_in:
            return self.natural(node_feats, node_types)
        result = self.natural(both_signs(node_feats) * math.sqrt(0.5), node_types.repeat(2))
        return torch.stack(half_sum_and_difference(result), dim=1) * math.sqrt(2.0)

    @abstractmethod
    def natural(self, node_feats: Tensor, node_types: Tensor) -> Tensor:
        """The product of natural features, [n_nodes, (l_in+1)^2, C] to [n_nodes, (l_out+1)^2, C]."""


def check_degrees(**degrees: int) -> None:
    """Refuse negative degrees, naming the argument."""
    for name, degree in degrees.items():
        if degree < 0:
            raise ValueError(f"{name} is a degree, at least 0, found {degree}")


def check_reached(family: str, counts: Sequence[int], degrees_out: Sequence[int], why: str) -> None:
    """Refuse degrees that no path of a family reaches.

    Args:
        family: Its name.
        counts: Paths that end in each degree.
        degrees_out: The degrees.
        why: Which paths are missing.

    Raises:
        ValueError: Naming family, degrees and paths.
    """
    missing = [degree for degree, count in zip(degrees_out, counts, strict=True) if not count]
    if missing:
        raise ValueError(f"family '{family}' does not reach degree {', '.join(map(str, missing))}: {why}")


def resolve_kernel(family: str, kernels: Mapping[str, Any], kernel: str) -> str:
    """The kernel's name; "auto" is the family's first.

    Raises:
        ValueError: If the family has no such kernel.
    """
    if kernel == "auto":
        return next(iter(kernels))
    if kernel not in kernels:
        raise ValueError(f"family '{family}' has no kernel '{kernel}'.{nearest(kernel, kernels)}")
    return kernel
