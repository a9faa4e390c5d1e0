"""Sparse bilinear maps: nonzero coefficients by their indices, and products with constant sparse matrices.

In the real basis components m1 and m2 couple to m3 = +-m1 +- m2 only, so the coupling of three degrees of size l has of
the order of l^2 coefficients, where a dense tensor has l^3 (CG sparse in Xie et al., "The Price of Freedom in Selecting
Tensor Products", ICML 2025).
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mace_gaunt.so3.tables import TableModule
from mace_gaunt.so3.tracing import being_traced
from mace_gaunt.tensor_products.contracts import Path
from mace_gaunt.tensor_products.kernels.cg_dense import block_starts
from mace_gaunt.tensor_products.kernels.sparse_matmul import sparse_matmul, swapped

ROUNDING = 1e-10
"""Coefficients below this are zeros with a rounding error."""
FLOATS_IN_CACHE = 1_000_000
"""Size of intermediate values that a CPU's cache holds."""


@dataclass(frozen=True)
class Couplings:
    """Nonzero coefficients of a bilinear map: z[rows[k]] gains values[k] * x[in_x[k]] * y[in_y[k]] for every k.

    Attributes:
        rows: Where a product goes, shape [nnz], int64.
        in_x: Component of the first factor, shape [nnz].
        in_y: Component of the second, shape [nnz].
        values: Coefficients, shape [nnz], float64.
        shape: Number of rows of z, x and y.
    """

    rows: Tensor
    in_x: Tensor
    in_y: Tensor
    values: Tensor
    shape: tuple[int, int, int]

    def dense(self) -> Tensor:
        """The whole tensor, of shape `shape`, float64."""
        result = torch.zeros(self.shape, dtype=torch.float64)
        result[self.rows, self.in_x, self.in_y] = self.values
        return result


def collect_couplings(
    degrees_x: Sequence[int], degrees_y: Sequence[int], num_rows: int, blocks: Iterable[tuple[Path, range, np.ndarray]]
) -> Couplings:
    """Nonzero coefficients of many couplings of degrees.

    Args:
        degrees_x: Degrees of the first factor.
        degrees_y: Degrees of the second.
        num_rows: Rows of the result.
        blocks: For each coupling its degrees, the rows of its components m3, and its tensor [m1, m2, m3].
    """
    start_x, start_y = block_starts(degrees_x), block_starts(degrees_y)
    indices, values = [np.zeros((3, 0), dtype=np.int64)], [np.zeros(0)]
    for (l1, l2, _), rows, tensor in blocks:
        m1, m2, m3 = np.nonzero(np.abs(tensor) > ROUNDING)
        indices.append(np.stack([np.asarray(rows)[m3], start_x[l1] + m1, start_y[l2] + m2]))
        values.append(tensor[m1, m2, m3])
    sizes = [sum(2 * degree + 1 for degree in degrees) for degrees in (degrees_x, degrees_y)]
    where, in_x, in_y = torch.from_numpy(np.concatenate(indices, axis=1)).unbind(0)
    return Couplings(where, in_x, in_y, torch.from_numpy(np.concatenate(values)), (num_rows, sizes[0], sizes[1]))


class SparseMatrix(TableModule):
    """A constant sparse matrix.

    Args:
        rows: Row of each entry, shape [nnz]; no entry twice.
        columns: Column of each entry, shape [nnz].
        values: Entries, shape [nnz], float64.
        shape: Rows and columns of the matrix.
    """

    def __init__(self, rows: Tensor, columns: Tensor, values: Tensor, shape: tuple[int, int]) -> None:
        super().__init__()
        self._register("", rows, columns, values, shape[0])
        self._register("_transposed", columns, rows, values, shape[1])

    def _register(self, suffix: str, rows: Tensor, columns: Tensor, values: Tensor, num_rows: int) -> None:
        order = torch.argsort(rows, stable=True)
        first = torch.searchsorted(rows[order], torch.arange(num_rows + 1))
        self.register_buffer(f"first{suffix}", first.int(), persistent=False)
        self.register_buffer(f"columns{suffix}", columns[order].int(), persistent=False)
        self.register_table(f"values{suffix}", values[order])

    def table(self, suffix: str = "") -> list[Tensor]:
        """Arguments of `sparse_matmul`."""
        return [self.get_buffer(f"{name}{suffix}") for name in ("first", "columns", "values")]

    def forward(self, dense: Tensor) -> Tensor:
        """Shape [K, N] to [R, N]."""
        result: Tensor = sparse_matmul(*self.table(), *self.table("_transposed"), dense)
        return result


class SparseBilinear(TableModule):
    """A bilinear map of two features, channel by channel: products of two components, times a sparse matrix.

    Args:
        couplings: Its coefficients.
    """

    of_x: Tensor
    of_y: Tensor

    def __init__(self, couplings: Couplings) -> None:
        super().__init__()
        num_rows, num_x, num_y = couplings.shape
        pairs, columns = torch.unique(couplings.in_x * num_y + couplings.in_y, return_inverse=True)
        # Gathering is slower than multiplying everything with everything, unless most of it would be in vain.
        self.gather = 2 * len(pairs) < num_x * num_y
        if self.gather:
            self.register_buffer("of_x", pairs // num_y, persistent=False)
            self.register_buffer("of_y", pairs % num_y, persistent=False)
        else:
            columns = pairs[columns]
        self.num_pairs = len(pairs) if self.gather else num_x * num_y
        self.matrix = SparseMatrix(couplings.rows, columns, couplings.values, (num_rows, self.num_pairs))

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Shapes [n, K_x, C] and [n, K_y, C] to [n, rows, C]."""

        def couple(x: Tensor, y: Tensor) -> Tensor:
            return components_last(self.of_components(components_first(x), components_first(y)), x)

        return in_slices(couple, (x, y), self.num_pairs * x.shape[2])

    def of_components(self, x: Tensor, y: Tensor) -> Tensor:
        """Shapes [K_x, N] and [K_y, N] to [rows, N]."""
        if self.gather:
            return self.matrix(x.index_select(0, self.of_x) * y.index_select(0, self.of_y))
        return self.matrix((x[:, None] * y).flatten(0, 1))


def swap(values: Tensor) -> Tensor:
    """[A, B, C] to [B, A, C]."""
    return swapped(values) if being_traced() else values.transpose(0, 1)


def components_first(features: Tensor) -> Tensor:
    """[n, K, C] to [K, n C]."""
    return swap(features).flatten(1)


def components_last(rows: Tensor, like: Tensor) -> Tensor:
    """[K, n C] to [n, K, C], with n and C of other features."""
    return swap(rows.unflatten(1, (like.shape[0], like.shape[2])))


def in_slices(function: Callable[..., Tensor], features: Sequence[Tensor], floats_per_row: int) -> Tensor:
    """Apply a function that acts row by row to a few rows at a time, so that what it computes stays in the cache.

    Measured on CPU, degrees 0..6 and 64 channels: 2 to 3 times as fast as all at once. A GPU wants all at once.

    Args:
        function: Takes and returns tensors of equal first dimension.
        features: Its arguments.
        floats_per_row: Size of its largest intermediate value, per row.
    """
    if being_traced() or features[0].device.type != "cpu":
        return function(*features)
    size = max(1, FLOATS_IN_CACHE // floats_per_row)
    if features[0].shape[0] <= size:
        return function(*features)
    parts = zip(*(value.split(size) for value in features), strict=True)
    return torch.cat([function(*part) for part in parts])


def matrices_times(matrices: Tensor, features: Tensor) -> Tensor:
    """One matrix per row: [n, P, K] times [n, K, C]."""
    if being_traced():
        # Fused with what follows; as a matrix product its result, edges x rows x channels, would be stored.
        return (matrices[..., None] * features[:, None]).sum(2)
    return matrices @ features
