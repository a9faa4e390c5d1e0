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


def wigner_d(degree: int, matrix: Tensor, *, pseudo: bool = False) -> Tensor:
    """D of natural parity (-1)^l, or of the other one; e3nn needs the default dtype to keep its precision."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        return o3.Irrep(degree, (-1) ** (degree + pseudo)).D_from_matrix(matrix)
    finally:
        torch.set_default_dtype(before)


def rotate(
    features: Tensor,
    matrix: Tensor,
    num_paths: Sequence[int] | None = None,
    degrees: Sequence[int] | None = None,
    *,
    pseudo: bool = False,
) -> Tensor:
    """Rotate features [n, rows, C] or [n, 2, rows, C], rows ordered by degree, m, path."""
    if features.dim() == 4:
        halves = [rotate(features[:, i], matrix, num_paths, degrees, pseudo=bool(i)) for i in (0, 1)]
        return torch.stack(halves, dim=1)
    if num_paths is None:
        num_paths = (1,) * (len(degrees) if degrees is not None else round(features.shape[1] ** 0.5))
    degrees = range(len(num_paths)) if degrees is None else degrees
    sizes = [(2 * degree + 1) * paths for degree, paths in zip(degrees, num_paths, strict=True)]
    blocks = []
    for degree, paths, block in zip(degrees, num_paths, features.split(sizes, dim=1), strict=True):
        rows = block.unflatten(1, (2 * degree + 1, paths))
        turned = torch.einsum("ij,njpc->nipc", wigner_d(degree, matrix, pseudo=pseudo), rows)
        blocks.append(turned.flatten(1, 2))
    return torch.cat(blocks, dim=1)
