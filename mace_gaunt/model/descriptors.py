"""What a trained model sees of an atom: invariant numbers from its layers."""

import torch
from torch import Tensor

from mace_gaunt.model.mace import MACE
from mace_gaunt.model.trunk import layer_features
from mace_gaunt.so3.harmonics import spherical_harmonics
from mace_gaunt.so3.mirror import mirror_harmonics, mirror_index


def node_scalars(model: MACE, vectors: Tensor, node_types: Tensor, pair_index: Tensor) -> Tensor:
    """Degree 0 of the features that each layer gives: what the readouts read.

    Args:
        model: The potential.
        vectors: positions[receiver] - positions[sender] + shifts of every pair, once, shape [n_pairs, 3] (Å).
        node_types: Shape [n_nodes].
        pair_index: Shape [2, n_pairs].

    Returns:
        Shape [n_nodes, layers times channels]; invariant under rotations, inversion and translations. Pseudo-scalars
        are left out.
    """
    lengths = torch.linalg.vector_norm(vectors, dim=-1, keepdim=True)
    layers = layer_features(
        model.interactions,
        model.products,
        model.embedding(node_types),
        node_types,
        mirror_harmonics(spherical_harmonics(vectors / lengths, model.max_ell), model.parities),
        model.radial_basis(lengths),
        mirror_index(pair_index),
        mirrored=True,
    )
    # With pseudo-tensors there is an axis of natural and pseudo behind the nodes.
    scalars = [feats[:, 0] if feats.dim() == 3 else feats[:, 0, 0] for feats in layers]
    return torch.cat(scalars, dim=-1)
