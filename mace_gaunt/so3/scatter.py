"""Sum of edge values into nodes."""

from torch import Tensor


def scatter_sum(values: Tensor, index: Tensor, num_nodes: int) -> Tensor:
    """Add the rows of one index together.

    Args:
        values: Shape [n_edges, ...].
        index: Receiving row of each value, shape [n_edges]; sorted is fastest.
        num_nodes: Number of rows of the result.

    Returns:
        Shape [num_nodes, ...], zero where nothing arrives.
    """
    return values.new_zeros((num_nodes, *values.shape[1:])).index_add(0, index, values)
