"""The multilinear form of an edge product as torch operators with two derivatives; see native/edges.cpp.

T = sum over edges e, rows d and channels of
    g[receiver, d] z[d] sum over x in fan(d) of coef[e, d, x] x[x]
where one of the operands x and z belongs to the edge and the other one to its sender.
"""

import ctypes
import itertools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from mace_gaunt.tensor_products.kernels.native import load_library, number_of, suffix_of

ARRAYS = ("first_x", "last_x", "first_visit", "row", "z_row")


class CPlan(ctypes.Structure):
    """`Plan` of edges.cpp."""

    _fields_ = [
        *((name, ctypes.c_int64) for name in ("rows", "num_x", "num_z", "num_terms", "num_fans")),
        *((name, ctypes.c_void_p) for name in ARRAYS),
        ("x_of_edge", ctypes.c_int64),
    ]


class CGraph(ctypes.Structure):
    """`Graph` of edges.cpp."""

    _fields_ = [
        ("n_nodes", ctypes.c_int64), ("n_edges", ctypes.c_int64), ("channels", ctypes.c_int64),
        ("sender", ctypes.c_void_p), ("receiver", ctypes.c_void_p), ("threads", ctypes.c_int64),
    ]  # fmt: skip


LONGEST_FAN = 7


class Plan:
    """Which operands meet in which rows.

    Args:
        num_x: Rows of x.
        num_z: Rows of z.
        fans: First and last + 1 row of x that each row of the result sums over.
        z_row: Row of z of each row of the result.
        x_of_edge: Whether x belongs to the edge, and z to the sender; else the other way round.

    Attributes:
        rows: Rows of the result.
        terms: (row, row of x) of every coefficient, in the order in which the library wants them.
    """

    def __init__(
        self, num_x: int, num_z: int, fans: Sequence[tuple[int, int]], z_row: Sequence[int], *, x_of_edge: bool
    ) -> None:
        self.rows, self.num_x, self.num_z, self.x_of_edge = len(fans), num_x, num_z, x_of_edge
        groups: dict[tuple[int, int], list[int]] = {}
        for row, (first, last) in enumerate(fans):
            for start in range(first, last, LONGEST_FAN):
                groups.setdefault((start, min(last, start + LONGEST_FAN)), []).append(row)
        self.terms = [(row, x) for (first, last), rows in groups.items() for row in rows for x in range(first, last)]
        visits = [row for rows in groups.values() for row in rows]
        starts = [0, *itertools.accumulate(len(rows) for rows in groups.values())]
        tables = (
            [first for first, _ in groups],
            [last for _, last in groups],
            starts,
            visits,
            [z_row[r] for r in visits],
        )
        self.arrays = [(ctypes.c_int32 * len(values))(*values) for values in tables]
        self.as_c = CPlan(
            self.rows, num_x, num_z, len(self.terms), len(groups), *map(ctypes.addressof, self.arrays), int(x_of_edge)
        )
        sizes = (self.rows, num_x, num_z, len(self.terms), len(groups), x_of_edge)
        self.number = number_of(repr(sizes).encode(), *map(bytes, self.arrays))


PLANS: dict[int, Plan] = {}
"""Operators take numbers, not objects: a plan is known by that of its content, in every process the same."""


def register_plan(plan: Plan) -> int:
    """Number of a plan, for the operators."""
    PLANS.setdefault(plan.number, plan)
    return plan.number


def run(name: str, plan: int, edge_index: Tensor, inputs: list[Tensor], outputs: list[Tensor]) -> None:
    """Call a function of the library; all tensors are contiguous and on the CPU.

    Raises:
        ValueError: If the inputs do not have the plan's shapes, or a precision that the library has not.
        IndexError: If an edge ends at a node that is not there.
    """
    _, x, z, *_ = inputs
    index = node_numbers(edge_index)
    n_nodes, n_edges, channels = n_senders(plan, x, z), index.shape[1], x.shape[-1]
    check_shapes(PLANS[plan], n_nodes, n_edges, channels, inputs)
    graph = CGraph(
        n_nodes, n_edges, channels, index.data_ptr(), index.data_ptr() + 8 * n_edges, torch.get_num_threads()
    )
    function = getattr(load_library(), f"{name}_{suffix_of(x.dtype)}")
    function.restype = ctypes.c_bool
    pointers = [ctypes.c_void_p(tensor.data_ptr()) for tensor in (*inputs, *outputs)]
    if not function(ctypes.byref(PLANS[plan].as_c), ctypes.byref(graph), *pointers):
        raise IndexError(f"edge_index names nodes that are not there: there are {n_nodes}")


def node_numbers(edge_index: Tensor) -> Tensor:
    """An edge index as the library reads it: [2, n_edges], int64, contiguous.

    Raises:
        ValueError: If it is none.
    """
    if edge_index.dim() != 2 or edge_index.shape[0] != 2 or edge_index.dtype not in (torch.int32, torch.int64):
        raise ValueError(
            f"edge_index must be senders and receivers, shape [2, n_edges], int64 or int32, found "
            f"{list(edge_index.shape)}, {edge_index.dtype}"
        )
    return edge_index.long().contiguous()


def check_shapes(plan: Plan, n_nodes: int, n_edges: int, channels: int, inputs: list[Tensor]) -> None:
    """Refuse what the loops would read beyond the end of; inputs are coef, x, z and maybe g, coef_, x_, z_."""
    of_x, of_z = (n_edges, n_nodes) if plan.x_of_edge else (n_nodes, n_edges)
    operands = [(n_edges, len(plan.terms)), (of_x, plan.num_x, channels), (of_z, plan.num_z, channels)]
    expected = [*operands, (n_nodes, plan.rows, channels), *operands][: len(inputs)]
    found = [tuple(value.shape) for value in inputs]
    if found != expected or len({value.dtype for value in inputs}) > 1:
        raise ValueError(f"expected shapes {expected} of one dtype, found {found}, {[v.dtype for v in inputs]}")


def n_senders(plan: int, x: Tensor, z: Tensor) -> int:
    """Number of nodes."""
    return (z if PLANS[plan].x_of_edge else x).shape[0]


@torch.library.custom_op("mace_gaunt::edge_forward", mutates_args=(), device_types="cpu")
def edge_forward(coef: Tensor, x: Tensor, z: Tensor, edge_index: Tensor, plan: int) -> Tensor:
    """The result, shape [n_nodes, rows, C].

    Args:
        coef: Shape [n_edges, num_terms].
        x: Shape [n_edges or n_nodes, num_x, C].
        z: Shape [n_nodes or n_edges, num_z, C].
        edge_index: Senders and receivers, shape [2, n_edges], int64 or int32.
        plan: From `register_plan`.
    """
    inputs = [coef.contiguous(), x.contiguous(), z.contiguous()]
    result = x.new_empty(n_senders(plan, x, z), PLANS[plan].rows, x.shape[-1])
    run("forward", plan, edge_index, inputs, [result])
    return result


@torch.library.custom_op("mace_gaunt::edge_backward", mutates_args=(), device_types="cpu")
def edge_backward(
    coef: Tensor, x: Tensor, z: Tensor, g: Tensor, edge_index: Tensor, plan: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients with respect to coef, x and z for the result's cotangent g."""
    inputs = [coef.contiguous(), x.contiguous(), z.contiguous(), g.contiguous()]
    outputs = [torch.empty_like(value) for value in inputs[:3]]
    run("backward", plan, edge_index, inputs, outputs)
    return outputs[0], outputs[1], outputs[2]


@torch.library.custom_op("mace_gaunt::edge_double_backward", mutates_args=(), device_types="cpu")
def edge_double_backward(
    coef: Tensor,
    x: Tensor,
    z: Tensor,
    g: Tensor,
    coef_: Tensor,
    x_: Tensor,
    z_: Tensor,
    edge_index: Tensor,
    plan: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of `edge_backward`'s results times (coef_, x_, z_), with respect to coef, x, z and g."""
    inputs = [value.contiguous() for value in (coef, x, z, g, coef_, x_, z_)]
    outputs = [torch.empty_like(value) for value in inputs[:4]]
    run("double_backward", plan, edge_index, inputs, outputs)
    return outputs[0], outputs[1], outputs[2], outputs[3]


@edge_forward.register_fake
def _(coef: Tensor, x: Tensor, z: Tensor, edge_index: Tensor, plan: int) -> Tensor:
    return x.new_empty(n_senders(plan, x, z), PLANS[plan].rows, x.shape[-1])


@edge_backward.register_fake
def _(coef: Tensor, x: Tensor, z: Tensor, g: Tensor, edge_index: Tensor, plan: int) -> tuple[Tensor, Tensor, Tensor]:
    a, b, c = (value.new_empty(value.shape) for value in (coef, x, z))
    return a, b, c


@edge_double_backward.register_fake
def _(
    coef: Tensor, x: Tensor, z: Tensor, g: Tensor, coef_: Tensor, x_: Tensor, z_: Tensor, edge_index: Tensor, plan: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    a, b, c, d = (value.new_empty(value.shape) for value in (coef, x, z, g))
    return a, b, c, d


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    *tensors, edge_index, plan = inputs
    ctx.save_for_backward(*tensors, edge_index)
    ctx.plan = plan


def _forward_gradient(ctx: Any, g: Tensor) -> tuple[Any, ...]:
    coef, x, z, edge_index = ctx.saved_tensors
    return *edge_backward(coef, x, z, g, edge_index, ctx.plan), None, None


def _backward_gradient(ctx: Any, *cotangents: Tensor) -> tuple[Any, ...]:
    coef, x, z, g, edge_index = ctx.saved_tensors
    # An operator's undefined cotangents arrive as zeros.
    return *edge_double_backward(coef, x, z, g, *cotangents, edge_index, ctx.plan), None, None


edge_forward.register_autograd(_forward_gradient, setup_context=_keep)
edge_backward.register_autograd(_backward_gradient, setup_context=_keep)
