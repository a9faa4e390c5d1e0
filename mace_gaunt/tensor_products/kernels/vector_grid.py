"""Pointwise products and Poisson brackets of spherical signals on one grid.

The bracket r . (grad f x grad g) of two signals couples degrees with an odd l1 + l2 + l3. The kernels differ in how
they hold a gradient: two components in tangent frames, or three in space, from vector spherical harmonics.
"""

from abc import abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor

from mace_gaunt.so3.gradients import gradient_in_frames, gradient_in_space
from mace_gaunt.so3.layout import degree_components
from mace_gaunt.so3.maps import apply_matrix, by_degree, weigh
from mace_gaunt.so3.quadrature import SphereRule, analysis_matrix, smallest_rule, synthesis_matrix
from mace_gaunt.so3.scatter import scatter_sum
from mace_gaunt.so3.tables import TableModule
from mace_gaunt.tensor_products.contracts import EdgeKernel


class Gradients(TableModule):
    """How a kernel holds surface gradients on the grid."""

    dimension: int

    @abstractmethod
    def table(self, rule: SphereRule, l_max: int) -> Tensor:
        """Normalised gradients of the harmonics, shape [dimension, P, (l_max+1)^2], float64."""

    @abstractmethod
    def bracket(self, f: Tensor, g: Tensor) -> Tensor:
        """r . (grad f x grad g): two [n, dimension, P, C] to [n, P, C]."""


class FrameGradients(Gradients):
    """Two components in a tangent frame at each point.

    Args:
        rule: The grid.
    """

    dimension = 2

    def __init__(self, rule: SphereRule) -> None:
        super().__init__()

    def table(self, rule: SphereRule, l_max: int) -> Tensor:
        """Shape [2, P, (l_max+1)^2]."""
        return gradient_in_frames(rule, l_max)

    def bracket(self, f: Tensor, g: Tensor) -> Tensor:
        """f1 g2 - f2 g1."""
        return f[:, 0] * g[:, 1] - f[:, 1] * g[:, 0]


class SpaceGradients(Gradients):
    """Three Cartesian components at each point.

    Args:
        rule: The grid.
    """

    dimension = 3
    points: Tensor

    def __init__(self, rule: SphereRule) -> None:
        super().__init__()
        self.register_table("points", torch.from_numpy(rule.points.T.copy())[..., None])

    def table(self, rule: SphereRule, l_max: int) -> Tensor:
        """Shape [3, P, (l_max+1)^2]."""
        return gradient_in_space(rule, l_max)

    def bracket(self, f: Tensor, g: Tensor) -> Tensor:
        """r . (f x g)."""
        cross = [f[:, i - 2] * g[:, i - 1] - f[:, i - 1] * g[:, i - 2] for i in range(3)]
        return cross[0] * self.points[0] + cross[1] * self.points[1] + cross[2] * self.points[2]


class VectorFeatureKernel(TableModule):
    """Pointwise product and bracket of two features.

    Args:
        degrees_x: Degrees of the first feature.
        degrees_y: Degrees of the second.
        degrees_out: Degrees of the result.
        even: Factor of each output degree for the pointwise product.
        odd: Factor of each output degree for the bracket.
    """

    gradients: type[Gradients]
    analysis: Tensor

    def __init__(
        self,
        degrees_x: Sequence[int],
        degrees_y: Sequence[int],
        degrees_out: Sequence[int],
        even: Sequence[float],
        odd: Sequence[float],
    ) -> None:
        super().__init__()
        rule = smallest_rule(max(degrees_x) + max(degrees_y) + max(degrees_out))
        self.form = self.gradients(rule)  # type: ignore[call-arg]
        self.shape = (self.form.dimension + 1, rule.num_points)
        for name, degrees in (("x", degrees_x), ("y", degrees_y)):
            values, slopes = synthesis_matrix(rule, max(degrees)), self.form.table(rule, max(degrees))
            table = torch.cat([values[None], slopes])[:, :, degree_components(degrees)]
            self.register_table(f"synthesis_{name}", table.flatten(0, 1))
        analysis = analysis_matrix(rule, max(degrees_out))[degree_components(degrees_out)]
        sizes = 2 * torch.tensor(degrees_out) + 1
        factors = torch.tensor([list(even), list(odd)], dtype=torch.float64).repeat_interleave(sizes, dim=1)
        self.register_table("analysis", analysis * factors[..., None])

    def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Even and odd couplings, [n, rows, C] each."""
        f = apply_matrix(self.get_buffer("synthesis_x"), x).unflatten(1, self.shape)
        g = apply_matrix(self.get_buffer("synthesis_y"), y).unflatten(1, self.shape)
        even = apply_matrix(self.analysis[0], f[:, 0] * g[:, 0])
        return even, apply_matrix(self.analysis[1], self.form.bracket(f[:, 1:], g[:, 1:]))


class PoissonFeatureKernel(VectorFeatureKernel):
    """With gradients in tangent frames."""

    gradients = FrameGradients


class VSHFeatureKernel(VectorFeatureKernel):
    """With gradients from vector spherical harmonics."""

    gradients = SpaceGradients


class VectorEdgeKernel(EdgeKernel):
    """Pointwise product and bracket of features with a filter on the grid, summed there.

    Args:
        l_in: Largest degree of the node features.
        l_edge: Largest degree of the edge harmonics.
        l_out: Largest degree of the messages.
        even: Factor of each output degree for the pointwise product.
        odd: Factor of each output degree for the bracket.
    """

    gradients: type[Gradients]
    synthesis: Tensor
    filters: Tensor
    slopes: Tensor
    analysis: Tensor

    def __init__(self, l_in: int, l_edge: int, l_out: int, even: Sequence[float], odd: Sequence[float]) -> None:
        super().__init__()
        rule = smallest_rule(l_in + l_edge + l_out)
        self.form = self.gradients(rule)  # type: ignore[call-arg]
        self.l_edge, self.num_points, dimension = l_edge, rule.num_points, self.form.dimension
        table = torch.cat([synthesis_matrix(rule, l_in)[None], self.form.table(rule, l_in)])
        self.register_table("synthesis", table.flatten(0, 1))
        self.register_table("filters", by_degree(synthesis_matrix(rule, l_edge).T, l_edge))
        self.register_table("slopes", by_degree(self.form.table(rule, l_edge).flatten(0, 1).T, l_edge, first=1))
        sizes = 2 * torch.arange(l_out + 1) + 1
        factors = torch.tensor([list(even), list(odd)], dtype=torch.float64).repeat_interleave(sizes, dim=1)
        self.register_table("analysis", analysis_matrix(rule, l_out) * factors[..., None])
        self.shape = (dimension + 1, rule.num_points)

    def signals(self, node_feats: Tensor) -> Tensor:
        """Values and gradients of the features, shape [n, 1 + dimension, P, C]."""
        return (self.synthesis @ node_feats).unflatten(1, self.shape)

    def multiply(self, signals: Tensor, edge_attrs: Tensor, weights: Tensor) -> Tensor:
        """Product and bracket with the filters, side by side: shape [n_edges, 2P, C]."""
        even, odd = weights[:, : self.l_edge + 1], weights[:, self.l_edge + 1 :]
        product = signals[:, 0] * weigh(edge_attrs @ self.filters, even)
        if self.l_edge == 0:
            # The gradient of a constant vanishes.
            return torch.cat([product, torch.zeros_like(product)], dim=1)
        slopes = weigh(edge_attrs @ self.slopes, odd).unflatten(1, (-1, self.num_points))
        return torch.cat([product, self.form.bracket(signals[:, 1:], slopes)], dim=1)

    def analyse(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """Both results, [n, (l_out+1)^2, C], from [n, 2P, C]."""
        product, bracket = values.split(self.num_points, dim=1)
        return self.analysis[0] @ product, self.analysis[1] @ bracket

    def couple(self, node_feats: Tensor, edge_attrs: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Even and odd couplings per edge, [n_edges, (l_out+1)^2, C]."""
        return self.analyse(self.multiply(self.signals(node_feats), edge_attrs, weights))

    def forward(
        self, node_feats: Tensor, edge_attrs: Tensor, weights: Tensor, edge_index: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Even and odd couplings summed over neighbours, [n_nodes, (l_out+1)^2, C]."""
        sender, receiver = edge_index[0], edge_index[1]
        values = self.multiply(self.signals(node_feats)[sender], edge_attrs, weights)
        return self.analyse(scatter_sum(values, receiver, node_feats.shape[0]))


class PoissonEdgeKernel(VectorEdgeKernel):
    """With gradients in tangent frames."""

    gradients = FrameGradients


class VSHEdgeKernel(VectorEdgeKernel):
    """With gradients from vector spherical harmonics."""

    gradients = SpaceGradients
