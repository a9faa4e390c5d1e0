"""What a trained model sees of an atom: the features of its layers."""

from collections.abc import Sequence

import torch
from torch import Tensor

from mace_gaunt.model.mace import MACE
from mace_gaunt.so3.layout import to_mul_ir


def node_features(model: MACE, vectors: Tensor, node_types: Tensor, pair_index: Tensor) -> list[Tensor]:
    """The features that each layer gives: what the readouts and the next layer read.

    Args:
        model: The potential.
        vectors: positions[receiver] - positions[sender] + shifts of every pair, once, shape [n_pairs, 3] (Å).
        node_types: Shape [n_nodes].
        pair_index: Shape [2, n_pairs].

    Returns:
        Per layer shape [n_nodes, (max_L+1)^2, C], of the last [n_nodes, 1, C]; with pseudo-tensors there is an axis of
        natural and pseudo behind the nodes.
    """
    lengths = torch.linalg.vector_norm(vectors, dim=-1, keepdim=True)
    return list(model.layer_features(vectors, lengths, node_types, pair_index, mirrored=True))


def node_scalars(model: MACE, vectors: Tensor, node_types: Tensor, pair_index: Tensor) -> Tensor:
    """Degree 0 of the features of all layers: what the readouts read.

    Args:
        model: The potential.
        vectors: As for `node_features`.
        node_types: Shape [n_nodes].
        pair_index: Shape [2, n_pairs].

    Returns:
        Shape [n_nodes, layers times channels]; invariant under rotations, inversion and translations. Pseudo-scalars
        are left out.
    """
    return torch.cat([scalars(feats) for feats in node_features(model, vectors, node_types, pair_index)], dim=-1)


def scalars(feats: Tensor) -> Tensor:
    """Degree 0 of the features of a layer, shape [n_nodes, C]; pseudo-scalars are left out."""
    return feats[:, 0] if feats.dim() == 3 else feats[:, 0, 0]


def flat_features(feats: Tensor) -> Tensor:
    """The features of a layer in e3nn's order, shape [n_nodes, width of `flat_irreps`]."""
    parts = [feats] if feats.dim() == 3 else [feats[:, 0], feats[:, 1]]
    return torch.cat([to_mul_ir(part) for part in parts], dim=-1)


def flat_irreps(shape: Sequence[int]) -> str:
    """Irreps of `flat_features` as e3nn writes them, from the shape of a layer's features without the nodes.

    Args:
        shape: [(L+1)^2, C], or [2, (L+1)^2, C] with pseudo-tensors, which come last.

    Returns:
        As "8x0e+8x1o", with pseudo-tensors "8x0e+8x1o+8x0o+8x1e".
    """
    degrees = range(round(shape[-2] ** 0.5))
    signs = ((1, -1), (-1, 1))[: 1 if len(shape) == 2 else 2]
    return "+".join(f"{shape[-1]}x{l}{'e' if sign[l % 2] > 0 else 'o'}" for sign in signs for l in degrees)
