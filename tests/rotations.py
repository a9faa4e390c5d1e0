"""Rotations of the dense layout, from e3nn's Wigner matrices in full double precision."""

from collections.abc import Sequence

import torch
from e3nn import o3
from torch import Tensor


def random_rotation(*, inversion: bool = False, seed: int = 0) -> Tensor:
    """A rotation matrix, or one times -1, float64."""
    generator = torch.Generator().manual_seed(seed)
    matrix, _ = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64, generator=generator))
    matrix = matrix * torch.linalg.det(matrix)
    return -matrix if inversion else matrix


def wigner_d(degree: int, matrix: Tensor) -> Tensor:
    """D of natural parity (-1)^l; e3nn needs the default dtype to keep its precision."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        return o3.Irrep(degree, (-1) ** degree).D_from_matrix(matrix)
    finally:
        torch.set_default_dtype(before)


def rotate(features: Tensor, matrix: Tensor, num_paths: Sequence[int] | None = None) -> Tensor:
    """Rotate features [n, rows, C], rows ordered by degree, m, path."""
    if num_paths is None:
        num_paths = (1,) * round(features.shape[1] ** 0.5)
    sizes = [(2 * degree + 1) * paths for degree, paths in enumerate(num_paths)]
    blocks = []
    for degree, block in enumerate(features.split(sizes, dim=1)):
        rows = block.unflatten(1, (2 * degree + 1, num_paths[degree]))
        blocks.append(torch.einsum("ij,njpc->nipc", wigner_d(degree, matrix), rows).flatten(1, 2))
    return torch.cat(blocks, dim=1)
