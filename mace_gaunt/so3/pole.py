"""Rotations that take a direction to the polar axis y, as Wigner matrices that are smooth everywhere.

A product of features with the harmonics of one direction is cheap in the frame where that direction is the pole: there
only m = 0 is left of the harmonics (Passaro, Zitnick, "Reducing SO(3) convolutions to SO(2)", ICML 2023). Euler angles
are singular for directions along the pole. Here the rotation is the smallest one, whose quaternion is
(1 + y, -z, 0, x) / norm, singular only at the opposite pole; directions with y < 0 are taken to -y instead. The result
of a product does not depend on which rotation was taken, so that all derivatives are right and continuous.
"""

import itertools
import math
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from mace_gaunt.so3.coefficients import wigner_3j
from mace_gaunt.so3.layout import degree_slice
from mace_gaunt.so3.tables import TableModule

Polynomial = dict[tuple[int, int, int], np.ndarray]
"""Matrix coefficients of the monomials q0^i qx^j qz^k, by (i, j, k)."""


def vector_rotation() -> Polynomial:
    """The rotation matrix of a unit quaternion (q0, qx, 0, qz), on (x, y, z)."""
    entries: dict[tuple[int, int, int], list[tuple[int, int, float]]] = {
        (2, 0, 0): [(0, 0, 1.0), (1, 1, 1.0), (2, 2, 1.0)],
        (0, 2, 0): [(0, 0, 1.0), (1, 1, -1.0), (2, 2, -1.0)],
        (0, 0, 2): [(0, 0, -1.0), (1, 1, -1.0), (2, 2, 1.0)],
        (0, 1, 1): [(0, 2, 2.0), (2, 0, 2.0)],
        (1, 1, 0): [(1, 2, -2.0), (2, 1, 2.0)],
        (1, 0, 1): [(0, 1, -2.0), (1, 0, 2.0)],
    }
    result = {}
    for monomial, values in entries.items():
        matrix = np.zeros((3, 3))
        for row, column, value in values:
            matrix[row, column] = value
        result[monomial] = matrix
    return result


@lru_cache(maxsize=32)
def rotation_polynomials(l_max: int) -> tuple[Polynomial, ...]:
    """Wigner matrix of each degree 0..l_max as a homogeneous polynomial of degree 2l in (q0, qx, qz).

    From degree l - 1 and degree 1 by coupling: D_l = (2l+1) sum of 3j 3j D_(l-1) D_1.
    """
    one = vector_rotation()
    result: list[Polynomial] = [{(0, 0, 0): np.ones((1, 1))}]
    for degree in range(1, l_max + 1):
        coupling = wigner_3j(degree - 1, 1, degree) * math.sqrt(2 * degree + 1)
        polynomial: Polynomial = {}
        for (a, left), (b, right) in itertools.product(result[-1].items(), one.items()):
            key = (a[0] + b[0], a[1] + b[1], a[2] + b[2])
            term = np.einsum("abm,ac,bd,cdn->mn", coupling, left, right, coupling, optimize=True)
            polynomial[key] = polynomial.get(key, 0.0) + term
        result.append(polynomial)
    return tuple(result)


def homogeneous_table(l_max: int) -> tuple[np.ndarray, np.ndarray]:
    """All Wigner matrices as polynomials of one degree 2 l_max, lower ones times powers of |q|^2 = 1.

    Returns:
        Exponents, shape [M, 3], and coefficients, shape [M, sum of (2l+1)^2], float64.
    """
    top = 2 * l_max
    exponents = [(i, j, top - i - j) for i in range(top + 1) for j in range(top + 1 - i)]
    row = {monomial: index for index, monomial in enumerate(exponents)}
    columns = []
    for degree, polynomial in enumerate(rotation_polynomials(l_max)):
        block = np.zeros((len(exponents), (2 * degree + 1) ** 2))
        missing = l_max - degree
        for (i, j, k), matrix in polynomial.items():
            for a, b in itertools.product(range(missing + 1), repeat=2):
                if a + b <= missing:
                    c = missing - a - b
                    count = math.factorial(missing) / (math.factorial(a) * math.factorial(b) * math.factorial(c))
                    block[row[(i + 2 * a, j + 2 * b, k + 2 * c)]] += count * matrix.ravel()
        columns.append(block)
    return np.array(exponents), np.concatenate(columns, axis=1)


class PoleFrames(TableModule):
    """Wigner matrices that take the directions of edges to the poles.

    Args:
        l_max: Largest degree.
    """

    table: Tensor
    exponents: Tensor

    def __init__(self, l_max: int) -> None:
        super().__init__()
        exponents, table = homogeneous_table(l_max)
        self.l_max = l_max
        self.register_buffer("exponents", torch.from_numpy(exponents).T.contiguous(), persistent=False)
        self.register_table("table", torch.from_numpy(table))

    def forward(self, directions: Tensor) -> tuple[list[Tensor], Tensor]:
        """The matrices and the pole that each direction goes to.

        Args:
            directions: Unit vectors, shape [n, 3].

        Returns:
            D_l for l = 0..l_max, shape [n, 2l+1, 2l+1], with D_l Y_l(direction) = Y_l(sign * y); and the sign, [n, 1].
        """
        sign = torch.where(directions[:, 1:2] < 0, -1.0, 1.0).to(directions.dtype)
        x, y, z = (directions * sign).unbind(1)
        scale = (2.0 * (1.0 + y)).rsqrt()
        powers = [self.powers(value * scale) for value in (1.0 + y, -z, x)]
        monomials = powers[0].index_select(1, self.exponents[0])
        monomials = monomials * powers[1].index_select(1, self.exponents[1])
        monomials = monomials * powers[2].index_select(1, self.exponents[2])
        sizes = [(2 * degree + 1) ** 2 for degree in range(self.l_max + 1)]
        blocks = (monomials @ self.table).split(sizes, dim=1)
        matrices = [block.unflatten(1, (2 * degree + 1, -1)) for degree, block in enumerate(blocks)]
        return matrices, sign

    def powers(self, values: Tensor) -> Tensor:
        """Powers 0 to 2 l_max, shape [n, 2 l_max + 1]."""
        columns = [torch.ones_like(values)]
        for _ in range(2 * self.l_max):
            columns.append(columns[-1] * values)
        return torch.stack(columns, dim=1)


def rotate_blocks(matrices: list[Tensor], features: Tensor) -> Tensor:
    """D_l times each degree: [n, (l_max+1)^2, C] of degrees 0..l_max, at most those of the matrices."""
    degrees = range(round(features.shape[1] ** 0.5))
    return torch.cat([matrices[l] @ features[:, degree_slice(l)] for l in degrees], dim=1)


def rotate_back(matrices: list[Tensor], rows: Tensor, num_paths: list[int]) -> Tensor:
    """D_l transposed times each degree and path: [n, rows, C], rows by degree, m, path."""
    sizes = [(2 * degree + 1) * paths for degree, paths in enumerate(num_paths)]
    blocks = []
    for degree, block in enumerate(rows.split(sizes, dim=1)):
        if sizes[degree]:
            wide = block.reshape(block.shape[0], 2 * degree + 1, num_paths[degree] * rows.shape[2])
            blocks.append((matrices[degree].transpose(1, 2) @ wide).reshape(block.shape))
    return torch.cat(blocks, dim=1)
