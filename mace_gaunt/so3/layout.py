"""The dense layout `[n, (l_max+1)^2, channels]` and its borders to e3nn's flat `mul_ir` layout.

Component k = l^2 + l + m, with m = -l..l in e3nn's order (l = 1 is x, y, z). Every degree has the same number of
channels and natural parity (-1)^l.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

Degrees = int | Sequence[int]
"""All degrees 0..l_max as one number, or the ascending degrees themselves: 3 is short for (0, 1, 2, 3)."""


def degree_tuple(degrees: Degrees, name: str = "degrees") -> tuple[int, ...]:
    """The degrees, one by one.

    Args:
        degrees: A largest degree, or ascending degrees.
        name: What they are called in the message.

    Raises:
        ValueError: If they are negative, empty or not ascending.
    """
    found = tuple(range(degrees + 1)) if isinstance(degrees, int) else tuple(degrees)
    if not found or min(found) < 0 or list(found) != sorted(set(found)):
        raise ValueError(f"{name} is a degree of at least 0, or ascending degrees; found {degrees}")
    return found


def degree_components(degrees: Sequence[int]) -> Tensor:
    """Where the components of some degrees lie in the layout of all degrees 0..max, shape [num_rows], int64."""
    return torch.cat([torch.arange(degree**2, (degree + 1) ** 2) for degree in degrees])


def num_components(l_max: int) -> int:
    """Number of components (l, m) of the degrees 0..l_max."""
    return (l_max + 1) ** 2


def degree_slice(degree: int) -> slice:
    """Where the 2l+1 components of one degree lie."""
    return slice(degree**2, (degree + 1) ** 2)


def degree_of_component(l_max: int) -> Tensor:
    """Degree l of each component, shape [(l_max+1)^2], int64."""
    degrees = torch.arange(l_max + 1)
    return degrees.repeat_interleave(2 * degrees + 1)


def l_max_of(components: int) -> int:
    """The l_max whose layout has this many components.

    Raises:
        ValueError: If the number is not a square.
    """
    l_max = round(components**0.5) - 1
    if l_max < 0 or num_components(l_max) != components:
        raise ValueError(f"expected (l_max+1)^2 components, found {components}")
    return l_max


def to_mul_ir(features: Tensor, degrees: Degrees | None = None) -> Tensor:
    """Dense layout to e3nn's flat layout of irreps such as `Cx0e + Cx1o + Cx2e`.

    Args:
        features: Shape [n, sum of 2l+1, C].
        degrees: The degrees; 0..l_max when None.

    Returns:
        Shape [n, sum of 2l+1 * C]; within a degree the channel runs slower than m.
    """
    degrees = degree_tuple(l_max_of(features.shape[1]) if degrees is None else degrees)
    blocks = features.split([2 * degree + 1 for degree in degrees], dim=1)
    return torch.cat([block.transpose(1, 2).flatten(1) for block in blocks], dim=1)


def from_mul_ir(features: Tensor, degrees: Degrees) -> Tensor:
    """Inverse of `to_mul_ir`.

    Args:
        features: Shape [n, sum of 2l+1 * C].
        degrees: The degrees, each with the same number of channels; a number l_max stands for 0..l_max.

    Returns:
        Shape [n, sum of 2l+1, C].

    Raises:
        ValueError: If the width is no multiple of the sum of 2l+1.
    """
    sizes = [2 * degree + 1 for degree in degree_tuple(degrees)]
    channels, rest = divmod(features.shape[1], sum(sizes))
    if rest:
        raise ValueError(f"width {features.shape[1]} is no multiple of {sum(sizes)}, the components of {degrees}")
    blocks = features.split([size * channels for size in sizes], dim=1)
    return torch.cat(
        [block.unflatten(1, (channels, size)).transpose(1, 2) for size, block in zip(sizes, blocks, strict=True)], dim=1
    )
