"""Gaunt products in the basis of harmonics, from the nonzero Gaunt coefficients: no transform to the sphere.

Source: the Gaunt tensor product of Luo, Chen, Krishnapriyan, ICLR 2024, by its definition. The coefficients vanish
unless l1 + l2 + l3 is even.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mace_gaunt.so3.coefficients import gaunt
from mace_gaunt.so3.layout import degree_of_component, num_components
from mace_gaunt.so3.scatter import scatter_sum
from mace_gaunt.so3.tables import TableModule
from mace_gaunt.tensor_products.contracts import EdgeKernel, Path, coupled_paths
from mace_gaunt.tensor_products.kernels.cg_dense import block_starts
from mace_gaunt.tensor_products.kernels.sparse import (
    Couplings,
    SparseBilinear,
    collect_couplings,
    components_first,
    components_last,
    in_slices,
    matrices_times,
)

LARGE_FACTOR = 50
"""From this many weighted components on, keeping even and odd degrees apart is faster (measured on CPU)."""


def gaunt_couplings(
    degrees_x: Sequence[int], degrees_y: Sequence[int], degrees_out: Sequence[int], factors: Sequence[float]
) -> Couplings:
    """The nonzero Gaunt coefficients between some degrees, times a factor of each output degree.

    Args:
        degrees_x: Degrees of the first factor.
        degrees_y: Degrees of the second.
        degrees_out: Degrees of the result.
        factors: One per output degree.
    """
    starts, factor_of = block_starts(degrees_out), dict(zip(degrees_out, factors, strict=True))

    def blocks() -> Iterator[tuple[Path, range, np.ndarray]]:
        for path in coupled_paths(degrees_x, degrees_y, degrees_out):
            rows = range(starts[path[2]], starts[path[2]] + 2 * path[2] + 1)
            yield path, rows, gaunt(*path) * factor_of[path[2]]

    return collect_couplings(degrees_x, degrees_y, sum(2 * degree + 1 for degree in degrees_out), blocks())


class DirectFeatureKernel(SparseBilinear):
    """All products of two components, then one sparse matrix product.

    Args:
        degrees_x: Degrees of the first feature.
        degrees_y: Degrees of the second.
        degrees_out: Degrees of the result.
        normalizers: Factor of each output degree.
    """

    def __init__(
        self,
        degrees_x: Sequence[int],
        degrees_y: Sequence[int],
        degrees_out: Sequence[int],
        normalizers: Sequence[float],
    ) -> None:
        super().__init__(gaunt_couplings(degrees_x, degrees_y, degrees_out, normalizers))


class DirectEdgeKernel(EdgeKernel):
    """One matrix per edge, from the features times the weight of each harmonic degree to the message.

    Half of the coefficients vanish since l1 + l2 + l3 is odd: where they are many, even and odd degrees are apart.
    Zeros are left in the table that makes the matrices of harmonics: that product has no channels.

    Args:
        l_in: Largest degree of the node features.
        l_edge: Largest degree of the edge harmonics.
        l_out: Largest degree of the messages.
        normalizers: Factor of each output degree, length l_out + 1.
    """

    by_class: Tensor
    in_order: Tensor

    def __init__(self, l_in: int, l_edge: int, l_out: int, normalizers: Sequence[float]) -> None:
        super().__init__()
        coupling = gaunt_couplings(range(l_in + 1), range(l_edge + 1), range(l_out + 1), normalizers).dense()
        self.num_classes = 2 if num_components(l_in) * (l_edge + 1) >= LARGE_FACTOR else 1
        classes_in, classes_out = (degree_classes(degree, self.num_classes) for degree in (l_in, l_out))
        self.register_buffer("by_class", torch.cat(classes_in), persistent=False)
        self.register_buffer("in_order", torch.argsort(torch.cat(classes_out)), persistent=False)
        self.sizes = [len(components) for components in classes_in]
        self.plan: list[list[tuple[int, int, str]]] = []
        for out, rows in enumerate(classes_out):
            self.plan.append([])
            for edge in range(min(l_edge + 1, self.num_classes)):
                feature = (out + edge) % self.num_classes
                degrees = range(edge, l_edge + 1, self.num_classes)
                table = by_edge_degree(coupling[rows][:, classes_in[feature]], degrees)
                # [harmonic, (row, edge degree, component)] for one GEMM over all edges
                self.register_table(f"coupling_{out}_{edge}", table.flatten(1))
                self.plan[-1].append((edge, feature, f"coupling_{out}_{edge}"))

    def messages(self, node_feats: Tensor, edge_attrs: Tensor, weights: Tensor) -> Iterator[Tensor]:
        """The rows of each class of degrees, [n_edges, rows, C]; the features come in the order of classes."""
        features = [part[:, None] for part in node_feats.split(self.sizes, dim=1)]
        factors = [weights[:, edge :: self.num_classes, None] for edge in range(self.num_classes)]
        for terms in self.plan:
            found = []
            for edge, feature, name in terms:
                weighted = (factors[edge] * features[feature]).flatten(1, 2)
                matrices = (edge_attrs @ self.get_buffer(name)).unflatten(1, (-1, weighted.shape[1]))
                found.append(matrices_times(matrices, weighted))
            yield sum(found[1:], found[0])

    def couple(self, node_feats: Tensor, edge_attrs: Tensor, weights: Tensor) -> Tensor:
        """Per edge, shape [n_edges, (l_out+1)^2, C]."""
        feats = node_feats.index_select(1, self.by_class)
        return torch.cat(list(self.messages(feats, edge_attrs, weights)), dim=1).index_select(1, self.in_order)

    def forward(self, node_feats: Tensor, edge_attrs: Tensor, weights: Tensor, edge_index: Tensor) -> Tensor:
        """Summed over neighbours, shape [n_nodes, (l_out+1)^2, C]."""
        sender, receiver = edge_index[0], edge_index[1]
        messages = self.messages(node_feats.index_select(1, self.by_class)[sender], edge_attrs, weights)
        summed = [scatter_sum(message, receiver, node_feats.shape[0]) for message in messages]
        return torch.cat(summed, dim=1).index_select(1, self.in_order)


def degree_classes(l_max: int, num_classes: int) -> list[Tensor]:
    """Components of all degrees, or of the even and of the odd ones; classes without any are left out."""
    of_component = degree_of_component(l_max) % num_classes
    return [torch.nonzero(of_component == k)[:, 0] for k in range(min(l_max + 1, num_classes))]


def by_edge_degree(coupling: Tensor, edge_degrees: Sequence[int]) -> Tensor:
    """Keep some degrees of the harmonics apart.

    Args:
        coupling: Shape [rows, components, harmonics].
        edge_degrees: The degrees.

    Returns:
        Shape [harmonics, rows, degrees, components].
    """
    rows, components, harmonics = coupling.shape
    result = coupling.new_zeros(harmonics, rows, len(edge_degrees), components)
    for position, degree in enumerate(edge_degrees):
        block = slice(degree**2, (degree + 1) ** 2)
        result[block, :, position] = coupling[..., block].permute(2, 0, 1)
    return result


class DirectNodeKernel(TableModule):
    """Powers 1..correlation of a signal, each the product of the one below with the signal.

    A power keeps the degrees that the orders above still need.

    Args:
        l_in: Largest degree of the signal.
        l_out: Largest degree of the result.
        correlation: Highest power.
        normalizers: Factor of each order and output degree, shape [correlation, l_out + 1].
    """

    factors: Tensor

    def __init__(self, l_in: int, l_out: int, correlation: int, normalizers: Tensor) -> None:
        super().__init__()
        self.num_out = num_components(l_out)
        self.register_table("factors", normalizers[:, degree_of_component(l_out), None])
        self.steps: Any = nn.ModuleList()
        below = l_in
        for order in range(2, correlation + 1):
            top = min(order * l_in, l_out + (correlation - order) * l_in)
            degrees = range(below + 1), range(l_in + 1), range(top + 1)
            self.steps.append(SparseBilinear(gaunt_couplings(*degrees, [1.0] * (top + 1))))
            below = top

    def forward(self, node_feats: Tensor) -> Tensor:
        """Analysed powers, shapes as in `GridNodeKernel.forward`."""
        floats = max([step.num_pairs for step in self.steps], default=1) * node_feats.shape[2]
        return in_slices(self.powers, (node_feats,), floats).transpose(0, 1)

    def powers(self, node_feats: Tensor) -> Tensor:
        """Some nodes: [n, (l_in+1)^2, C] to [n, correlation, (l_out+1)^2, C]."""
        signal = components_first(node_feats)
        found = [signal]
        for step in self.steps:
            found.append(step.of_components(found[-1], signal))
        rows = [self.fitted(power) * factor for power, factor in zip(found, self.factors, strict=True)]
        return components_last(torch.cat(rows), node_feats).unflatten(1, (-1, self.num_out))

    def fitted(self, power: Tensor) -> Tensor:
        """Its first rows, up to those of the result; zeros where it ends before."""
        missing = self.num_out - power.shape[0]
        return torch.cat([power, power.new_zeros(missing, power.shape[1])]) if missing > 0 else power[: self.num_out]
