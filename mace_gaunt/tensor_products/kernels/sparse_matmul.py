"""Operations of sparse products that torch lacks: differentiable any number of times, and opaque to a compiler."""

from typing import Any

import torch
from torch import Tensor


@torch.library.custom_op("mace_gaunt::sparse_matmul", mutates_args=())
def sparse_matmul(
    first: Tensor,
    columns: Tensor,
    values: Tensor,
    first_transposed: Tensor,
    columns_transposed: Tensor,
    values_transposed: Tensor,
    dense: Tensor,
) -> Tensor:
    """A constant sparse matrix times a dense one, differentiable any number of times by the dense one.

    torch's own sparse product is slower on CPU and has no second derivative; a weighted sum of rows is what
    `embedding_bag` computes.

    Args:
        first: First entry of each row of the matrix, and the number of entries, shape [R + 1], int32.
        columns: Column of each entry, row by row, shape [nnz], int32.
        values: Entries, shape [nnz].
        first_transposed: The same of the transposed matrix, shape [K + 1].
        columns_transposed: Shape [nnz].
        values_transposed: Shape [nnz].
        dense: Shape [K, N].

    Returns:
        Shape [R, N].
    """
    if dense.shape[1] == 0:
        return dense.new_zeros(first.shape[0] - 1, 0)
    result: Tensor = torch.nn.functional.embedding_bag(
        columns, dense.detach().contiguous(), first, mode="sum", per_sample_weights=values, include_last_offset=True
    )
    return result


@sparse_matmul.register_fake
def _shape(first: Tensor, *tables: Tensor) -> Tensor:
    return tables[-1].new_empty(first.shape[0] - 1, tables[-1].shape[1])


def _keep_tables(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs[:6])


def _transposed(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
    tables = ctx.saved_tensors
    return None, None, None, None, None, None, sparse_matmul(*tables[3:], *tables[:3], gradient)


sparse_matmul.register_autograd(_transposed, setup_context=_keep_tables)


@torch.library.custom_op("mace_gaunt::swapped", mutates_args=())
def swapped(values: Tensor) -> Tensor:
    """[A, B, C] to [B, A, C] in memory order.

    An operation of its own, so that its gradient lies in memory order too: a compiler may store what it computes in
    another order than was seen when the graph was traced, and a change of shape without a copy then fails.
    """
    return values.transpose(0, 1).clone(memory_format=torch.contiguous_format)


@swapped.register_fake
def _swapped_shape(values: Tensor) -> Tensor:
    return values.new_empty(values.shape[1], values.shape[0], values.shape[2])


def _swapped_back(ctx: Any, gradient: Tensor) -> Tensor:
    result: Tensor = swapped(gradient)
    return result


swapped.register_autograd(_swapped_back)
