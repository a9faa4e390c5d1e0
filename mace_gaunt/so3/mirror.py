"""A pair of atoms is two edges, one in each direction: what is computed for the pair gives both.

Lists of edges made here hold the pairs first, as they are given, and then the same pairs the other way round.
"""

import torch
from torch import Tensor

from mace_gaunt.so3.layout import degree_of_component
from mace_gaunt.so3.scatter import scatter_sum


def mirror_index(pair_index: Tensor) -> Tensor:
    """Sender and receiver of both directions, shape [2, n_pairs] to [2, 2 n_pairs]."""
    return torch.cat([pair_index, pair_index.flip(0)], dim=1)


def mirror_vectors(vectors: Tensor) -> Tensor:
    """Vectors of both directions, shape [n_pairs, 3] to [2 n_pairs, 3]."""
    return torch.cat([vectors, -vectors])


def mirror_values(values: Tensor) -> Tensor:
    """What depends on the length alone, for both directions, shape [n_pairs, ...] to [2 n_pairs, ...]."""
    return torch.cat([values, values])


def mirror_harmonics(edge_attrs: Tensor, parities: Tensor) -> Tensor:
    """Harmonics of both directions, by Y_lm(-r) = (-1)^l Y_lm(r).

    Args:
        edge_attrs: Harmonics of the vectors of the pairs, shape [n_pairs, (l_max+1)^2].
        parities: What `harmonic_parities` gives, in their dtype, shape [(l_max+1)^2].

    Returns:
        Shape [2 n_pairs, (l_max+1)^2].
    """
    return torch.cat([edge_attrs, edge_attrs * parities])


def harmonic_parities(l_max: int) -> Tensor:
    """(-1)^l of each component of the degrees 0..l_max, shape [(l_max+1)^2], float64."""
    return (1 - 2 * (degree_of_component(l_max) % 2)).double()


def sum_at_receivers(values: Tensor, edge_index: Tensor, num_nodes: int, *, mirrored: bool) -> Tensor:
    """Add the values of edges together where they are received.

    Args:
        values: Shape [n_edges, ...]; of pairs, if mirrored, [n_pairs, ...], the same for both directions.
        edge_index: Shape [2, n_edges]; of pairs, if mirrored, [2, n_pairs].
        num_nodes: Number of rows of the result.
        mirrored: Whether every pair is there once and stands for both directions.

    Returns:
        Shape [num_nodes, ...].
    """
    received = scatter_sum(values, edge_index[1], num_nodes)
    return received + scatter_sum(values, edge_index[0], num_nodes) if mirrored else received
