"""Arrays of torch and numpy as pickles describe them, built by hand with every size checked."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mace_gaunt.data.sources.pickle_objects import RefusedPickleError

# Numbers only: objects ("O") would be pickles inside of pickles.
NUMBERS = re.compile(r"[<=|]?(?:b1|[iu][1248]|f[248]|c8|c16|\?)")
# An expanded tensor is larger than what is stored of it.
MAX_EXPANDED = 1 << 22


@dataclass(eq=False)
class Storage:
    """The numbers behind tensors, in one dimension."""

    values: np.ndarray


class NumpyType:
    """A dtype of numpy while it is unpickled."""

    def __init__(self, name: Any, align: Any = False, copy: Any = False) -> None:
        if not isinstance(name, str) or not NUMBERS.fullmatch(name):
            raise RefusedPickleError(f"it asks for an array of dtype {name!s:.40}, not of numbers")
        self.dtype = np.dtype(name)

    def set_state(self, state: Any) -> None:
        """Take the byte order; fields, subarrays and metadata are refused."""
        if (
            not isinstance(state, tuple)
            or state[1] not in ("<", "|", "=")
            or any(part is not None for part in state[2:5])
        ):
            raise RefusedPickleError("it asks for an array with fields, or of another byte order")


class NumpyArray:
    """An array of numpy while it is unpickled; `values` is None until its state came."""

    values: np.ndarray | None = None

    def set_state(self, state: Any) -> None:
        """Take version, shape, dtype, order and bytes."""
        _, shape, dtype, fortran, data = state
        self.values = numpy_array(data, dtype, shape, "F" if fortran else "C").values


def numpy_array(data: Any, dtype: Any, shape: Any, order: Any) -> NumpyArray:
    """An array from its bytes."""
    if not isinstance(dtype, NumpyType) or not isinstance(data, bytes) or order not in ("C", "F"):
        raise RefusedPickleError("it asks for an array of objects, not of numbers")
    sizes = _whole_numbers(shape)
    if math.prod(sizes) * dtype.dtype.itemsize != len(data):
        raise ValueError("size of an array")
    array = NumpyArray()
    array.values = np.frombuffer(data, dtype.dtype).reshape(sizes, order=order)
    return array


def numpy_scalar(dtype: Any, data: Any) -> int | float | complex | bool:
    """A number of numpy as one of Python."""
    values = numpy_array(data, dtype, (1,), "C").values
    assert values is not None
    return values[0].item()


def tensor(
    storage: Any,
    offset: Any,
    size: Any,
    stride: Any,
    requires_grad: Any = False,
    hooks: Any = None,
    metadata: Any = None,
) -> np.ndarray:
    """A tensor as an array that shares its storage; gradients and hooks are left out.

    Args:
        storage: A `Storage`.
        offset: First element.
        size: Shape.
        stride: Step in each dimension, in elements.

    Raises:
        ValueError: If it reaches beyond its storage.
    """
    if not isinstance(storage, Storage):
        raise RefusedPickleError("it makes a tensor of something that is not stored numbers")
    (start,), sizes, strides = _whole_numbers((offset,)), _whole_numbers(size), _whole_numbers(stride)
    count, stored = math.prod(sizes), len(storage.values)
    last = start + sum((n - 1) * step for n, step in zip(sizes, strides, strict=True))
    if count and last >= stored:
        raise ValueError("tensor beyond its storage")
    if count > max(stored, MAX_EXPANDED):
        raise RefusedPickleError("it is far larger unpacked than packed")
    itemsize = storage.values.itemsize
    return np.lib.stride_tricks.as_strided(
        storage.values[start if count else 0 :], sizes, [step * itemsize for step in strides]
    )


def _whole_numbers(values: Any) -> Sequence[int]:
    if not isinstance(values, tuple) or len(values) > 8 or not all(type(n) is int and 0 <= n < 1 << 48 for n in values):
        raise ValueError("whole numbers")
    return values
