"""The equivariant Linear: one matrix per degree and parity."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class EquivariantLinear(nn.Module):
    """One matrix per degree (and parity); mixes channels and the path copies of a degree, never components.

    Weights are of order one and scaled by 1/sqrt(fan-in) when applied, as in e3nn.

    Args:
        num_paths: Copies of each degree in the input; rows are ordered by degree, m, path.
        channels_in: Channels of the input.
        channels_out: Channels of the output.
        pseudo: Whether features have a parity axis, [n, 2, rows, C], natural and pseudo-tensors.
        degrees: The degrees that the copies belong to; 0, 1, 2, ... when None.
    """

    def __init__(
        self,
        num_paths: Sequence[int],
        channels_in: int,
        channels_out: int,
        *,
        pseudo: bool = False,
        degrees: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        self.num_paths, self.pseudo = tuple(num_paths), pseudo
        self.degrees = tuple(range(len(self.num_paths))) if degrees is None else tuple(degrees)
        self.row_counts = [(2 * l + 1) * paths for l, paths in zip(self.degrees, self.num_paths, strict=True)]
        parities = (2,) if pseudo else ()
        widths = [paths * channels_in for paths in self.num_paths]
        self.weight = nn.ParameterList([nn.Parameter(torch.randn(*parities, w, channels_out)) for w in widths])

    def forward(self, features: Tensor) -> Tensor:
        """Shape [n, (2,) sum of (2l+1) num_paths[l], channels_in] to [n, (2,) sum of 2l+1, channels_out]."""
        if self.pseudo:
            return torch.stack([self._mix(features[:, parity], parity) for parity in (0, 1)], dim=1)
        return self._mix(features, None)

    def _mix(self, features: Tensor, parity: int | None) -> Tensor:
        results = []
        for degree, weight, block in zip(
            self.degrees, self.weight, features.split(self.row_counts, dim=1), strict=True
        ):
            matrix = weight if parity is None else weight[parity]
            rows = block.reshape(-1, 2 * degree + 1, matrix.shape[0])
            results.append(rows @ (matrix * matrix.shape[0] ** -0.5))
        return torch.cat(results, dim=1)
