"""Gaunt products on a grid of the sphere: synthesize, multiply pointwise, analyse.

Source: the grid form of the Gaunt tensor product (Xie et al., "The Price of Freedom in Selecting Tensor Products",
ICML 2025); the sum over neighbours is taken on the grid, so that the analysis runs once per receiving node.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from mace_gaunt.so3.layout import degree_components, degree_of_component
from mace_gaunt.so3.maps import apply_matrix, by_degree, weigh
from mace_gaunt.so3.quadrature import analysis_matrix, smallest_rule, synthesis_matrix
from mace_gaunt.so3.scatter import scatter_sum
from mace_gaunt.so3.tables import TableModule
from mace_gaunt.tensor_products.contracts import EdgeKernel


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

    Args:
        degrees_x: Degrees of the first feature.
        degrees_y: Degrees of the second.
        degrees_out: Degrees of the result.
        normalizers: Factor of each output degree.
    """

    synthesis_x: Tensor
    synthesis_y: Tensor
    analysis: Tensor

    def __init__(
        self,
        degrees_x: Sequence[int],
        degrees_y: Sequence[int],
        degrees_out: Sequence[int],
        normalizers: Sequence[float],
    ) -> None:
        super().__init__()
        rule = smallest_rule(max(degrees_x) + max(degrees_y) + max(degrees_out))
        for name, degrees in (("synthesis_x", degrees_x), ("synthesis_y", degrees_y)):
            self.register_table(name, synthesis_matrix(rule, max(degrees))[:, degree_components(degrees)])
        factors = torch.tensor(normalizers, dtype=torch.float64).repeat_interleave(2 * torch.tensor(degrees_out) + 1)
        analysis = analysis_matrix(rule, max(degrees_out))[degree_components(degrees_out)]
        self.register_table("analysis", analysis * factors[:, None])

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Shapes as in `FeatureProduct.forward`, natural features."""
        return apply_matrix(self.analysis, apply_matrix(self.synthesis_x, x) * apply_matrix(self.synthesis_y, y))


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
