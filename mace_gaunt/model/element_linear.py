"""A linear map that depends on the element of each node, at a cost that does not grow with the number of elements."""

import torch
from torch import Tensor, nn

from mace_gaunt.so3.layout import degree_slice

TILE = 16
"""Rows of a tile: long enough for a fast matrix product, short enough that few rows are padding (measured on CPU)."""


class ElementLinear(nn.Module):
    """A linear map per degree and element: the skip connection of the residual interaction.

    Nodes are sorted by element into tiles of `TILE` rows, and each tile is multiplied with the matrix of its element.
    Time is of the order of (n_nodes + TILE x num_elements / 2) x C^2 per component, and what is stored beside features
    and weights are n_nodes / TILE + num_elements matrices per degree.

    Args:
        l_in: Largest degree of the input.
        l_out: Largest degree of the output; degrees above l_in are zero.
        num_channels: Channels of input and output.
        num_elements: Number of elements.
        pseudo: Whether input and output have the parity axis.
    """

    def __init__(self, l_in: int, l_out: int, num_channels: int, num_elements: int, *, pseudo: bool = False) -> None:
        super().__init__()
        self.l_out, self.pseudo = l_out, pseudo
        parities = (2,) if pseudo else ()
        degrees = min(l_in, l_out) + 1
        self.weight = nn.Parameter(torch.randn(*parities, degrees, num_elements, num_channels, num_channels))

    def forward(self, features: Tensor, node_types: Tensor) -> Tensor:
        """Shape [n_nodes, (2,) (l_in+1)^2, C] to [n_nodes, (2,) (l_out+1)^2, C]."""
        degrees, num_elements, channels, _ = self.weight.shape[-4:]
        if num_elements == 1:
            # Nothing to sort; the compiler also fails on tiles of one element (torch 2.13, vectors of float32).
            slots, elements = None, None
        else:
            slots, elements = tiles_by_element(node_types, num_elements)
        weight = self.weight * (num_elements * channels) ** -0.5
        weight = weight if elements is None else weight.index_select(-3, elements)
        if self.pseudo:
            parts = [self._mix(features[:, i, : degrees**2], weight[i], slots) for i in (0, 1)]
            return torch.stack(parts, dim=1)
        return self._mix(features[:, : degrees**2], weight, slots)

    def _mix(self, features: Tensor, weight: Tensor, slots: Tensor | None) -> Tensor:
        """Features [n_nodes, degrees^2, C] with the weights of the tiles [degrees, n_tiles, C, C], or of all nodes."""
        degrees = weight.shape[0]
        if slots is None:
            result = torch.cat([features[:, degree_slice(d)] @ weight[d, 0] for d in range(degrees)], dim=1)
        else:
            result = self._mix_tiles(features, weight, slots)
        missing = (self.l_out + 1) ** 2 - degrees**2
        return (
            torch.cat([result, result.new_zeros(result.shape[0], missing, result.shape[2])], 1) if missing else result
        )

    @staticmethod
    def _mix_tiles(features: Tensor, weight: Tensor, slots: Tensor) -> Tensor:
        degrees, n_tiles = weight.shape[:2]
        rows = features.new_zeros(n_tiles * TILE, *features.shape[1:]).index_copy(0, slots, features)
        tiles = rows.unflatten(0, (n_tiles, TILE))
        blocks = []
        for degree in range(degrees):
            block = tiles[:, :, degree_slice(degree)].flatten(1, 2)
            blocks.append(torch.bmm(block, weight[degree]).unflatten(1, (TILE, 2 * degree + 1)))
        return torch.cat(blocks, dim=2).flatten(0, 1).index_select(0, slots)


def tiles_by_element(node_types: Tensor, num_elements: int) -> tuple[Tensor, Tensor]:
    """Where nodes lie when they are sorted by element and every element begins a new tile.

    There are as many tiles as the nodes of any composition need, so that no shape depends on values and the compiler
    can trace it.

    Args:
        node_types: Element indices, shape [n_nodes], int64.
        num_elements: Number of elements.

    Returns:
        Row of each node, shape [n_nodes], and element of each tile, shape [n_nodes // TILE + num_elements].
    """
    n_nodes, device = node_types.shape[0], node_types.device
    in_order, order = node_types.sort(stable=True)
    elements = torch.arange(num_elements, device=device)
    first = torch.searchsorted(in_order, elements)
    counts = torch.searchsorted(in_order, elements, right=True) - first
    last_tile = ((counts + (TILE - 1)) // TILE).cumsum(0)
    first_tile = torch.cat([last_tile.new_zeros(1), last_tile[:-1]])
    rows = torch.arange(n_nodes, device=device) + (first_tile * TILE - first)[in_order]
    slots = torch.zeros_like(order).index_copy(0, order, rows)
    tiles = torch.arange(n_nodes // TILE + num_elements, device=device)
    return slots, torch.searchsorted(last_tile, tiles, right=True).clamp(max=num_elements - 1)
