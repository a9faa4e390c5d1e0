"""Scalars of whole structures, read from the trunk of MACE: even ones (0e), and odd ones (0o) that a mirror negates."""

import copy
import re
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mace_gaunt.model.blocks import (
    EdgeProductFactory,
    ElementEmbedding,
    Interaction,
    NodeProductFactory,
    natural_scalars,
)
from mace_gaunt.model.radial import BesselBasis
from mace_gaunt.model.trunk import build_layers, check_trunk, layer_features
from mace_gaunt.so3.harmonics import spherical_harmonics
from mace_gaunt.so3.scatter import scatter_sum


class GraphScalars(nn.Module):
    """Scalars of a structure: sums over its atoms of Linears of the last layer's scalars and pseudoscalars.

    Args:
        outputs: What is asked for, as "7x0e + 1x0o".
        r_max: Cutoff radius (Å).
        num_bessel: Number of radial functions.
        num_polynomial_cutoff: Order of the cutoff envelope.
        max_ell: Largest degree of edge harmonics and messages.
        max_L: Largest degree of the features between layers.
        num_channels: Channels per degree.
        correlation: Highest order of the node product.
        num_interactions: Layers.
        radial_MLP: Hidden widths of the radial networks.
        gate: Activation of the radial networks: silu, tanh, sigmoid, gelu.
        num_elements: Elements that `node_types` tell apart.
        avg_num_neighbors: Mean number of neighbours in the training set.
        edge_product: Factory of the edge products (`EdgeProductFactory`).
        node_product: Factory of the node products (`NodeProductFactory`).

    Raises:
        ValueError: If an argument is impossible, or 0o is asked for and no path leads to it.
    """

    def __init__(
        self,
        *,
        outputs: str,
        r_max: float = 5.0,
        num_bessel: int = 8,
        num_polynomial_cutoff: int = 5,
        max_ell: int = 3,
        max_L: int = 1,
        num_channels: int = 64,
        correlation: int = 3,
        num_interactions: int = 2,
        radial_MLP: Sequence[int] = (64, 64, 64),
        gate: str = "silu",
        num_elements: int = 1,
        avg_num_neighbors: float,
        edge_product: EdgeProductFactory,
        node_product: NodeProductFactory,
    ) -> None:
        super().__init__()
        check_trunk(r_max, num_bessel, num_channels, num_interactions, avg_num_neighbors)
        self.num_even, self.num_odd = count_scalars(outputs)
        self.r_max, self.num_bessel = float(r_max), num_bessel
        self.max_ell, self.max_L, self.correlation = max_ell, max_L, correlation
        self.embedding = ElementEmbedding(num_elements, num_channels)
        self.radial_basis = BesselBasis(self.r_max, num_bessel, num_polynomial_cutoff)
        layers = build_layers(
            num_interactions=num_interactions,
            max_ell=max_ell,
            max_L=max_L,
            correlation=correlation,
            num_channels=num_channels,
            num_elements=num_elements,
            radial_widths=[num_bessel, *radial_MLP],
            gate=gate,
            avg_num_neighbors=avg_num_neighbors,
            edge_product=edge_product,
            node_product=node_product,
        )
        interactions, products = zip(*layers, strict=True)
        self.interactions, self.products = nn.ModuleList(interactions), nn.ModuleList(products)
        self.even_weight = nn.Parameter(torch.randn(num_channels, self.num_even))
        self.odd_weight = nn.Parameter(torch.randn(num_channels, self.num_odd))
        self.to(torch.get_default_dtype())
        if self.num_odd and not self.reaches_pseudoscalars():
            raise ValueError(self.why_out_of_reach(edge_product, node_product))

    @property
    def dtype(self) -> torch.dtype:
        """Precision of the weights."""
        return self.embedding.weight.dtype

    def forward(
        self, vectors: Tensor, node_types: Tensor, edge_index: Tensor, graph_index: Tensor, num_graphs: int
    ) -> tuple[Tensor, Tensor]:
        """The scalars of each structure.

        Args:
            vectors: positions[receiver] - positions[sender] + shifts, shape [n_edges, 3] (Å), the model's dtype.
            node_types: Element indices, shape [n_nodes], int64.
            edge_index: Senders and receivers, shape [2, n_edges], int64.
            graph_index: Structure of each node, shape [n_nodes], int64.
            num_graphs: Number of structures.

        Returns:
            The 0e, shape [n_graphs, num_even], and the 0o, shape [n_graphs, num_odd].
        """
        lengths = torch.linalg.vector_norm(vectors, dim=-1, keepdim=True)
        edge_attrs = spherical_harmonics(vectors / lengths, self.max_ell)
        features = self.node_features(node_types, edge_attrs, self.radial_basis(lengths), edge_index)
        even = scatter_sum(natural_scalars(features) @ self.even_weight, graph_index, num_graphs)
        odd = scatter_sum(pseudoscalars(features) @ self.odd_weight, graph_index, num_graphs)
        scale = self.even_weight.shape[0] ** -0.5
        return even * scale, odd * scale

    def node_features(self, node_types: Tensor, edge_attrs: Tensor, edge_feats: Tensor, edge_index: Tensor) -> Tensor:
        """Features of the last layer, shape [n_nodes, 1, C], or [n_nodes, 2, 1, C] with pseudo-tensors."""
        embedded = self.embedding(node_types)
        layers = layer_features(
            self.interactions, self.products, embedded, node_types, edge_attrs, edge_feats, edge_index
        )
        *_, last = layers
        return last

    def reaches_pseudoscalars(self) -> bool:
        """Whether five atoms without any symmetry have pseudoscalars in the last layer.

        Which degrees and orders lead there depends on the families: a try with random weights asks them all. Its
        edges have random features and are not averaged, so that no small number is mistaken for zero.
        """
        generator = torch.Generator().manual_seed(0)
        sender, receiver = torch.nonzero(~torch.eye(5, dtype=torch.bool)).T
        points = torch.randn(5, 3, generator=generator, dtype=torch.float64)
        edge_feats = torch.randn(len(sender), self.num_bessel, generator=generator, dtype=torch.float64)
        directions = nn.functional.normalize(points[receiver] - points[sender], dim=1)
        model = copy.deepcopy(self).double()
        for interaction in model.interactions:
            assert isinstance(interaction, Interaction)
            interaction.avg_num_neighbors = 1.0
        with torch.no_grad():
            features = model.node_features(
                torch.zeros_like(sender[:5]),
                spherical_harmonics(directions, self.max_ell),
                edge_feats,
                torch.stack([sender, receiver]),
            )
        return bool(pseudoscalars(features).abs().max() > 1e-9 * features.abs().max())

    def why_out_of_reach(self, edge_product: EdgeProductFactory, node_product: NodeProductFactory) -> str:
        """The paths that are missing on the way to 0o."""
        of_edges = edge_product(1, 1, 1, num_channels=1)
        of_nodes = node_product(1, 1, 2, 1, 1)
        if of_edges.pseudo_out or of_nodes.pseudo_out:
            return (
                f"0o cannot be reached with max_ell={self.max_ell}, max_L={self.max_L}, "
                f"correlation={self.correlation}, num_interactions={len(self.interactions)}: it takes 1o x 1o -> 1e "
                "and then 1e x 1o -> 0o, and degrees, orders or layers are too few for both. Raise one of them"
            )
        return (
            f"0o cannot be reached: edge product (family '{of_edges.family}') and node product (family "
            f"'{of_nodes.family}') couple only even l1 + l2 + l3, and of natural features (0e, 1o, 2e, ...) these make "
            "natural ones. Missing is an odd coupling such as 1o x 1o -> 1e, before 1e x 1o -> 0o. tensor_product="
            "vector_gaunt and tensor_product=matrix have odd couplings, Clebsch-Gordan edge products have them with "
            "model.edge_product.pseudo=true; or ask for outputs without 0o"
        )


def pseudoscalars(node_feats: Tensor) -> Tensor:
    """The odd scalars, shape [n_nodes, C]; zeros where the features have no parity axis."""
    return torch.zeros_like(node_feats[:, 0]) if node_feats.dim() == 3 else node_feats[:, 1, 0]


def count_scalars(outputs: str) -> tuple[int, int]:
    """Numbers of even and of odd scalars in "7x0e + 1x0o".

    Raises:
        ValueError: If there is anything but scalars.
    """
    counts = {"e": 0, "o": 0}
    for term in str(outputs).split("+"):
        match = re.fullmatch(r"\s*(?:(\d+)\s*x\s*)?0([eo])\s*", term)
        if match is None or match[1] == "0":
            raise ValueError(f"outputs holds scalars only, as '7x0e + 1x0o'; found '{outputs}'")
        counts[match[2]] += int(match[1] or 1)
    return counts["e"], counts["o"]
