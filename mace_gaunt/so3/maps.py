"""Constant matrices applied to the component axis of features."""

import torch
from torch import Tensor

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
