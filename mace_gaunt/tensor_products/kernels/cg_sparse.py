"""Clebsch-Gordan products from the nonzero 3j coefficients alone."""

import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from mace_gaunt.so3.coefficients import wigner_3j
from mace_gaunt.so3.layout import degree_slice, num_components
from mace_gaunt.so3.scatter import scatter_sum
from mace_gaunt.so3.symmetric import SymmetricBasis, symmetric_bases
from mace_gaunt.so3.tables import TableModule
from mace_gaunt.tensor_products.contracts import EdgeKernel, Path
from mace_gaunt.tensor_products.kernels.cg_dense import row_paths, used_monomials
from mace_gaunt.tensor_products.kernels.sparse import (
    ROUNDING,
    Couplings,
    SparseBilinear,
    SparseMatrix,
    collect_couplings,
    components_first,
    components_last,
    in_slices,
    matrices_times,
)


def clebsch_gordan_couplings(degrees_x: Sequence[int], degrees_y: Sequence[int], paths: Sequence[Path]) -> Couplings:
    """The nonzero coefficients of some paths, component-normalised; rows by l3, m, path.

    Args:
        degrees_x: Degrees of the first factor.
        degrees_y: Degrees of the second.
        paths: Triples (l1, l2, l3), ordered by l3.
    """

    def blocks() -> Iterator[tuple[Path, range, np.ndarray]]:
        start = 0
        for l3 in sorted({path[2] for path in paths}):
            members = [path for path in paths if path[2] == l3]
            end = start + (2 * l3 + 1) * len(members)
            for position, path in enumerate(members):
                rows = range(start + position, end, len(members))
                yield path, rows, wigner_3j(*path) * math.sqrt(2 * l3 + 1)
            start = end

    return collect_couplings(degrees_x, degrees_y, len(row_paths(paths)), blocks())


class SparseFeatureKernel(SparseBilinear):
    """All products of two components, then one sparse matrix product.

    Args:
        degrees_x: Degrees of the first feature.
        degrees_y: Degrees of the second.
        paths: Triples (l1, l2, l3), ordered by l3; rows come out by l3, then m, then path.
    """

    def __init__(self, degrees_x: Sequence[int], degrees_y: Sequence[int], paths: Sequence[Path]) -> None:
        super().__init__(clebsch_gordan_couplings(degrees_x, degrees_y, paths))


class SparseEdgeKernel(EdgeKernel):
    """One matrix per edge and degree of the features, without the zeros between degrees.

    A path's matrix, harmonics contracted with its 3j tensor, is full: what is sparse are the matrices of all paths.
    The paths of one degree l1 share one batched matrix product. The results are weighted and summed over neighbours
    in blocks and put in order at the nodes, where there are fewer rows. Zeros are left in the table that makes the
    matrices of harmonics: that product has no channels, and gathering its coefficients one by one is slower.

    Args:
        l_in: Largest degree of the node features.
        l_edge: Largest degree of the edge harmonics.
        paths: Triples (l1, l2, l3), ordered by l3, l1; rows come out by l3, then m, then path.
    """

    def __init__(self, l_in: int, l_edge: int, paths: Sequence[Path]) -> None:
        super().__init__()
        coupling = clebsch_gordan_couplings(range(l_in + 1), range(l_edge + 1), paths).dense()
        degrees = torch.tensor([paths[owner][0] for owner in row_paths(paths)])
        self.degrees_out = sorted({path[2] for path in paths})
        self.groups: list[tuple[int, list[tuple[int, slice]]]] = []
        for l1 in sorted({path[0] for path in paths}):
            table = coupling[degrees == l1][:, degree_slice(l1)]
            # [harmonic, (row, m1)] for one GEMM over all edges
            self.register_table(f"coupling_{l1}", table.flatten(0, 1).T.contiguous())
            members = [(l3, self.members(paths, l1, l3)) for l3 in self.degrees_out]
            self.groups.append((l1, [(l3, where) for l3, where in members if where.start < where.stop]))

    @staticmethod
    def members(paths: Sequence[Path], l1: int, l3: int) -> slice:
        """Where the paths from one degree to another lie; they are neighbours."""
        found = [index for index, path in enumerate(paths) if (path[0], path[2]) == (l1, l3)]
        return slice(found[0], found[-1] + 1) if found else slice(0, 0)

    def messages(self, node_feats: Tensor, edge_attrs: Tensor, weights: Tensor) -> Iterator[tuple[int, Tensor]]:
        """For each pair of degrees (l1, l3) the degree l3 and the weighted result [n_edges, 2l3+1, paths, C]."""
        for l1, outputs in self.groups:
            matrices = (edge_attrs @ self.get_buffer(f"coupling_{l1}")).unflatten(1, (-1, 2 * l1 + 1))
            sizes = [(2 * l3 + 1) * (where.stop - where.start) for l3, where in outputs]
            blocks = matrices_times(matrices, node_feats[:, degree_slice(l1)]).split(sizes, dim=1)
            for (l3, where), block in zip(outputs, blocks, strict=True):
                yield l3, block.unflatten(1, (2 * l3 + 1, -1)) * weights[:, None, where]

    def in_order(self, blocks: Sequence[tuple[int, Tensor]]) -> Tensor:
        """Rows by l3, m, path from what `messages` yields."""
        joined = [torch.cat([block for l3, block in blocks if l3 == degree], dim=2) for degree in self.degrees_out]
        return torch.cat([block.flatten(1, 2) for block in joined], dim=1)

    def couple(self, node_feats: Tensor, edge_attrs: Tensor, weights: Tensor) -> Tensor:
        """Per edge, shape [n_edges, rows, C]."""
        return self.in_order(list(self.messages(node_feats, edge_attrs, weights)))

    def forward(self, node_feats: Tensor, edge_attrs: Tensor, weights: Tensor, edge_index: Tensor) -> Tensor:
        """Summed over neighbours, shape [n_nodes, rows, C]."""
        sender, receiver = edge_index[0], edge_index[1]
        messages = self.messages(node_feats[sender], edge_attrs, weights)
        return self.in_order([(l3, scatter_sum(block, receiver, node_feats.shape[0])) for l3, block in messages])


class SparseNodeKernel(TableModule):
    """Monomials of the components that occur, then one sparse matrix product for all orders.

    Args:
        l_in: Largest degree of A.
        l_out: Largest degree of B.
        correlation: Highest order.
    """

    def __init__(self, l_in: int, l_out: int, correlation: int) -> None:
        super().__init__()
        bases = symmetric_bases(l_in, l_out, correlation)
        counts = [sum(len(basis.coefficients[degree]) for basis in bases) for degree in range(l_out + 1)]
        self.counts, self.correlation = counts, correlation
        stored = [sorted(monomials) for monomials in used_monomials(bases)]
        stored[0] = [(component,) for component in range(num_components(l_in))]
        for order in range(2, correlation + 1):
            # Each monomial is one of the order below times its last component.
            below = {monomial: row for row, monomial in enumerate(stored[order - 2])}
            prefix = torch.tensor([below[monomial[:-1]] for monomial in stored[order - 1]])
            last = torch.tensor([monomial[-1] for monomial in stored[order - 1]])
            self.register_buffer(f"prefix_{order}", prefix, persistent=False)
            self.register_buffer(f"last_{order}", last, persistent=False)
        self.num_monomials = sum(len(monomials) for monomials in stored)
        self.matrix = monomial_matrix(bases, stored, counts)

    def forward(self, node_feats: Tensor, weights: Tensor) -> Tensor:
        """Weighted sum over all paths of all orders; shapes as in `DenseNodeKernel.forward`."""
        floats = self.num_monomials * node_feats.shape[2]
        return in_slices(self.evaluate, (node_feats, weights.transpose(0, 1)), floats)

    def evaluate(self, node_feats: Tensor, weights: Tensor) -> Tensor:
        """Some nodes: [n, (l_in+1)^2, C] with weights [n, paths, C] to [n, (l_out+1)^2, C]."""
        paths = self.matrix(self.monomials(components_first(node_feats)))
        of_paths = components_first(weights).split(self.counts)
        sizes = [(2 * degree + 1) * count for degree, count in enumerate(self.counts)]
        results = [
            (rows.unflatten(0, (2 * degree + 1, len(factors))) * factors).sum(1)
            for degree, (rows, factors) in enumerate(zip(paths.split(sizes), of_paths, strict=True))
        ]
        return components_last(torch.cat(results), node_feats)

    def monomials(self, components: Tensor) -> Tensor:
        """All monomials of all orders, shape [num_monomials, N]."""
        products = [components]
        for order in range(2, self.correlation + 1):
            below = products[-1].index_select(0, self.get_buffer(f"prefix_{order}"))
            products.append(below * components.index_select(0, self.get_buffer(f"last_{order}")))
        return torch.cat(products)


def monomial_matrix(
    bases: Sequence[SymmetricBasis], stored: Sequence[Sequence[tuple[int, ...]]], counts: Sequence[int]
) -> SparseMatrix:
    """The nonzero coefficients of all orders: rows by degree, m, order, path; columns by order, monomial."""
    rows, columns, values = [], [], []
    first_column, first_path = 0, [0] * len(counts)
    starts = np.cumsum([0, *((2 * degree + 1) * count for degree, count in enumerate(counts))])
    for basis, monomials in zip(bases, stored, strict=True):
        place = {monomial: first_column + index for index, monomial in enumerate(monomials)}
        column = np.array([place.get(tuple(monomial), -1) for monomial in basis.monomials.tolist()])
        for degree, block in enumerate(basis.coefficients):
            path, m, monomial = np.nonzero(np.abs(block) > ROUNDING)
            rows.append(starts[degree] + m * counts[degree] + first_path[degree] + path)
            columns.append(column[monomial])
            values.append(block[path, m, monomial])
            first_path[degree] += len(block)
        first_column += len(monomials)
    of_rows, of_columns, entries = (torch.from_numpy(np.concatenate(found)) for found in (rows, columns, values))
    return SparseMatrix(of_rows, of_columns, entries, (int(starts[-1]), first_column))
