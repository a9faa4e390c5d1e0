"""Features as (2j+1) x (2j+1) matrices that are multiplied.

Source: the matrix (fused) tensor product (Unke, Maennel, "E3x", 2024; compared in Xie et al., "The Price of Freedom in
Selecting Tensor Products", ICML 2025). The matrices of degree l are the 3j tensors (j, j, l), symmetric for even l and
antisymmetric for odd l, so that an inversion of natural features transposes: the anticommutator of two matrices is
natural, the commutator makes pseudo-tensors. Every triangle couples, up to accidental zeros of the 6j symbol
{l1 l2 l3; j j j}, the first at j = 3 for degrees (3, 5, 5).
"""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from mace_gaunt.so3.coefficients import wigner_3j
from mace_gaunt.so3.layout import degree_components
from mace_gaunt.so3.maps import apply_matrix, by_degree, weigh
from mace_gaunt.so3.scatter import scatter_sum
from mace_gaunt.so3.tables import TableModule
from mace_gaunt.tensor_products.contracts import EdgeKernel


def half_degree(*l_max: int) -> int:
    """The smallest j whose matrices hold all degrees: ceil(l / 2)."""
    return (max(l_max) + 1) // 2


@lru_cache(maxsize=64)
def basis_matrices(j: int, l_max: int) -> Tensor:
    """Orthonormal matrices of each component, shape [(2j+1)^2, (l_max+1)^2], float64; l_max at most 2j."""
    blocks = [wigner_3j(j, j, degree).reshape((2 * j + 1) ** 2, -1) for degree in range(l_max + 1)]
    # The 3j tensor has unit norm in all; a basis matrix has unit norm for each component.
    scaled = [block * (2 * degree + 1) ** 0.5 for degree, block in enumerate(blocks)]
    return torch.from_numpy(np.concatenate(scaled, axis=1))


@lru_cache(maxsize=4096)
def matrix_amplitude(j: int, l1: int, l2: int, l3: int) -> float:
    """Frobenius norm of tr(M3^T M1 M2) between three degrees."""
    size = 2 * j + 1
    one, two, three = (basis_matrices(j, l)[:, l * l :].unflatten(0, (size, size)) for l in (l1, l2, l3))
    value = float(torch.einsum("ika,kjb,ijc->abc", one, two, three).norm())
    return value if value > 1e-9 else 0.0


def matrix_products(x: Tensor, y: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """X Y and Y X for each row and channel; [n, size^2, C] each."""
    x, y = x.unflatten(1, (size, size)), y.unflatten(1, (size, size))
    # A sum over the inner index with channels last: matrices this small are no work for a batched matrix product.
    forward = sum_of_outer([(x[:, :, k], y[:, k]) for k in range(size)])
    backward = sum_of_outer([(y[:, :, k], x[:, k]) for k in range(size)])
    return forward.flatten(1, 2), backward.flatten(1, 2)


def sum_of_outer(pairs: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
    """Sum of outer products of [n, size, C] vectors: [n, size, size, C]."""
    total = pairs[0][0][:, :, None] * pairs[0][1][:, None]
    for left, right in pairs[1:]:
        total = torch.addcmul(total, left[:, :, None], right[:, None])
    return total


def back_matrices(j: int, degrees_out: Sequence[int], even: Sequence[float], odd: Sequence[float]) -> Tensor:
    """From [X Y; Y X] to the even and the odd couplings: shape [2, rows, 2 (2j+1)^2]."""
    basis = basis_matrices(j, max(degrees_out)).T[degree_components(degrees_out)]
    sizes = 2 * torch.tensor(degrees_out) + 1
    factors = torch.tensor([list(even), list(odd)], dtype=torch.float64).repeat_interleave(sizes, dim=1)[..., None]
    return 0.5 * torch.stack([torch.cat([basis, basis], dim=1), torch.cat([basis, -basis], dim=1)]) * factors


class MatmulFeatureKernel(TableModule):
    """Anticommutator and commutator of two features.

    Args:
        degrees_x: Degrees of the first feature.
        degrees_y: Degrees of the second.
        degrees_out: Degrees of the result.
        even: Factor of each output degree for the anticommutator.
        odd: Factor of each output degree for the commutator.
    """

    to_x: Tensor
    to_y: Tensor
    back: Tensor

    def __init__(
        self,
        degrees_x: Sequence[int],
        degrees_y: Sequence[int],
        degrees_out: Sequence[int],
        even: Sequence[float],
        odd: Sequence[float],
    ) -> None:
        super().__init__()
        j = half_degree(*degrees_x, *degrees_y, *degrees_out)
        self.size = 2 * j + 1
        for name, degrees in (("to_x", degrees_x), ("to_y", degrees_y)):
            self.register_table(name, basis_matrices(j, max(degrees))[:, degree_components(degrees)])
        self.register_table("back", back_matrices(j, degrees_out, even, odd))

    def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Even and odd couplings, [n, rows, C] each."""
        pair = matrix_products(apply_matrix(self.to_x, x), apply_matrix(self.to_y, y), self.size)
        both = torch.cat(pair, dim=1)
        return apply_matrix(self.back[0], both), apply_matrix(self.back[1], both)


class MatmulEdgeKernel(EdgeKernel):
    """Matrices of the features times filter matrices, summed over neighbours before the way back.

    Args:
        l_in: Largest degree of the node features.
        l_edge: Largest degree of the edge harmonics.
        l_out: Largest degree of the messages.
        even: Factor of each output degree for the anticommutator.
        odd: Factor of each output degree for the commutator.
    """

    to_matrix: Tensor
    filters: Tensor
    back: Tensor

    def __init__(self, l_in: int, l_edge: int, l_out: int, even: Sequence[float], odd: Sequence[float]) -> None:
        super().__init__()
        j = half_degree(l_in, l_edge, l_out)
        self.size = 2 * j + 1
        self.register_table("to_matrix", basis_matrices(j, l_in))
        self.register_table("filters", by_degree(basis_matrices(j, l_edge).T, l_edge))
        self.register_table("back", back_matrices(j, range(l_out + 1), even, odd))

    def multiply(self, matrices: Tensor, edge_attrs: Tensor, weights: Tensor) -> Tensor:
        """Both products with the filters, side by side: shape [n_edges, 2 size^2, C]."""
        return torch.cat(matrix_products(matrices, weigh(edge_attrs @ self.filters, weights), self.size), dim=1)

    def couple(self, node_feats: Tensor, edge_attrs: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Even and odd couplings per edge, [n_edges, (l_out+1)^2, C]."""
        both = self.multiply(self.to_matrix @ node_feats, edge_attrs, weights)
        return self.back[0] @ both, self.back[1] @ both

    def forward(
        self, node_feats: Tensor, edge_attrs: Tensor, weights: Tensor, edge_index: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Even and odd couplings summed over neighbours, [n_nodes, (l_out+1)^2, C]."""
        sender, receiver = edge_index[0], edge_index[1]
        values = self.multiply((self.to_matrix @ node_feats)[sender], edge_attrs, weights)
        both = scatter_sum(values, receiver, node_feats.shape[0])
        return self.back[0] @ both, self.back[1] @ both
