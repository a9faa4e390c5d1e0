"""Activations scaled so that a standard normal input gives an output of second moment one."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from mace_gaunt.errors import nearest

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "silu": nn.functional.silu,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "gelu": nn.functional.gelu,
    "abs": torch.abs,
    "identity": lambda x: x,
}


class NormalizedActivation(nn.Module):
    """f(x) / sqrt(E[f(n)^2]) for standard normal n (by Gauss-Hermite quadrature).

    Args:
        function: The pointwise function.
    """

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function
        points, weights = np.polynomial.hermite_e.hermegauss(100)
        moment = (function(torch.from_numpy(points)).square() * torch.from_numpy(weights)).sum() / weights.sum()
        self.scale = float(moment.rsqrt())

    def forward(self, x: Tensor) -> Tensor:
        """Pointwise, any shape."""
        return self.function(x) * self.scale


def activation(name: str) -> NormalizedActivation:
    """The normalised activation of a name.

    Raises:
        ValueError: If there is none of that name.
    """
    if name not in ACTIVATIONS:
        raise ValueError(f"unknown gate '{name}'.{nearest(name, ACTIVATIONS)}")
    return NormalizedActivation(ACTIVATIONS[name])
