"""Constant matrices applied to the component axis of features, and filters that are weighted degree by degree."""

import torch
from torch import Tensor

from mace_gaunt.so3.layout import degree_slice
from mace_gaunt.so3.tracing import being_traced

FEW_CHANNELS = 16
"""Below this many channels one product over all rows beats one small product per row (measured on CPU)."""


def apply_matrix(matrix: Tensor, features: Tensor) -> Tensor:
    """matrix @ features for each row.

    Args:
        matrix: Shape [P, K].
        features: Shape [n, K, C].

    Returns:
        Shape [n, P, C]; for few channels not contiguous.
    """
    if features.shape[2] < FEW_CHANNELS:
        return torch.einsum("pk,nkc->npc", matrix, features)
    return matrix @ features


def by_degree(table: Tensor, l_max: int, first: int = 0) -> Tensor:
    """A table that keeps the degrees of the harmonics apart, for `weigh`.

    Args:
        table: What each harmonic becomes, shape [(l_max+1)^2, Q].
        l_max: Largest degree.
        first: Smallest degree wanted.

    Returns:
        Shape [(l_max+1)^2, (l_max+1-first) Q].
    """
    spread = torch.zeros(table.shape[0], l_max + 1 - first, table.shape[1], dtype=table.dtype)
    for degree in range(first, l_max + 1):
        spread[degree_slice(degree), degree - first] = table[degree_slice(degree)]
    return spread.flatten(1)


def weigh(per_degree: Tensor, weights: Tensor) -> Tensor:
    """Sum over degrees of a filter times its weight.

    Args:
        per_degree: Shape [n, W Q].
        weights: Shape [n, W, C].

    Returns:
        Shape [n, Q, C].
    """
    filters = per_degree.unflatten(1, (weights.shape[1], -1))
    if being_traced():
        # Fused into the multiply and scatter that follow, so nothing of size edges x points x channels is stored.
        return (filters[..., None] * weights[:, :, None, :]).sum(1)
    return filters.transpose(1, 2) @ weights
