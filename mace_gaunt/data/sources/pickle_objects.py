"""What pickles are made into: names they use, bags of attributes, and the two ways in which they fail."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np


class RefusedPickleError(ValueError):
    """A pickle that asks for something other than plain data."""


class DamagedPickleError(ValueError):
    """A pickle that is cut off or makes no sense."""


@dataclass(frozen=True)
class Name:
    """What a pickle may name.

    Attributes:
        title: Its name in the pickle, "torch.FloatStorage".
        call: What a call of it makes of its arguments; None where it is never called.
        creates_bag: Whether objects of it are made, as attribute bags.
        dtype: Of its elements, where it is a type of storage.
    """

    title: str
    call: Callable[..., Any] | None = None
    creates_bag: bool = False
    dtype: np.dtype | None = None


@dataclass(eq=False)
class Bag:
    """An object of a class that is not built: its attributes by name."""

    name: Name
    attributes: dict[str, Any] = field(default_factory=dict)
