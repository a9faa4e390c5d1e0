"""Node products as torch operators with two derivatives, one loop over the nodes each; see native/nodes.cpp."""

import ctypes
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from mace_gaunt.tensor_products.kernels.native import load_library, number_of, suffix_of


class CPolynomial(ctypes.Structure):
    """`Polynomial` of nodes.cpp."""

    _fields_ = [
        *((name, ctypes.c_int64) for name in ("num_in", "num_out", "num_weights", "num_products", "num_rows")),
        *((name, ctypes.c_void_p) for name in ("prefix", "last", "first_term", "product", "value", "out", "weight")),
    ]


class CPowers(ctypes.Structure):
    """`Powers` of nodes.cpp."""

    _fields_ = [
        *((name, ctypes.c_int64) for name in ("num_in", "num_out", "num_weights", "num_points", "correlation")),
        *((name, ctypes.c_void_p) for name in ("synthesis", "analysis", "weight")),
    ]


def rounded(table: Sequence[Any]) -> list[int]:
    """Whole numbers that tell tables apart, but not by rounding errors, in which processors and libraries differ.

    The factor keeps simple fractions away from where rounding would turn up or down by chance.
    """
    return [round(value * 1000 * math.pi) if isinstance(value, float) else int(value) for value in table]


class Plan:
    """What one node product computes.

    Args:
        kind: "polynomial" or "powers".
        structure: CPolynomial or CPowers.
        sizes: The numbers of the structure.
        tables: Its arrays, of Python ints or floats.
    """

    def __init__(self, kind: str, structure: Any, sizes: Sequence[int], tables: Sequence[Sequence[Any]]) -> None:
        self.kind = kind
        self.num_in, self.num_out, self.num_weights = sizes[:3]
        self.arrays: list[Any] = []
        self.as_c = {
            dtype: structure(*sizes, *(self.address(table, real) for table in tables))
            for dtype, real in ((torch.float32, ctypes.c_float), (torch.float64, ctypes.c_double))
        }
        self.number = number_of(repr((kind, *sizes, *map(rounded, tables))).encode())

    def address(self, table: Sequence[Any], real: Any) -> int:
        """Where a table lies, which lives as long as the plan; floats in the precision of the features."""
        kind = real if any(isinstance(value, float) for value in table) else ctypes.c_int32
        self.arrays.append((kind * len(table))(*table))
        return ctypes.addressof(self.arrays[-1])


PLANS: dict[int, Plan] = {}
"""Operators take numbers, not objects: a plan is known by that of its content, in every process the same."""


def register_plan(plan: Plan) -> int:
    """Number of a plan, for the operators."""
    PLANS.setdefault(plan.number, plan)
    return plan.number


def run(name: str, plan: int, inputs: list[Tensor], outputs: list[Tensor]) -> None:
    """Call a function of the library; all tensors are contiguous and on the CPU.

    Raises:
        ValueError: If the inputs do not have the plan's shapes, or a precision that the library has not.
    """
    known = PLANS[plan]
    n, _, channels = inputs[0].shape
    operands = [(n, known.num_in, channels), (known.num_weights, n, channels)]
    expected = [*operands, (n, known.num_out, channels), *operands][: len(inputs)]
    found = [tuple(value.shape) for value in inputs]
    if found != expected or len({value.dtype for value in inputs}) > 1:
        raise ValueError(f"expected shapes {expected} of one dtype, found {found}, {[v.dtype for v in inputs]}")
    function = getattr(load_library(), f"{known.kind}_{name}_{suffix_of(inputs[0].dtype)}")
    sizes = [n, channels, torch.get_num_threads()]
    pointers = [ctypes.c_void_p(tensor.data_ptr()) for tensor in (*inputs, *outputs)]
    function(ctypes.byref(known.as_c[inputs[0].dtype]), *map(ctypes.c_int64, sizes), *pointers)


@torch.library.custom_op("mace_gaunt::node_forward", mutates_args=(), device_types="cpu")
def node_forward(a: Tensor, w: Tensor, plan: int) -> Tensor:
    """The result, shape [n_nodes, num_out, C].

    Args:
        a: Features, shape [n_nodes, num_in, C].
        w: Weights, shape [num_weights, n_nodes, C].
        plan: From `register_plan`.
    """
    inputs = [a.contiguous(), w.contiguous()]
    result = a.new_empty(a.shape[0], PLANS[plan].num_out, a.shape[2])
    run("forward", plan, inputs, [result])
    return result


@torch.library.custom_op("mace_gaunt::node_backward", mutates_args=(), device_types="cpu")
def node_backward(a: Tensor, w: Tensor, g: Tensor, plan: int) -> tuple[Tensor, Tensor]:
    """Gradients with respect to a and w for the result's cotangent g."""
    inputs = [value.contiguous() for value in (a, w, g)]
    outputs = [torch.empty_like(value) for value in inputs[:2]]
    run("backward", plan, inputs, outputs)
    return outputs[0], outputs[1]


@torch.library.custom_op("mace_gaunt::node_double_backward", mutates_args=(), device_types="cpu")
def node_double_backward(
    a: Tensor, w: Tensor, g: Tensor, a_: Tensor, w_: Tensor, plan: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of `node_backward`'s results times (a_, w_), with respect to a, w and g."""
    inputs = [value.contiguous() for value in (a, w, g, a_, w_)]
    outputs = [torch.empty_like(value) for value in inputs[:3]]
    run("double_backward", plan, inputs, outputs)
    return outputs[0], outputs[1], outputs[2]


@node_forward.register_fake
def _(a: Tensor, w: Tensor, plan: int) -> Tensor:
    return a.new_empty(a.shape[0], PLANS[plan].num_out, a.shape[2])


@node_backward.register_fake
def _(a: Tensor, w: Tensor, g: Tensor, plan: int) -> tuple[Tensor, Tensor]:
    return a.new_empty(a.shape), w.new_empty(w.shape)


@node_double_backward.register_fake
def _(a: Tensor, w: Tensor, g: Tensor, a_: Tensor, w_: Tensor, plan: int) -> tuple[Tensor, Tensor, Tensor]:
    return a.new_empty(a.shape), w.new_empty(w.shape), g.new_empty(g.shape)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    *tensors, plan = inputs
    ctx.save_for_backward(*tensors)
    ctx.plan = plan


def _forward_gradient(ctx: Any, g: Tensor) -> tuple[Any, ...]:
    return *node_backward(*ctx.saved_tensors, g, ctx.plan), None


def _backward_gradient(ctx: Any, a_: Tensor, w_: Tensor) -> tuple[Any, ...]:
    return *node_double_backward(*ctx.saved_tensors, a_, w_, ctx.plan), None


node_forward.register_autograd(_forward_gradient, setup_context=_keep)
node_backward.register_autograd(_backward_gradient, setup_context=_keep)
