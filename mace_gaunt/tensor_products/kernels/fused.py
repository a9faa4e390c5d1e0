"""Edge and node products in one loop each, on a CPU; built by the machine's C++ compiler at first use."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mace_gaunt.so3.layout import degree_of_component, num_components
from mace_gaunt.so3.maps import by_degree
from mace_gaunt.so3.quadrature import analysis_matrix, smallest_rule, synthesis_matrix
from mace_gaunt.so3.symmetric import SymmetricBasis, symmetric_bases
from mace_gaunt.so3.tables import TableModule
from mace_gaunt.tensor_products.contracts import EdgeKernel, Path
from mace_gaunt.tensor_products.kernels.cg_dense import (
    block_starts,
    coupling_tensor,
    path_offsets,
    row_paths,
    used_monomials,
)
from mace_gaunt.tensor_products.kernels.edge_loop import PLANS as EDGE_PLANS
from mace_gaunt.tensor_products.kernels.edge_loop import Plan, edge_forward, register_plan
from mace_gaunt.tensor_products.kernels.native import load_library
from mace_gaunt.tensor_products.kernels.node_loop import PLANS as NODE_PLANS
from mace_gaunt.tensor_products.kernels.node_loop import CPolynomial, CPowers, node_forward
from mace_gaunt.tensor_products.kernels.node_loop import Plan as NodePlan
from mace_gaunt.tensor_products.kernels.node_loop import register_plan as register_node_plan


class PlannedKernel(TableModule):
    """A kernel that the operators know by the number of its plan, in every process that a pickled model comes to.

    Attributes:
        plan: The number.
        arguments: What makes the kernel, and so its plan, again.
    """

    devices = ("cpu",)
    plan: int
    arguments: tuple[Any, ...]

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        if self.plan not in EDGE_PLANS and self.plan not in NODE_PLANS:
            self.plan = type(self)(*self.arguments).plan


class FusedGauntEdgeKernel(PlannedKernel, EdgeKernel):
    """Gaunt on the grid: the filter is made, multiplied and summed point by point.

    Args:
        l_in: Largest degree of the node features.
        l_edge: Largest degree of the edge harmonics.
        l_out: Largest degree of the messages.
        normalizers: Factor of each output degree, length l_out + 1.

    Raises:
        ImportError: If there is no compiler.
    """

    synthesis: Tensor
    filters: Tensor
    analysis: Tensor

    def __init__(self, l_in: int, l_edge: int, l_out: int, normalizers: Sequence[float]) -> None:
        super().__init__()
        load_library()
        self.arguments = (l_in, l_edge, l_out, normalizers)
        rule = smallest_rule(l_in + l_edge + l_out)
        points, degrees = len(rule.points), l_edge + 1
        factors = torch.tensor(normalizers, dtype=torch.float64)[degree_of_component(l_out)]
        self.register_table("synthesis", synthesis_matrix(rule, l_in))
        self.register_table("analysis", analysis_matrix(rule, l_out) * factors[:, None])
        filters = by_degree(synthesis_matrix(rule, l_edge).T, l_edge).unflatten(1, (degrees, points))
        plan = Plan(degrees, points, [(0, degrees)] * points, range(points), x_of_edge=True)
        points_of, degrees_of = zip(*plan.terms, strict=True)
        self.register_table("filters", filters[:, degrees_of, points_of])
        self.plan = register_plan(plan)

    def forward(self, node_feats: Tensor, edge_attrs: Tensor, weights: Tensor, edge_index: Tensor) -> Tensor:
        """Summed over neighbours, shape [n_nodes, (l_out+1)^2, C]."""
        check_device(node_feats)
        signal = self.synthesis @ node_feats
        return self.analysis @ edge_forward(edge_attrs @ self.filters, weights, signal, edge_index, self.plan)

    def couple(self, node_feats: Tensor, edge_attrs: Tensor, weights: Tensor) -> Tensor:
        """Per edge, shape [n_edges, (l_out+1)^2, C]."""
        return self(node_feats, edge_attrs, weights, each_alone(node_feats))


class FusedCGEdgeKernel(PlannedKernel, EdgeKernel):
    """Clebsch-Gordan: of each path only the components that couple.

    Args:
        l_in: Largest degree of the node features.
        l_edge: Largest degree of the edge harmonics.
        paths: Triples (l1, l2, l3), ordered by l3; rows come out by l3, then m, then path.

    Raises:
        ImportError: If there is no compiler.
    """

    coupling: Tensor

    def __init__(self, l_in: int, l_edge: int, paths: Sequence[Path]) -> None:
        super().__init__()
        load_library()
        self.arguments = (l_in, l_edge, paths)
        owners, starts = row_paths(paths), block_starts(range(l_in + 1))
        tensor = coupling_tensor(range(l_in + 1), range(l_edge + 1), paths)
        fans = [(starts[l1], starts[l1] + 2 * l1 + 1) for l1 in (paths[path][0] for path in owners)]
        plan = Plan(num_components(l_in), len(paths), fans, owners, x_of_edge=False)
        rows_of, components_of = zip(*plan.terms, strict=True)
        self.register_table("coupling", tensor[rows_of, components_of].T.contiguous())
        self.plan = register_plan(plan)

    def forward(self, node_feats: Tensor, edge_attrs: Tensor, weights: Tensor, edge_index: Tensor) -> Tensor:
        """Summed over neighbours, shape [n_nodes, rows, C]."""
        check_device(node_feats)
        return edge_forward(edge_attrs @ self.coupling, node_feats, weights, edge_index, self.plan)

    def couple(self, node_feats: Tensor, edge_attrs: Tensor, weights: Tensor) -> Tensor:
        """Per edge, shape [n_edges, rows, C]."""
        return self(node_feats, edge_attrs, weights, each_alone(node_feats))


class FusedScalarEdgeKernel(PlannedKernel, EdgeKernel):
    """Scalar features, as in every first layer of either family; see `ScalarInputKernel`.

    Args:
        l_out: Largest degree of the messages.
        num_weights: Weights per edge and channel, one per degree; at least l_out + 1.

    Raises:
        ImportError: If there is no compiler.
    """

    def __init__(self, l_out: int, num_weights: int) -> None:
        super().__init__()
        load_library()
        self.arguments = (l_out, num_weights)
        rows = num_components(l_out)
        degrees = degree_of_component(l_out).tolist()
        self.num_out = rows
        self.plan = register_plan(Plan(1, num_weights, [(0, 1)] * rows, degrees, x_of_edge=False))

    def forward(self, node_feats: Tensor, edge_attrs: Tensor, weights: Tensor, edge_index: Tensor) -> Tensor:
        """Summed over neighbours, shape [n_nodes, (l_out+1)^2, C]."""
        check_device(node_feats)
        return edge_forward(edge_attrs[:, : self.num_out], node_feats, weights, edge_index, self.plan)

    def couple(self, node_feats: Tensor, edge_attrs: Tensor, weights: Tensor) -> Tensor:
        """Per edge, shape [n_edges, (l_out+1)^2, C]."""
        return self(node_feats, edge_attrs, weights, each_alone(node_feats))


class FusedCGNodeKernel(PlannedKernel):
    """Clebsch-Gordan: the products that occur in the symmetric basis, and the coefficients that are not zero.

    Args:
        l_in: Largest degree of A.
        l_out: Largest degree of B.
        correlation: Highest order.

    Raises:
        ImportError: If there is no compiler.
    """

    def __init__(self, l_in: int, l_out: int, correlation: int) -> None:
        super().__init__()
        load_library()
        self.arguments = (l_in, l_out, correlation)
        bases = symmetric_bases(l_in, l_out, correlation)
        num_paths = [[len(block) for block in basis.coefficients] for basis in bases]
        products = [monomial for wanted in used_monomials(bases) for monomial in sorted(wanted)]
        position = {monomial: index for index, monomial in enumerate(products)}
        rows = [
            row
            for basis, first in zip(bases, path_offsets(num_paths), strict=True)
            for row in polynomial_rows(basis, first, position)
        ]
        terms = [term for *_, row_terms in rows for term in row_terms]
        ends = itertools.accumulate((len(row_terms) for *_, row_terms in rows), initial=0)
        tables = (
            [position.get(monomial[:-1], -1) for monomial in products],
            [monomial[-1] for monomial in products],
            list(ends),
            [index for index, _ in terms],
            [value for _, value in terms],
            [out for out, _, _ in rows],
            [weight for _, weight, _ in rows],
        )
        total = sum(map(sum, num_paths))
        sizes = num_components(l_in), num_components(l_out), total, len(products), len(rows)
        self.plan = register_node_plan(NodePlan("polynomial", CPolynomial, sizes, tables))

    def forward(self, node_feats: Tensor, weights: Tensor) -> Tensor:
        """Shapes as in `DenseNodeKernel.forward`."""
        check_device(node_feats)
        return node_forward(node_feats, weights, self.plan)


def polynomial_rows(
    basis: SymmetricBasis, first: Sequence[int], position: Mapping[tuple[int, ...], int]
) -> Iterator[tuple[int, int, list[tuple[int, float]]]]:
    """Component, weight and (product, coefficient) of every polynomial of one order.

    Args:
        basis: The polynomials.
        first: First weight of each degree.
        position: Place of each product of components.
    """
    for degree, block in enumerate(basis.coefficients):
        for path, m in itertools.product(range(len(block)), range(2 * degree + 1)):
            (where,) = np.nonzero(block[path, m])
            terms = [(position[tuple(basis.monomials[k].tolist())], float(block[path, m, k])) for k in where]
            yield degree * degree + m, first[degree] + path, terms


class FusedGauntNodeKernel(PlannedKernel):
    """Gaunt: the signal at one point of the grid after the other, its powers, and their analysis.

    Args:
        l_in: Largest degree of the signal.
        l_out: Largest degree of the result.
        correlation: Highest power.
        normalizers: Factor of each order and output degree, shape [correlation, l_out + 1].

    Raises:
        ImportError: If there is no compiler.
    """

    def __init__(self, l_in: int, l_out: int, correlation: int, normalizers: Tensor) -> None:
        super().__init__()
        load_library()
        self.arguments = (l_in, l_out, correlation, normalizers)
        rule = smallest_rule(correlation * l_in + l_out)
        degrees = degree_of_component(l_out)
        analysis = analysis_matrix(rule, l_out) * normalizers[:, degrees, None]
        weight = torch.arange(correlation)[:, None] * (l_out + 1) + degrees
        sizes = num_components(l_in), num_components(l_out), correlation * (l_out + 1), len(rule.points), correlation
        tables = [t.flatten().tolist() for t in (synthesis_matrix(rule, l_in), analysis.permute(2, 0, 1), weight)]
        self.plan = register_node_plan(NodePlan("powers", CPowers, sizes, tables))

    def forward(self, node_feats: Tensor, weights: Tensor) -> Tensor:
        """Shapes as in `GridNodeKernel.forward`."""
        check_device(node_feats)
        return node_forward(node_feats, weights.flatten(0, 1), self.plan)


def each_alone(node_feats: Tensor) -> Tensor:
    """Every row its own sender and receiver, shape [2, n]."""
    return torch.arange(node_feats.shape[0], device=node_feats.device).expand(2, -1)


def check_device(features: Tensor) -> None:
    """Refuse to compute elsewhere than on a CPU."""
    if features.device.type != "cpu":
        raise ValueError(f"kernel 'fused' computes on a CPU only, not on {features.device}: choose kernel=auto")
