"""Blocks of MACE: embedding, interaction, product, readout.

Source: Batatia et al., NeurIPS 2022, and the RealAgnosticResidualInteractionBlock of its code. All weights are of
order one and scaled by 1/sqrt(fan-in) when applied, as in e3nn.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from mace_gaunt.model.element_linear import ElementLinear
from mace_gaunt.model.radial import MLP
from mace_gaunt.model.selfmix import Selfmix, add_natural
from mace_gaunt.so3.linear import EquivariantLinear
from mace_gaunt.so3.mirror import mirror_values
from mace_gaunt.tensor_products.contracts import EdgeProduct, NodeProduct

EdgeProductFactory = Callable[..., EdgeProduct]
"""Called with l_in, l_edge, l_out and the keywords num_channels, pseudo_in."""
NodeProductFactory = Callable[..., NodeProduct]
"""Called with l_in, l_out, correlation, num_elements, num_channels and the keyword pseudo_in."""


class ElementEmbedding(nn.Module):
    """A learned vector per element.

    Args:
        num_elements: Number of elements.
        num_channels: Width of the vectors.
    """

    def __init__(self, num_elements: int, num_channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(num_elements, num_channels))

    def forward(self, node_types: Tensor) -> Tensor:
        """Shape [n_nodes] to [n_nodes, 1, C]."""
        return (self.weight * self.weight.shape[0] ** -0.5)[node_types][:, None]


class Interaction(nn.Module):
    """Residual interaction: Linear, edge product with radial weights, Linear; and the element-dependent skip.

    Args:
        edge_product: Factory of the edge product.
        l_in: Largest degree of the node features.
        l_edge: Largest degree of the edge harmonics (max_ell), also of the messages.
        l_skip: Largest degree of the skip connection, that of the node product after it.
        num_channels: Channels.
        num_elements: Number of elements.
        radial_widths: Width of the radial basis and of the hidden layers.
        gate: Activation of the radial network.
        avg_num_neighbors: Messages are divided by it.
        pseudo_in: Whether the node features have the parity axis.
    """

    def __init__(
        self,
        edge_product: EdgeProductFactory,
        l_in: int,
        l_edge: int,
        l_skip: int,
        num_channels: int,
        num_elements: int,
        radial_widths: Sequence[int],
        gate: str,
        avg_num_neighbors: float,
        *,
        pseudo_in: bool = False,
    ) -> None:
        super().__init__()
        self.avg_num_neighbors = avg_num_neighbors
        self.linear_up = EquivariantLinear((1,) * (l_in + 1), num_channels, num_channels, pseudo=pseudo_in)
        self.edge_product = edge_product(l_in, l_edge, l_edge, num_channels=num_channels, pseudo_in=pseudo_in)
        self.pseudo_out = self.edge_product.pseudo_out
        weight_numel = self.edge_product.weight_numel
        self.radial_mlp = MLP([*radial_widths, weight_numel * num_channels], gate)
        num_paths = self.edge_product.num_paths_out
        self.linear = EquivariantLinear(num_paths, num_channels, num_channels, pseudo=self.pseudo_out)
        self.skip = ElementLinear(l_in, l_skip, num_channels, num_elements, pseudo=pseudo_in)

    def forward(
        self,
        node_feats: Tensor,
        node_types: Tensor,
        edge_attrs: Tensor,
        edge_feats: Tensor,
        edge_index: Tensor,
        *,
        mirrored: bool = False,
    ) -> tuple[Tensor, Tensor]:
        """Messages and skip connection.

        Args:
            node_feats: Shape [n_nodes, (l_in+1)^2, C]; [n_nodes, 2, (l_in+1)^2, C] if `pseudo_in`.
            node_types: Shape [n_nodes].
            edge_attrs: Harmonics, shape [n_edges, (l_edge+1)^2].
            edge_feats: Radial basis, shape [n_edges, num_bessel]; if mirrored, of the first n_edges / 2.
            edge_index: Shape [2, n_edges].
            mirrored: Whether the second half of the edges is the first half the other way round, in the same order. The
                radial network, the largest part of a step, is then evaluated for one half only.

        Returns:
            A, shape [n_nodes, (l_edge+1)^2, C], and the skip, shape [n_nodes, (l_skip+1)^2, C]; A with the parity axis
            if `pseudo_out`, the skip if `pseudo_in`.
        """
        weights = self.radial_mlp(edge_feats).unflatten(1, (self.edge_product.weight_numel, -1))
        weights = mirror_values(weights) if mirrored else weights
        messages = self.edge_product(self.linear_up(node_feats), edge_attrs, weights, edge_index)
        return self.linear(messages) / self.avg_num_neighbors, self.skip(node_feats, node_types)


class Product(nn.Module):
    """Node product, Linear, plus the skip connection, and Selfmix if wanted: the features of the next layer.

    Args:
        node_product: Factory of the node product.
        l_in: Largest degree of A.
        l_out: Largest degree of the result.
        correlation: Highest order.
        num_elements: Number of elements.
        num_channels: Channels.
        pseudo_in: Whether A has the parity axis.
        selfmix: Family of the Selfmix; none when None.
    """

    def __init__(
        self,
        node_product: NodeProductFactory,
        l_in: int,
        l_out: int,
        correlation: int,
        num_elements: int,
        num_channels: int,
        *,
        pseudo_in: bool = False,
        selfmix: str | None = None,
    ) -> None:
        super().__init__()
        self.node_product = node_product(l_in, l_out, correlation, num_elements, num_channels, pseudo_in=pseudo_in)
        pseudo = self.node_product.pseudo_out
        self.linear = EquivariantLinear((1,) * (l_out + 1), num_channels, num_channels, pseudo=pseudo)
        self.selfmix = None if selfmix is None else Selfmix(selfmix, l_out, num_channels, pseudo_in=pseudo)
        self.pseudo_out = pseudo if self.selfmix is None else self.selfmix.pseudo_out

    def forward(self, messages: Tensor, skip: Tensor, node_types: Tensor) -> Tensor:
        """A [n_nodes, (l_in+1)^2, C] and skip [n_nodes, (l_out+1)^2, C] to [n_nodes, (l_out+1)^2, C].

        A has the parity axis if `pseudo_in`, the result if `pseudo_out`; the skip may lack it: it is natural then.
        """
        result = add_natural(self.linear(self.node_product(messages, node_types)), skip)
        return result if self.selfmix is None else self.selfmix(result)


def natural_scalars(node_feats: Tensor) -> Tensor:
    """The even scalars, shape [n_nodes, C], of features with or without the parity axis."""
    return node_feats[:, 0] if node_feats.dim() == 3 else node_feats[:, 0, 0]


class LinearReadout(nn.Module):
    """Scalars to an energy, linearly.

    Args:
        num_channels: Channels of the features.
    """

    def __init__(self, num_channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(num_channels))

    def forward(self, node_feats: Tensor) -> Tensor:
        """Shape [n_nodes, (2,) components, C] to [n_nodes]."""
        return natural_scalars(node_feats) @ (self.weight * self.weight.shape[0] ** -0.5)


class MLPReadout(nn.Module):
    """Scalars to an energy through one hidden layer: the readout of the last layer.

    Args:
        num_channels: Channels of the features.
        width: Hidden width.
        gate: Activation.
    """

    def __init__(self, num_channels: int, width: int, gate: str) -> None:
        super().__init__()
        self.mlp = MLP([num_channels, width, 1], gate)

    def forward(self, node_feats: Tensor) -> Tensor:
        """Shape [n_nodes, (2,) components, C] to [n_nodes]."""
        result: Tensor = self.mlp(natural_scalars(node_feats))[:, 0]
        return result
