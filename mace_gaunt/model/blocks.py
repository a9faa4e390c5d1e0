"""Blocks of MACE: embedding, interaction, product, readout.

Source: Batatia et al., NeurIPS 2022, and the RealAgnostic...InteractionBlocks of its code. All weights are of order one
and scaled by 1/sqrt(fan-in) when applied, as in e3nn.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from mace_gaunt.errors import nearest
from mace_gaunt.model.element_linear import ElementLinear
from mace_gaunt.model.radial import MLP
from mace_gaunt.model.selfmix import Selfmix, add_natural
from mace_gaunt.so3.linear import EquivariantLinear
from mace_gaunt.so3.mirror import mirror_values
from mace_gaunt.so3.scatter import rows_of, scatter_sum
from mace_gaunt.tensor_products.contracts import EdgeProduct, NodeProduct

EdgeProductFactory = Callable[..., EdgeProduct]
"""Called with l_in, l_edge, l_out and the keywords num_channels, pseudo_in."""
NodeProductFactory = Callable[..., NodeProduct]
"""Called with l_in, l_out, correlation, num_elements, num_channels and the keyword pseudo_in."""


INTERACTIONS = ("residual", "agnostic", "density_residual", "density")
"""Kinds of `Interaction`: MACE's RealAgnostic{Residual, (nothing), DensityResidual, Density}InteractionBlock."""


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
        return rows_of(self.weight * self.weight.shape[0] ** -0.5, node_types)[:, None]


class Interaction(nn.Module):
    """Linear, edge product with radial weights, Linear; and an element-dependent map.

    In the residual kinds that map is a skip connection from the node features to behind the node product; in the
    others it is applied to the messages, and nothing is skipped. The density kinds divide messages by one more than
    the sum over the neighbours of a learned number in 0..1, the others by the mean number of neighbours.

    Args:
        edge_product: Factory of the edge product.
        l_in: Largest degree of the node features.
        l_edge: Largest degree of the edge harmonics (max_ell), also of the messages.
        l_skip: Largest degree of the skip connection, that of the node product after it.
        num_channels: Channels.
        num_elements: Number of elements.
        radial_widths: Width of the radial basis and of the hidden layers.
        gate: Activation of the radial network.
        avg_num_neighbors: Messages are divided by it, except in the density kinds.
        pseudo_in: Whether the node features have the parity axis.
        kind: One of `INTERACTIONS`.

    Raises:
        ValueError: If there is no such kind.
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
        kind: str = "residual",
    ) -> None:
        super().__init__()
        if kind not in INTERACTIONS:
            raise ValueError(f"unknown interaction '{kind}'.{nearest(kind, INTERACTIONS)}")
        self.avg_num_neighbors = avg_num_neighbors
        self.residual = kind.endswith("residual")
        self.linear_up = EquivariantLinear((1,) * (l_in + 1), num_channels, num_channels, pseudo=pseudo_in)
        self.edge_product = edge_product(l_in, l_edge, l_edge, num_channels=num_channels, pseudo_in=pseudo_in)
        self.pseudo_out = self.edge_product.pseudo_out
        weight_numel = self.edge_product.weight_numel
        self.radial_mlp = MLP([*radial_widths, weight_numel * num_channels], gate)
        num_paths = self.edge_product.num_paths_out
        self.linear = EquivariantLinear(num_paths, num_channels, num_channels, pseudo=self.pseudo_out)
        if self.residual:
            self.skip = ElementLinear(l_in, l_skip, num_channels, num_elements, pseudo=pseudo_in)
        else:
            self.skip = ElementLinear(l_edge, l_edge, num_channels, num_elements, pseudo=self.pseudo_out)
        self.density_weight: nn.Parameter | None = None
        if kind.startswith("density"):
            self.density_weight = nn.Parameter(torch.randn(radial_widths[0], 1))

    def forward(
        self,
        node_feats: Tensor,
        node_types: Tensor,
        edge_attrs: Tensor,
        edge_feats: Tensor,
        edge_index: Tensor,
        envelope: Tensor | None = None,
        *,
        mirrored: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Messages and skip connection.

        Args:
            node_feats: Shape [n_nodes, (l_in+1)^2, C]; [n_nodes, 2, (l_in+1)^2, C] if `pseudo_in`.
            node_types: Shape [n_nodes].
            edge_attrs: Harmonics, shape [n_edges, (l_edge+1)^2].
            edge_feats: Radial basis, shape [n_edges, num_bessel]; if mirrored, of the first n_edges / 2.
            edge_index: Shape [2, n_edges].
            envelope: Factor of the radial weights that vanishes at the cutoff, where it is not in `edge_feats`, shape
                [n_edges, 1]; if mirrored, of the first n_edges / 2.
            mirrored: Whether the second half of the edges is the first half the other way round, in the same order. The
                radial network, the largest part of a step, is then evaluated for one half only.

        Returns:
            A, shape [n_nodes, (l_edge+1)^2, C], and the skip, shape [n_nodes, (l_skip+1)^2, C], or None where nothing
            is skipped; A with the parity axis if `pseudo_out`, the skip if `pseudo_in`.
        """
        weights = self.radial_mlp(edge_feats)
        weights = (weights if envelope is None else weights * envelope).unflatten(
            1, (self.edge_product.weight_numel, -1)
        )
        weights = mirror_values(weights) if mirrored else weights
        messages = self.linear(self.edge_product(self.linear_up(node_feats), edge_attrs, weights, edge_index))
        if self.density_weight is None:
            messages = messages / self.avg_num_neighbors
        else:
            density = self.density(edge_feats, edge_index, node_feats.shape[0], envelope, mirrored=mirrored)
            messages = messages / (density + 1).unflatten(0, (-1, *[1] * (messages.dim() - 2)))
        if self.residual:
            return messages, self.skip(node_feats, node_types)
        return self.skip(messages, node_types), None

    def density(
        self, edge_feats: Tensor, edge_index: Tensor, num_nodes: int, envelope: Tensor | None, *, mirrored: bool
    ) -> Tensor:
        """Sum over the neighbours of tanh((w . radial basis)^2), shape [n_nodes, 1]; arguments as in `forward`."""
        assert self.density_weight is not None
        weight = self.density_weight * self.density_weight.shape[0] ** -0.5
        values = torch.tanh((edge_feats @ weight).square())
        values = values if envelope is None else values * envelope
        return scatter_sum(mirror_values(values) if mirrored else values, edge_index[1], num_nodes)


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

    def forward(self, messages: Tensor, skip: Tensor | None, node_types: Tensor) -> Tensor:
        """A [n_nodes, (l_in+1)^2, C] and skip [n_nodes, (l_out+1)^2, C] to [n_nodes, (l_out+1)^2, C].

        A has the parity axis if `pseudo_in`, the result if `pseudo_out`; the skip may lack it: it is natural then.
        """
        result = self.linear(self.node_product(messages, node_types))
        result = result if skip is None else add_natural(result, skip)
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
