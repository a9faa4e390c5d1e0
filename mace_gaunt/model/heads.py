"""Readouts, and models with several heads: one trunk read in several ways, one for each level of theory, say."""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn

from mace_gaunt.errors import nearest
from mace_gaunt.model.blocks import LinearReadout, MLPReadout

READOUTS = ("linear", "mlp", "none")
DEFAULT = "Default"
"""The head that is used where none is named, if there is one of this name."""


@dataclass(frozen=True)
class Head:
    """What belongs to one head besides its readouts.

    Attributes:
        E0s: Energy of each isolated element (eV).
        scale: Factor of the readouts (eV).
        shift: Energy per atom (eV).
    """

    E0s: list[float]
    scale: float
    shift: float


def read_heads(
    names: Sequence[str],
    atomic_numbers: Sequence[int],
    E0s: Sequence[float] | Sequence[Sequence[float]],
    scale: float | Sequence[float],
    shift: float | Sequence[float],
) -> list[Head]:
    """The heads of a model, at least one.

    Args:
        names: Their names; empty for one head without a name.
        atomic_numbers: Elements.
        E0s: One energy per element, or a row of them per head.
        scale: A number, or one per head.
        shift: A number, or one per head.

    Raises:
        ValueError: If numbers or names are too many or too few, or elements are not ascending.
    """
    if not atomic_numbers or list(atomic_numbers) != sorted(set(atomic_numbers)):
        raise ValueError(f"atomic_numbers must be ascending and unique, found {list(atomic_numbers)}")
    if len(set(names)) != len(names):
        raise ValueError(f"heads must have different names, found {list(names)}")
    count = max(1, len(names))
    values: list[Any] = list(E0s)
    rows = values if any(isinstance(value, Sequence) for value in values) else [values] * count
    scales, shifts = (list(v) if isinstance(v, Sequence) else [v] * count for v in (scale, shift))
    for name, found in (("E0s", rows), ("scale", scales), ("shift", shifts)):
        if len(found) != count:
            raise ValueError(f"{name} has {len(found)} entries, and there are {count} heads")
    for row in rows:
        if len(row) != len(atomic_numbers):
            raise ValueError(f"E0s needs one energy per element: {len(atomic_numbers)} elements, {len(row)} energies")
    numbers = zip(rows, scales, shifts, strict=True)
    return [Head([float(energy) for energy in row], float(scale), float(shift)) for row, scale, shift in numbers]


def find_head(name: str, names: Sequence[str]) -> int:
    """Which head has a name.

    Raises:
        ValueError: If there is none.
    """
    if name not in names:
        there = nearest(name, names) if names else " The model has one head without a name: give no head."
        raise ValueError(f"no head '{name}'.{there}")
    return list(names).index(name)


class Headed(nn.Module):
    """What a model with heads is made of, besides its readouts: their names, and the numbers of the one in use.

    Attributes:
        heads: Names of the heads; empty for one without a name.
        head: The one in use; None without a name, or while none of several has been chosen.
        of_head: The numbers of each head.
        E0s: Of the head in use, shape [n_elements], float64 (eV); NaN while none has been chosen.
        scale: Of the head in use (eV).
        shift: Of the head in use (eV).
    """

    E0s: Tensor
    head: str | None
    scale: float
    shift: float

    def set_heads(self, names: Sequence[str] | None, atomic_numbers: Sequence[int], *numbers: Any) -> None:
        """Set what `read_heads` reads of names, elements, E0s, scale and shift; none is in use yet."""
        self.heads = [str(name) for name in names or ()]
        self.of_head = read_heads(self.heads, atomic_numbers, *numbers)
        self.head, self.scale, self.shift = None, math.nan, math.nan
        unknown = torch.full((len(atomic_numbers),), math.nan, dtype=torch.float64)
        self.register_buffer("E0s", unknown, persistent=False)

    def use_default_head(self) -> None:
        """Use the only head, or the one of several that is named `DEFAULT`, if there is one."""
        if len(self.of_head) == 1:
            self._use_head(0)
        elif DEFAULT in self.heads:
            self.choose_head(DEFAULT)

    def choose_head(self, name: str) -> Self:
        """Read the model by one of its heads from now on. Compiled code of the model keeps the head it was made with.

        Raises:
            ValueError: If there is no such head.
        """
        self._use_head(find_head(name, self.heads))
        return self

    def _use_head(self, index: int) -> None:
        chosen = self.of_head[index]
        self.head = self.heads[index] if self.heads else None
        self.E0s = torch.tensor(chosen.E0s, dtype=torch.float64, device=self.E0s.device)
        self.scale, self.shift = chosen.scale, chosen.shift
        for module in self.modules():
            if isinstance(module, HeadReadouts):
                module.head = index

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Convert as usual, but keep the energies of isolated atoms in float64: totals need it."""
        E0s = self.E0s
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self.E0s = E0s.to(self.E0s.device)
        return self


class HeadReadouts(nn.Module):
    """A readout for each head, of which one is used.

    Args:
        readouts: Of each head.
    """

    def __init__(self, readouts: Sequence[nn.Module]) -> None:
        super().__init__()
        self.of_head = nn.ModuleList(readouts)
        self.head: int | None = None

    def forward(self, node_feats: Tensor) -> Tensor:
        """Features of the nodes to their energies, shape [n_nodes].

        Raises:
            ValueError: If no head has been chosen.
        """
        if self.head is None:
            raise ValueError("the model has several heads: choose_head chooses one, or head=NAME where it is opened")
        result: Tensor = self.of_head[self.head](node_feats)
        return result


def make_readout(kind: str, num_channels: int, MLP_irreps: str, gate: str, num_heads: int) -> nn.Module | None:
    """The readout of a layer.

    Args:
        kind: One of `READOUTS`.
        num_channels: Channels of the features.
        MLP_irreps: Hidden scalars of an "mlp", as "16x0e".
        gate: Activation of an "mlp".
        num_heads: Number of heads.

    Returns:
        None for "none".

    Raises:
        ValueError: If there is no such kind, or the hidden features are no scalars.
    """
    if kind not in READOUTS:
        raise ValueError(f"unknown readout '{kind}'.{nearest(kind, READOUTS)}")
    if kind == "none":
        return None

    def make() -> nn.Module:
        if kind == "mlp":
            return MLPReadout(num_channels, scalar_width(MLP_irreps), gate)
        return LinearReadout(num_channels)

    return make() if num_heads == 1 else HeadReadouts([make() for _ in range(num_heads)])


def scalar_width(irreps: str) -> int:
    """Number of scalars in "16x0e".

    Raises:
        ValueError: If there is anything but even scalars.
    """
    match = re.fullmatch(r"\s*(\d+)\s*x\s*0e\s*", irreps)
    if match is None or int(match[1]) < 1:
        raise ValueError(f"MLP_irreps holds even scalars only, as '16x0e'; found '{irreps}'")
    return int(match[1])
