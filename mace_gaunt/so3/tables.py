"""Constant tables that stay exact when a module changes its precision."""

from collections.abc import Callable
from typing import Self

import torch
from torch import Tensor, nn


class TableModule(nn.Module):
    """A module whose constants are non-persistent buffers, always rounded from their float64 originals.

    A plain buffer that went through float32 would stay rounded after `.double()`.
    """

    def __init__(self) -> None:
        super().__init__()
        self._originals: dict[str, Tensor] = {}

    def register_table(self, name: str, table: Tensor) -> None:
        """Add a constant; like a parameter it starts in torch's default precision.

        Args:
            name: Attribute under which it is found.
            table: Its values, float64.
        """
        self._originals[name] = table.detach().clone()
        self.register_buffer(name, table.to(torch.get_default_dtype()), persistent=False)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        for name, original in self._originals.items():
            converted = self.get_buffer(name)
            setattr(self, name, original.to(converted.device, converted.dtype))
        return self
