"""How many rows `kernel=auto` measures on: as many as tell the kernels apart, however large the batch is.

A kernel that is to be rejected may need twenty times the memory of a training step, and the process keeps what it took.
On a CPU the order of the kernels does not depend on the number of rows, once a call takes a few milliseconds.
"""

import torch
from torch import Tensor

from mace_gaunt.tensor_products.contracts import EdgeProduct, FeatureProduct, NodeProduct, Product

NUMBERS_PER_THREAD, FEWEST_THREADS = 2**18, 2
"""Numbers in the largest features that are measured on: rows x components x channels."""
EDGES_PER_NODE = 16
"""A node counts as so many edges: its product takes about their time and memory."""


def enough_rows(product: Product, channels: int, device: torch.device) -> int | None:
    """Edges of an edge product or nodes of another one to measure on; None for all there are.

    On a GPU all, since few rows would not fill it; of a feature product that no model holds, too.

    Args:
        product: The product.
        channels: Channels of its inputs.
        device: Where it computes.
    """
    if device.type != "cpu" or (isinstance(product, FeatureProduct) and product.num_channels is None):
        return None
    numbers = NUMBERS_PER_THREAD * max(FEWEST_THREADS, torch.get_num_threads())
    rows = numbers // (components_of(product) * channels * (1 if isinstance(product, EdgeProduct) else EDGES_PER_NODE))
    return max(1, rows)


def components_of(product: Product) -> int:
    """Components of the largest features of a product."""
    if isinstance(product, FeatureProduct):
        l_max, pseudo = max(*product.degrees_x, *product.degrees_y, *product.degrees_out), product.pseudo_out
    else:
        assert isinstance(product, (EdgeProduct, NodeProduct))
        l_max, pseudo = max(product.l_in, product.l_out), product.pseudo_in or product.pseudo_out
    return int((l_max + 1) ** 2) * (2 if pseudo else 1)


def enough_graph(n_nodes: int, n_edges: int, rows: int | None) -> tuple[int, int]:
    """Numbers of nodes and edges of a part of a batch with as many edges per node.

    Args:
        n_nodes: Of the batch.
        n_edges: Of the batch.
        rows: Most edges.
    """
    if rows is None or rows >= n_edges:
        return n_nodes, n_edges
    return max(1, round(n_nodes * rows / n_edges)), rows


def first_rows(product: Product, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """The part of a product's inputs that is enough to measure on.

    Args:
        product: The product.
        inputs: See `selection.select_kernel`.
    """
    rows = enough_rows(product, inputs[0].shape[-1], inputs[0].device)
    if rows is None or rows >= inputs[1].shape[0]:
        return inputs
    if not isinstance(product, EdgeProduct):
        return tuple(value[:rows] for value in inputs)
    features, vectors, weights, edge_index = inputs
    n_nodes, n_edges = enough_graph(features.shape[0], vectors.shape[0], rows)
    senders, receivers = edge_index[:, :n_edges] % n_nodes
    index = torch.stack([senders, receivers.sort().values])
    return features[:n_nodes], vectors[:n_edges], weights[:n_edges], index
