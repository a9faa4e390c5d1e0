"""Gaunt products on a grid of the sphere: synthesize, multiply pointwise, analyse.

Source: the grid form of the Gaunt tensor product (Xie et al., "The Price of Freedom in Selecting Tensor Products",
ICML 2025); the sum over neighbours is taken on the grid, so that the analysis runs once per receiving node.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from mace_gaunt.so3.layout import degree_components, degree_of_component
from mace_gaunt.so3.maps import apply_matrix, by_degree, weigh
from mace_gaunt.so3.quadrature import analysis_matrix, smallest_rule, synthesis_matrix
from mace_gaunt.so3.scatter import scatter_sum
from mace_gaunt.so3.tables import TableModule
from mace_gaunt.tensor_products.contracts import EdgeKernel
from mace_gaunt.tensor_products.kernels.sparse import in_slices

LARGE_DEGREE = 24
"""From this degree of the rule on, half of the arithmetic is worth a few more operations (measured on CPU)."""


class GridEdgeKernel(EdgeKernel):
    """Edge product with the filter evaluated on the grid by the addition theorem.

    Args:
        l_in: Largest degree of the node features.
        l_edge: Largest degree of the edge harmonics.
        l_out: Largest degree of the messages.
        normalizers: Factor of each output degree, length l_out + 1.
    """

    synthesis: Tensor
    filters: Tensor
    analysis: Tensor

    def __init__(self, l_in: int, l_edge: int, l_out: int, normalizers: Sequence[float]) -> None:
        super().__init__()
        rule = smallest_rule(l_in + l_edge + l_out)
        factors = torch.tensor(normalizers, dtype=torch.float64)[degree_of_component(l_out)]
        self.register_table("synthesis", synthesis_matrix(rule, l_in))
        self.register_table("analysis", analysis_matrix(rule, l_out) * factors[:, None])
        self.register_table("filters", by_degree(synthesis_matrix(rule, l_edge).T, l_edge))

    def edge_filter(self, edge_attrs: Tensor, weights: Tensor) -> Tensor:
        """F[e, p, c] = sum over l of w[e, l, c] sum over m of Y_lm(edge) Y_lm(point), shape [n_edges, P, C]."""
        return weigh(edge_attrs @ self.filters, weights)

    def couple(self, node_feats: Tensor, edge_attrs: Tensor, weights: Tensor) -> Tensor:
        """Per edge, shape [n_edges, (l_out+1)^2, C]."""
        return self.analysis @ (self.edge_filter(edge_attrs, weights) * (self.synthesis @ node_feats))

    def forward(self, node_feats: Tensor, edge_attrs: Tensor, weights: Tensor, edge_index: Tensor) -> Tensor:
        """Summed over neighbours, shape [n_nodes, (l_out+1)^2, C]."""
        sender, receiver = edge_index[0], edge_index[1]
        values = self.edge_filter(edge_attrs, weights) * (self.synthesis @ node_feats)[sender]
        return self.analysis @ scatter_sum(values, receiver, node_feats.shape[0])


class GridFeatureKernel(TableModule):
    """Two features multiplied pointwise on the smallest grid that is exact.

    On large grids even and odd degrees are kept apart: at -p an odd one has the opposite sign, so with f = a + b at p
    and a - b at -p the product's even part is a a' + b b' and its odd part a b' + b a'. One of each pair of opposite
    points is enough then, and half of the arithmetic.

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
        super().__init__()
        rule = smallest_rule(max(degrees_x) + max(degrees_y) + max(degrees_out))
        half = one_of_each_pair(rule.points) if rule.degree >= LARGE_DEGREE else None
        self.by_parity, self.num_points = half is not None, rule.num_points
        factors = torch.tensor(normalizers, dtype=torch.float64).repeat_interleave(2 * torch.tensor(degrees_out) + 1)
        analysis = analysis_matrix(rule, max(degrees_out))[degree_components(degrees_out)] * factors[:, None]
        tables = {
            "x": synthesis_matrix(rule, max(degrees_x))[:, degree_components(degrees_x)],
            "y": synthesis_matrix(rule, max(degrees_y))[:, degree_components(degrees_y)],
            "out": analysis.T,
        }
        if half is None:
            for name, table in tables.items():
                self.register_table(name, table.T.contiguous() if name == "out" else table)
            return
        orders = []
        for (name, table), degrees in zip(tables.items(), (degrees_x, degrees_y, degrees_out), strict=True):
            parity = torch.tensor(degrees).repeat_interleave(2 * torch.tensor(degrees) + 1) % 2
            for odd, word in enumerate(("even", "odd")):
                (rows,) = torch.nonzero(parity == odd, as_tuple=True)
                kept = table[half][:, rows]
                self.register_table(f"{name}_{word}", 2.0 * kept.T if name == "out" else kept)
                self.register_buffer(f"{name}_{word}_rows", rows, persistent=False)
                orders += [rows] if name == "out" else []
        self.register_buffer("order", torch.cat(orders).argsort(), persistent=False)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Shapes as in `FeatureProduct.forward`, natural features."""
        if not self.by_parity:
            signals = apply_matrix(self.get_buffer("x"), x) * apply_matrix(self.get_buffer("y"), y)
            return apply_matrix(self.get_buffer("out"), signals)
        return in_slices(self.product_by_parity, (x, y), self.num_points * x.shape[2])

    def product_by_parity(self, x: Tensor, y: Tensor) -> Tensor:
        """The product of some rows from one of each pair of opposite points."""
        (even_x, odd_x), (even_y, odd_y) = self.signals("x", x), self.signals("y", y)
        even = apply_matrix(self.get_buffer("out_even"), even_x * even_y + odd_x * odd_y)
        odd = apply_matrix(self.get_buffer("out_odd"), even_x * odd_y + odd_x * even_y)
        return torch.cat([even, odd], dim=1).index_select(1, self.get_buffer("order"))

    def signals(self, name: str, features: Tensor) -> list[Tensor]:
        """Even and odd part of a feature's signal at the kept points, [n, P/2, C] each."""
        return [
            apply_matrix(
                self.get_buffer(f"{name}_{word}"), features.index_select(1, self.get_buffer(f"{name}_{word}_rows"))
            )
            for word in ("even", "odd")
        ]


def one_of_each_pair(points: np.ndarray) -> Tensor | None:
    """Indices of points of which no two are opposite, half of all; None unless every point has its opposite.

    Args:
        points: On the unit sphere, shape [P, 3].
    """
    opposite = np.argwhere(points @ points.T < -1.0 + 1e-12)
    kept = opposite[opposite[:, 0] < opposite[:, 1], 0]
    return torch.from_numpy(kept) if 2 * len(kept) == len(points) == len(opposite) else None


class GridNodeKernel(TableModule):
    """Powers 1..correlation of a spherical signal, analysed order by order.

    Args:
        l_in: Largest degree of the signal.
        l_out: Largest degree of the result.
        correlation: Highest power.
        normalizers: Factor of each order and output degree, shape [correlation, l_out + 1].
    """

    synthesis: Tensor
    analysis: Tensor

    def __init__(self, l_in: int, l_out: int, correlation: int, normalizers: Tensor) -> None:
        super().__init__()
        rule = smallest_rule(correlation * l_in + l_out)
        factors = normalizers[:, degree_of_component(l_out)]
        self.register_table("synthesis", synthesis_matrix(rule, l_in))
        self.register_table("analysis", analysis_matrix(rule, l_out) * factors[..., None])

    def forward(self, node_feats: Tensor) -> Tensor:
        """Analysed powers.

        Args:
            node_feats: Shape [n_nodes, (l_in+1)^2, C].

        Returns:
            Shape [correlation, n_nodes, (l_out+1)^2, C].
        """
        signal = self.synthesis @ node_feats
        power, orders = signal, []
        for order, analysis in enumerate(self.analysis):
            power = signal if order == 0 else power * signal
            orders.append(analysis @ power)
        return torch.stack(orders)


class GridFactorsKernel(TableModule):
    """Product of several different signals, analysed.

    Args:
        l_in: Largest degree of the signals.
        l_out: Largest degree of the result.
        num_factors: Number of signals.
        normalizers: Factor of each output degree, shape [l_out + 1].
    """

    synthesis: Tensor
    analysis: Tensor

    def __init__(self, l_in: int, l_out: int, num_factors: int, normalizers: Tensor) -> None:
        super().__init__()
        rule = smallest_rule(num_factors * l_in + l_out)
        self.num_factors = num_factors
        self.register_table("synthesis", synthesis_matrix(rule, l_in))
        self.register_table("analysis", analysis_matrix(rule, l_out) * normalizers[degree_of_component(l_out), None])

    def forward(self, factors: Tensor) -> Tensor:
        """All factors side by side in the channels, [n, (l_in+1)^2, num_factors * C], to [n, (l_out+1)^2, C]."""
        signals = (self.synthesis @ factors).chunk(self.num_factors, dim=2)
        product = signals[0]
        for signal in signals[1:]:
            product = product * signal
        return self.analysis @ product
