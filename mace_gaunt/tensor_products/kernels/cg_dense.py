"""Clebsch-Gordan products as dense matrix products."""

import itertools
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from mace_gaunt.so3.coefficients import wigner_3j
from mace_gaunt.so3.layout import num_components
from mace_gaunt.so3.maps import apply_matrix
from mace_gaunt.so3.symmetric import SymmetricBasis, symmetric_bases
from mace_gaunt.so3.tables import TableModule
from mace_gaunt.so3.tracing import being_traced
from mace_gaunt.tensor_products.contracts import EdgeKernel, Path


def coupling_tensor(degrees_x: Sequence[int], degrees_y: Sequence[int], paths: Sequence[Path]) -> Tensor:
    """All 3j tensors of some paths in one, component-normalised: unit variance in, unit variance out.

    Args:
        degrees_x: Degrees of the first factor.
        degrees_y: Degrees of the second.
        paths: Triples (l1, l2, l3), ordered by l3.

    Returns:
        Shape [rows, sum of 2l+1 over degrees_x, over degrees_y], rows by l3, m, path; float64.
    """
    start_x, start_y = block_starts(degrees_x), block_starts(degrees_y)
    sizes = [sum(2 * l + 1 for l in degrees) for degrees in (degrees_x, degrees_y)]
    blocks = [torch.zeros(0, *sizes, dtype=torch.float64)]
    for l3 in sorted({path[2] for path in paths}):
        members = [path for path in paths if path[2] == l3]
        block = torch.zeros(2 * l3 + 1, len(members), *sizes, dtype=torch.float64)
        for position, (l1, l2, _) in enumerate(members):
            tensor = torch.from_numpy(wigner_3j(l1, l2, l3).copy()) * (2 * l3 + 1) ** 0.5
            where_x = slice(start_x[l1], start_x[l1] + 2 * l1 + 1)
            where_y = slice(start_y[l2], start_y[l2] + 2 * l2 + 1)
            block[:, position, where_x, where_y] = tensor.permute(2, 0, 1)
        blocks.append(block.flatten(0, 1))
    return torch.cat(blocks)


def block_starts(degrees: Sequence[int]) -> dict[int, int]:
    """First row of each degree."""
    ends = [0, *itertools.accumulate(2 * degree + 1 for degree in degrees)]
    return dict(zip(degrees, ends, strict=False))


def row_paths(paths: Sequence[Path]) -> list[int]:
    """Index of the path that each row belongs to; rows by l3, m, path."""
    owners: list[int] = []
    for l3 in sorted({path[2] for path in paths}):
        owners += [index for index, path in enumerate(paths) if path[2] == l3] * (2 * l3 + 1)
    return owners


class DenseFeatureKernel(TableModule):
    """All products of two components, then one matrix product.

    Args:
        degrees_x: Degrees of the first feature.
        degrees_y: Degrees of the second.
        paths: Triples (l1, l2, l3), ordered by l3; rows come out by l3, then m, then path.
    """

    coupling: Tensor

    def __init__(self, degrees_x: Sequence[int], degrees_y: Sequence[int], paths: Sequence[Path]) -> None:
        super().__init__()
        self.register_table("coupling", coupling_tensor(degrees_x, degrees_y, paths).flatten(1))

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Shapes as in `FeatureProduct.forward`, natural features."""
        return apply_matrix(self.coupling, (x[:, :, None] * y[:, None]).flatten(1, 2))


class DenseEdgeKernel(EdgeKernel):
    """One matrix per edge, harmonics contracted with all 3j tensors, times the sender's channels.

    Args:
        l_in: Largest degree of the node features.
        l_edge: Largest degree of the edge harmonics.
        paths: Triples (l1, l2, l3), ordered by l3; rows come out by l3, then m, then path.
    """

    coupling: Tensor
    path_of_row: Tensor

    def __init__(self, l_in: int, l_edge: int, paths: Sequence[Path]) -> None:
        super().__init__()
        self.num_in = num_components(l_in)
        coupling = coupling_tensor(range(l_in + 1), range(l_edge + 1), paths)
        # [(row, component in), harmonic] for one GEMM over all edges
        self.register_table("coupling", coupling.flatten(0, 1))
        self.register_buffer("path_of_row", torch.tensor(row_paths(paths)), persistent=False)

    def couple(self, node_feats: Tensor, edge_attrs: Tensor, weights: Tensor) -> Tensor:
        """Per edge, shape [n_edges, rows, C]."""
        matrices = (edge_attrs @ self.coupling.T).unflatten(1, (-1, self.num_in))
        if being_traced():
            # Fused with what follows; as a matrix product its result, edges x rows x channels, would be stored.
            mixed = (matrices[..., None] * node_feats[:, None]).sum(2)
        else:
            mixed = matrices @ node_feats
        return mixed * torch.index_select(weights, 1, self.path_of_row)


class DenseNodeKernel(TableModule):
    """Monomials of the components, then one matrix product per order and reflection class.

    Every real harmonic is even or odd under x -> -x, y -> -y and z -> -z, so a component of the result couples only to
    the monomials of its own class: the coefficients fall into up to eight blocks.

    Args:
        l_in: Largest degree of A.
        l_out: Largest degree of B.
        correlation: Highest order.
    """

    component_of_row: Tensor
    path_of_row: Tensor

    def __init__(self, l_in: int, l_out: int, correlation: int) -> None:
        super().__init__()
        bases = symmetric_bases(l_in, l_out, correlation)
        self.num_paths = [[len(block) for block in basis.coefficients] for basis in bases]
        self.num_out = num_components(l_out)
        offsets = path_offsets(self.num_paths)
        used = used_monomials(bases)
        self.blocks: list[list[tuple[slice, str]]] = []
        rows_component: list[int] = []
        rows_path: list[int] = []
        position: dict[tuple[int, ...], int] = {}
        for basis, wanted in zip(bases, used, strict=True):
            stored, groups = order_by_class(wanted)
            self._register_products(basis.order, stored, position)
            position = {monomial: row for row, monomial in enumerate(stored)}
            self.blocks.append([])
            for reflection, where in groups.items():
                matrix, components, paths = class_block(basis, stored[where], reflection, l_out, offsets)
                if not components:
                    continue
                name = f"coefficients_{basis.order}_{reflection}"
                self.register_table(name, torch.from_numpy(matrix))
                self.blocks[-1].append((where, name))
                rows_component += components
                rows_path += paths
        self.register_buffer("component_of_row", torch.tensor(rows_component), persistent=False)
        self.register_buffer("path_of_row", torch.tensor(rows_path), persistent=False)

    def _register_products(
        self, order: int, stored: list[tuple[int, ...]], position: dict[tuple[int, ...], int]
    ) -> None:
        """Index tables: each stored monomial is one of the order below times its last component."""
        prefix = [position[monomial[:-1]] for monomial in stored] if order > 1 else []
        self.register_buffer(f"prefix_{order}", torch.tensor(prefix, dtype=torch.int64), persistent=False)
        last = torch.tensor([monomial[-1] for monomial in stored])
        self.register_buffer(f"last_{order}", last, persistent=False)

    def forward(self, node_feats: Tensor, weights: Tensor) -> Tensor:
        """Weighted sum over all paths of all orders.

        Args:
            node_feats: A, shape [n_nodes, (l_in+1)^2, C].
            weights: Weight of every path for each node, shape [sum of num_paths, n_nodes, C].

        Returns:
            Shape [n_nodes, (l_out+1)^2, C].
        """
        n_nodes, _, channels = node_feats.shape
        components = node_feats.transpose(0, 1).flatten(1)
        products, rows = components, []
        for order, blocks in enumerate(self.blocks, start=1):
            factor = components.index_select(0, self.get_buffer(f"last_{order}"))
            prefix = self.get_buffer(f"prefix_{order}")
            products = factor if order == 1 else products.index_select(0, prefix) * factor
            rows += [self.get_buffer(name) @ products[where] for where, name in blocks]
        weighted = torch.cat(rows) * weights.flatten(1).index_select(0, self.path_of_row)
        result = weighted.new_zeros(self.num_out, n_nodes * channels)
        result = result.index_add(0, self.component_of_row, weighted)
        return result.unflatten(1, (n_nodes, channels)).transpose(0, 1)


def path_offsets(num_paths: list[list[int]]) -> list[list[int]]:
    """First weight of each (order, degree): degrees run slowest, so that one degree's weights lie together."""
    offsets, total = [[0] * len(degrees) for degrees in num_paths], 0
    for degree in range(len(num_paths[0])):
        for order, degrees in enumerate(num_paths):
            offsets[order][degree] = total
            total += degrees[degree]
    return offsets


def used_monomials(bases: Sequence[SymmetricBasis]) -> list[set[tuple[int, ...]]]:
    """Monomials of each order that occur in a result, or as a prefix of one that does."""
    used: list[set[tuple[int, ...]]] = []
    prefixes: set[tuple[int, ...]] = set()
    for basis in reversed(bases):
        occurs = sum(abs(block).sum(axis=(0, 1)) for block in basis.coefficients) > 0
        wanted = prefixes | {tuple(monomial) for monomial in basis.monomials[occurs].tolist()}
        prefixes = {monomial[:-1] for monomial in wanted}
        used.insert(0, wanted)
    return used


def reflection_class(components: Sequence[int]) -> int:
    """Bit mask of the axes (1 x, 2 y, 4 z) whose reflection changes the sign of a product of components."""
    mask = 0
    for component in components:
        degree = int(component**0.5)
        m = component - degree * degree - degree
        mask ^= int(m < 0) + 2 * ((degree - abs(m)) % 2) + 4 * ((m if m >= 0 else -m - 1) % 2)
    return mask


def order_by_class(monomials: set[tuple[int, ...]]) -> tuple[list[tuple[int, ...]], dict[int, slice]]:
    """Monomials sorted by reflection class, and where each class lies."""
    stored = sorted(monomials, key=lambda monomial: (reflection_class(monomial), monomial))
    groups, start = {}, 0
    for mask in range(8):
        stop = start + sum(reflection_class(monomial) == mask for monomial in stored)
        if stop > start:
            groups[mask] = slice(start, stop)
        start = stop
    return stored, groups


def class_block(
    basis: SymmetricBasis, stored: list[tuple[int, ...]], reflection: int, l_out: int, offsets: list[list[int]]
) -> tuple[np.ndarray, list[int], list[int]]:
    """Coefficients [(component, path), monomial] of one class, with the component and weight of every row."""
    column = {tuple(monomial): index for index, monomial in enumerate(basis.monomials.tolist())}
    columns = [column[monomial] for monomial in stored]
    rows: list[np.ndarray] = []
    components: list[int] = []
    paths: list[int] = []
    for degree in range(l_out + 1):
        for m in range(2 * degree + 1):
            if reflection_class([degree * degree + m]) != reflection:
                continue
            block = basis.coefficients[degree][:, m]
            rows.append(block[:, columns])
            components += [degree * degree + m] * len(block)
            paths += range(offsets[basis.order - 1][degree], offsets[basis.order - 1][degree] + len(block))
    return np.concatenate(rows) if rows else np.zeros((0, len(columns))), components, paths
