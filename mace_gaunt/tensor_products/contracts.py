"""The two contracts every family of tensor products fulfils: edge product and node product."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from torch import Tensor, nn

from mace_gaunt.errors import nearest
from mace_gaunt.so3.scatter import scatter_sum
from mace_gaunt.so3.tables import TableModule


class EdgeKernel(TableModule, ABC):
    """One way to compute an edge product; holds constant tables only."""

    @abstractmethod
    def couple(self, node_feats: Tensor, edge_attrs: Tensor, weights: Tensor) -> Tensor:
        """Per edge; shapes as in `EdgeProduct.couple`."""

    def forward(self, node_feats: Tensor, edge_attrs: Tensor, weights: Tensor, edge_index: Tensor) -> Tensor:
        """Gather, couple, scatter; shapes as in `EdgeProduct.forward`. Kernels that can fuse override it."""
        sender, receiver = edge_index[0], edge_index[1]
        return scatter_sum(self.couple(node_feats[sender], edge_attrs, weights), receiver, node_feats.shape[0])


class EdgeProduct(nn.Module):
    """m_i = sum over neighbours j of h_j (x) Y(r_ij), weighted by w_ij; gather and scatter included.

    A family announces what the layers around it must know; a kernel computes it. The rows of the result are ordered
    by degree l, then m, then path, so that one degree reshapes to [n, 2l+1, num_paths_out[l] * C] without a copy.

    Attributes:
        family: Name of the function; saved with the model.
        kernel_name: Name of the kernel that computes it; may change between loads.
        l_in: Largest degree of the node features.
        l_edge: Largest degree of the edge harmonics.
        l_out: Largest degree of the messages.
        num_paths_out: Copies of each degree 0..l_out in the messages, which the next Linear mixes.
        weight_numel: Weights per edge and channel.
    """

    family: ClassVar[str]
    KERNELS: ClassVar[Mapping[str, Callable[..., EdgeKernel]]]

    num_paths_out: tuple[int, ...]
    weight_numel: int
    kernel: EdgeKernel

    def __init__(self, l_in: int, l_edge: int, l_out: int, kernel: str = "auto") -> None:
        super().__init__()
        check_degrees(l_in=l_in, l_edge=l_edge, l_out=l_out)
        if l_out > l_in + l_edge:
            raise ValueError(
                f"no path of an edge product reaches degree {l_in + l_edge + 1}: node features of degree {l_in} and "
                f"harmonics of degree {l_edge} couple to degree {l_in + l_edge} at most, l_out={l_out} was asked for"
            )
        self.l_in, self.l_edge, self.l_out = l_in, l_edge, l_out
        self.kernel_name = resolve_kernel(self.family, self.KERNELS, kernel)

    @property
    def num_rows_out(self) -> int:
        """Rows of the messages: sum over l of (2l+1) num_paths_out[l]."""
        return sum((2 * degree + 1) * paths for degree, paths in enumerate(self.num_paths_out))

    def couple(self, node_feats: Tensor, edge_attrs: Tensor, weights: Tensor) -> Tensor:
        """Couple one sender's features with one edge each: the definition of the family.

        Args:
            node_feats: Features gathered per edge, shape [n_edges, (l_in+1)^2, C].
            edge_attrs: Component-normalised harmonics, shape [n_edges, (l_edge+1)^2].
            weights: Shape [n_edges, weight_numel, C].

        Returns:
            Shape [n_edges, num_rows_out, C].
        """
        return self.kernel.couple(node_feats, edge_attrs, weights)

    def forward(self, node_feats: Tensor, edge_attrs: Tensor, weights: Tensor, edge_index: Tensor) -> Tensor:
        """Gather, couple, sum over neighbours: equal to that in value, free to fuse.

        Args:
            node_feats: Shape [n_nodes, (l_in+1)^2, C].
            edge_attrs: Component-normalised harmonics, shape [n_edges, (l_edge+1)^2].
            weights: Shape [n_edges, weight_numel, C].
            edge_index: Shape [2, n_edges]: senders, receivers.

        Returns:
            Shape [n_nodes, num_rows_out, C].
        """
        result: Tensor = self.kernel(node_feats, edge_attrs, weights, edge_index)
        return result

    def options(self) -> dict[str, Any]:
        """What a model file must know to build the product again, besides degrees; JSON values."""
        return {}


class NodeProduct(TableModule, ABC):
    """B_i: products of A_i with itself, orders 1 to correlation, weighted by element and channel.

    Attributes:
        family: Name of the function; saved with the model.
        kernel_name: Name of the kernel that computes it; may change between loads.
        l_in: Largest degree of A.
        l_out: Largest degree of B.
        correlation: Highest order.
    """

    family: ClassVar[str]
    KERNELS: ClassVar[Mapping[str, Callable[..., nn.Module]]]

    def __init__(
        self, l_in: int, l_out: int, correlation: int, num_elements: int, num_channels: int, kernel: str = "auto"
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
        self.kernel_name = resolve_kernel(self.family, self.KERNELS, kernel)

    @abstractmethod
    def forward(self, node_feats: Tensor, node_types: Tensor) -> Tensor:
        """Products of each node's features with themselves.

        Args:
            node_feats: A, shape [n_nodes, (l_in+1)^2, C].
            node_types: Element indices, shape [n_nodes].

        Returns:
            B, shape [n_nodes, (l_out+1)^2, C].
        """

    def options(self) -> dict[str, Any]:
        """What a model file must know to build the product again, besides degrees; JSON values."""
        return {}


def check_degrees(**degrees: int) -> None:
    """Refuse negative degrees, naming the argument."""
    for name, degree in degrees.items():
        if degree < 0:
            raise ValueError(f"{name} is a degree, at least 0, found {degree}")


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
