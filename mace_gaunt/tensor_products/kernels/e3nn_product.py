"""e3nn's `o3.TensorProduct` as the kernels need it; e3nn is imported when one is built.

Source: Geiger, Smidt, "e3nn: Euclidean Neural Networks", arXiv 2207.09453.
"""

from collections.abc import Callable, Sequence
from typing import Any, Self

import torch
from torch import Tensor, nn

from mace_gaunt.tensor_products.contracts import Path

MAX_DEGREE = 11
"""Where e3nn's 3j coefficients end."""

Irrep = tuple[int, int]
"""Degree, and parity: 1 or -1."""


class ExactTensorProduct(nn.Module):
    """`o3.TensorProduct` whose 3j coefficients are as precise as the module.

    e3nn makes them in the default precision, which is not enough once the module is float64. All constants are left out
    of the state dict.

    Args:
        irreps_x: Multiplicity and irrep of each part of the first factor.
        irreps_y: The same of the second.
        irreps_out: The same of the result.
        instructions: Couplings of the parts, as e3nn wants them.
        options: Further arguments of `o3.TensorProduct`.

    Raises:
        ValueError: If a degree is larger than e3nn knows.
    """

    def __init__(
        self,
        irreps_x: Sequence[tuple[int, Irrep]],
        irreps_y: Sequence[tuple[int, Irrep]],
        irreps_out: Sequence[tuple[int, Irrep]],
        instructions: Sequence[tuple[int, int, int, str, bool]],
        **options: Any,
    ) -> None:
        super().__init__()
        check_degrees(max(degree for irreps in (irreps_x, irreps_y, irreps_out) for _, (degree, _) in irreps))
        from e3nn import o3

        irreps = (o3.Irreps(list(irreps)) for irreps in (irreps_x, irreps_y, irreps_out))
        self.product = o3.TensorProduct(
            *irreps, list(instructions), internal_weights=False, path_normalization="none", **options
        )
        self.settle(torch.get_default_dtype())

    def forward(self, *inputs: Tensor) -> Tensor:
        """Shapes as in e3nn."""
        result: Tensor = self.product(*inputs)
        return result

    def settle(self, dtype: torch.dtype) -> None:
        """Make the constants exact, and keep them out of the state dict."""
        from e3nn import o3

        for module in self.product.modules():
            for name, value in list(module.named_buffers(recurse=False)):
                if name.startswith("_w3j_"):
                    degrees = (int(degree) for degree in name.removeprefix("_w3j_").split("_"))
                    value = o3.wigner_3j(*degrees, dtype=torch.float64).to(value.device, dtype)
                module.register_buffer(name, value.to(dtype), persistent=False)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self.settle(self.product.output_mask.dtype)
        return self

    def __setstate__(self, state: dict[str, Any]) -> None:
        # e3nn restores its generated code with buffers that belong to the state dict.
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        self.settle(self.product.output_mask.dtype)


def check_degrees(largest: int) -> None:
    """Refuse degrees beyond e3nn's coefficients."""
    if largest > MAX_DEGREE:
        raise ValueError(f"kernel 'e3nn' computes degrees up to {MAX_DEGREE}, degree {largest} is needed here")


def natural(degree: int) -> Irrep:
    """The irrep of natural parity."""
    return degree, (-1) ** degree


def result_irrep(path: Path) -> Irrep:
    """What two natural irreps couple to: pseudo-tensors where the sum of degrees is odd."""
    return path[2], (-1) ** (path[0] + path[1])


def channels_in_batch(features: Tensor) -> Tensor:
    """[n, K, C] to [n C, K]: channels do not mix, so for e3nn they are further rows."""
    return features.transpose(1, 2).flatten(0, 1)
