"""Blocks of MACE: embedding, interaction, product, readout.

Source: Batatia et al., NeurIPS 2022, and the RealAgnosticResidualInteractionBlock of its code. All weights are of
order one and scaled by 1/sqrt(fan-in) when applied, as in e3nn.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from mace_gaunt.model.radial import MLP
from mace_gaunt.so3.layout import degree_slice
from mace_gaunt.tensor_products.contracts import EdgeProduct, NodeProduct

EdgeProductFactory = Callable[[int, int, int], EdgeProduct]
NodeProductFactory = Callable[[int, int, int, int, int], NodeProduct]


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


class EquivariantLinear(nn.Module):
    """One matrix per degree; mixes channels and the path copies of a degree, never components.

    Args:
        num_paths: Copies of each degree in the input, length l_max + 1; rows are ordered by degree, m, path.
        channels_in: Channels of the input.
        channels_out: Channels of the output.
    """

    def __init__(self, num_paths: Sequence[int], channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.num_paths = tuple(num_paths)
        self.row_counts = [(2 * degree + 1) * paths for degree, paths in enumerate(self.num_paths)]
        widths = [paths * channels_in for paths in self.num_paths]
        self.weight = nn.ParameterList([nn.Parameter(torch.randn(width, channels_out)) for width in widths])

    def forward(self, features: Tensor) -> Tensor:
        """Shape [n, sum of (2l+1) num_paths[l], channels_in] to [n, (l_max+1)^2, channels_out]."""
        results = []
        for degree, block in enumerate(features.split(self.row_counts, dim=1)):
            weight = self.weight[degree]
            rows = block.reshape(-1, 2 * degree + 1, weight.shape[0])
            results.append(rows @ (weight * weight.shape[0] ** -0.5))
        return torch.cat(results, dim=1)


class ElementLinear(nn.Module):
    """A linear map per degree and element: the skip connection of the residual interaction.

    Costs n_nodes x num_elements x C^2 per component: meant for a handful of elements.

    Args:
        l_in: Largest degree of the input.
        l_out: Largest degree of the output; degrees above l_in are zero.
        num_channels: Channels of input and output.
        num_elements: Number of elements.
    """

    def __init__(self, l_in: int, l_out: int, num_channels: int, num_elements: int) -> None:
        super().__init__()
        self.l_out = l_out
        degrees = min(l_in, l_out) + 1
        self.weight = nn.Parameter(torch.randn(degrees, num_elements, num_channels, num_channels))

    def forward(self, features: Tensor, node_types: Tensor) -> Tensor:
        """Shape [n_nodes, (l_in+1)^2, C] to [n_nodes, (l_out+1)^2, C]."""
        degrees, num_elements, channels, _ = self.weight.shape
        weight = (self.weight * (num_elements * channels) ** -0.5).flatten(1, 2)
        one_hot = nn.functional.one_hot(node_types, num_elements).to(features.dtype)
        spread = (one_hot[:, None, :, None] * features[:, : degrees**2, None, :]).flatten(2)
        blocks = [spread[:, degree_slice(degree)] @ weight[degree] for degree in range(degrees)]
        missing = (self.l_out + 1) ** 2 - degrees**2
        if missing:
            blocks.append(features.new_zeros(features.shape[0], missing, channels))
        return torch.cat(blocks, dim=1)


class Interaction(nn.Module):
    """Residual interaction: Linear, edge product with radial weights, Linear; and the element-dependent skip.

    Args:
        edge_product: Factory of the edge product, called with l_in, l_edge, l_out.
        l_in: Largest degree of the node features.
        l_edge: Largest degree of the edge harmonics (max_ell), also of the messages.
        l_skip: Largest degree of the skip connection, that of the node product after it.
        num_channels: Channels.
        num_elements: Number of elements.
        radial_widths: Width of the radial basis and of the hidden layers.
        gate: Activation of the radial network.
        avg_num_neighbors: Messages are divided by it.
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
    ) -> None:
        super().__init__()
        self.avg_num_neighbors = avg_num_neighbors
        self.linear_up = EquivariantLinear((1,) * (l_in + 1), num_channels, num_channels)
        self.edge_product = edge_product(l_in, l_edge, l_edge)
        weight_numel = self.edge_product.weight_numel
        self.radial_mlp = MLP([*radial_widths, weight_numel * num_channels], gate)
        self.linear = EquivariantLinear(self.edge_product.num_paths_out, num_channels, num_channels)
        self.skip = ElementLinear(l_in, l_skip, num_channels, num_elements)

    def forward(
        self, node_feats: Tensor, node_types: Tensor, edge_attrs: Tensor, edge_feats: Tensor, edge_index: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Messages and skip connection.

        Args:
            node_feats: Shape [n_nodes, (l_in+1)^2, C].
            node_types: Shape [n_nodes].
            edge_attrs: Harmonics, shape [n_edges, (l_edge+1)^2].
            edge_feats: Radial basis, shape [n_edges, num_bessel].
            edge_index: Shape [2, n_edges].

        Returns:
            A, shape [n_nodes, (l_edge+1)^2, C], and the skip, shape [n_nodes, (l_skip+1)^2, C].
        """
        weights = self.radial_mlp(edge_feats).unflatten(1, (self.edge_product.weight_numel, -1))
        messages = self.edge_product(self.linear_up(node_feats), edge_attrs, weights, edge_index)
        return self.linear(messages) / self.avg_num_neighbors, self.skip(node_feats, node_types)


class Product(nn.Module):
    """Node product, Linear, plus the skip connection: the features of the next layer.

    Args:
        node_product: Factory, called with l_in, l_out, correlation, num_elements, num_channels.
        l_in: Largest degree of A.
        l_out: Largest degree of the result.
        correlation: Highest order.
        num_elements: Number of elements.
        num_channels: Channels.
    """

    def __init__(
        self,
        node_product: NodeProductFactory,
        l_in: int,
        l_out: int,
        correlation: int,
        num_elements: int,
        num_channels: int,
    ) -> None:
        super().__init__()
        self.node_product = node_product(l_in, l_out, correlation, num_elements, num_channels)
        self.linear = EquivariantLinear((1,) * (l_out + 1), num_channels, num_channels)

    def forward(self, messages: Tensor, skip: Tensor, node_types: Tensor) -> Tensor:
        """Shape [n_nodes, (l_in+1)^2, C] and skip [n_nodes, (l_out+1)^2, C] to [n_nodes, (l_out+1)^2, C]."""
        result: Tensor = self.linear(self.node_product(messages, node_types)) + skip
        return result


class LinearReadout(nn.Module):
    """Scalars to an energy, linearly.

    Args:
        num_channels: Channels of the features.
    """

    def __init__(self, num_channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(num_channels))

    def forward(self, node_feats: Tensor) -> Tensor:
        """Shape [n_nodes, components, C] to [n_nodes]."""
        return node_feats[:, 0] @ (self.weight * self.weight.shape[0] ** -0.5)


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
        """Shape [n_nodes, components, C] to [n_nodes]."""
        result: Tensor = self.mlp(node_feats[:, 0])[:, 0]
        return result
