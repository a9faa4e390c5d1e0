"""Inputs to call products on: random, the same for all kernels of a cell and on every device."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from mace_gaunt.benchmark.cells import NUM_ELEMENTS, Cell
from mace_gaunt.so3.harmonics import spherical_harmonics


@dataclass(frozen=True)
class Inputs:
    """What a product is called on.

    Attributes:
        leaves: Inputs that gradients are taken of.
        indices: Further inputs: edges, or elements.
        through: Index of the leaf that tells positions most directly: an edge product's harmonics, else features.
    """

    leaves: tuple[Tensor, ...]
    indices: tuple[Tensor, ...]
    through: int


def make_inputs(product: Any, cell: Cell) -> Inputs:
    """Inputs of a product in its own layout.

    Args:
        product: A feature, edge or node product.
        cell: Its cell.
    """
    return {"feature": feature_inputs, "edge": edge_inputs, "node": node_inputs}[cell.operation](product, cell)


def feature_inputs(product: Any, cell: Cell) -> Inputs:
    """x and y of natural parity, unit variance."""
    x, y = (
        normal(cell, cell.batch, rows(degrees), cell.channels, offset=offset)
        for offset, degrees in enumerate((product.degrees_x, product.degrees_y))
    )
    return Inputs((leaf(x), leaf(y)), (), 1)


def edge_inputs(product: Any, cell: Cell) -> Inputs:
    """Node features, harmonics of random directions and weights; receivers sorted as a neighbour list has them."""
    attrs = spherical_harmonics(directions(cell), product.l_edge)
    feats = normal(cell, cell.n_nodes, rows(range(product.l_in + 1)), cell.channels)
    weights = normal(cell, cell.batch, product.weight_numel, cell.channels, offset=1)
    return Inputs((leaf(feats), leaf(attrs), leaf(weights)), (random_graph(cell),), 1)


def node_inputs(product: Any, cell: Cell) -> Inputs:
    """Node features and elements."""
    feats = normal(cell, cell.batch, rows(range(product.l_in + 1)), cell.channels)
    types = torch.arange(cell.batch, device=cell.device) % NUM_ELEMENTS
    return Inputs((leaf(feats),), (types,), 0)


def with_vectors(inputs: Inputs, cell: Cell) -> tuple[Tensor, ...]:
    """Inputs as `selection.call` takes them: an edge product's with unit vectors in the place of their harmonics."""
    leaves = list(inputs.leaves)
    if cell.operation == "edge":
        leaves[inputs.through] = leaf(directions(cell))
    return (*leaves, *inputs.indices)


def normal(cell: Cell, *shape: int, offset: int = 0) -> Tensor:
    """Normal numbers: drawn on the CPU in float32, so that they are the same on every device and in any precision."""
    generator = torch.Generator().manual_seed(cell.seed + offset)
    return torch.randn(shape, generator=generator, dtype=torch.float32).to(**cell.tensor_options)


def directions(cell: Cell) -> Tensor:
    """Random unit vectors, one per edge, shape [batch, 3]."""
    return normalize(normal(cell, cell.batch, 3, offset=2), dim=-1)


def random_graph(cell: Cell) -> Tensor:
    """Senders at random, receivers in order, shape [2, batch]."""
    generator = torch.Generator().manual_seed(cell.seed + 3)
    senders = torch.randint(cell.n_nodes, (cell.batch,), generator=generator)
    receivers = torch.arange(cell.batch) * cell.n_nodes // cell.batch
    return torch.stack([senders, receivers]).to(cell.device)


def leaf(values: Tensor) -> Tensor:
    """Values that gradients are taken of."""
    return values.detach().requires_grad_()


def rows(degrees: Sequence[int]) -> int:
    """Components of some degrees."""
    return sum(2 * degree + 1 for degree in degrees)
