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


def rows_of(table: Tensor, index: Tensor) -> Tensor:
    """The row of a table for each node: `table[index]`, spread out where the table has one row only.

    The compiler cannot add gradients into a table of one row with vector instructions (torch 2.13, on a CPU), and need
    not: there they are a sum.

    Args:
        table: Shape [n_rows, ...].
        index: Shape [n_nodes], int64.

    Returns:
        Shape [n_nodes, ...].
    """
    return table[index] if table.shape[0] > 1 else table.expand(index.shape[0], *table.shape[1:])
