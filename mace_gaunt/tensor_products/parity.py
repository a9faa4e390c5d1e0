"""Natural and pseudo-tensors: the parity axis `[n, 2, rows, C]` and how products act on it.

Features of natural parity (-1)^l need no axis. A coupling with an even l1 + l2 + l3 keeps parity natural, one with an
odd sum makes pseudo-tensors of natural features. A map F that keeps natural parity (bilinear or polynomial) extends to
features n + p by

    natural = [F(n + p) + F(n - p)] / 2,   pseudo = [F(n + p) - F(n - p)] / 2,

equivariant under inversion too, since inversion exchanges n + p and n - p (up to (-1)^l). For a map that makes
pseudo-tensors of natural features the two results change places.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


def both_signs(features: Tensor) -> Tensor:
    """n + p and n - p, one after the other: [n, 2, K, C], or [n, K, C] with p = 0, to [2n, K, C]."""
    if features.dim() == 3:
        return torch.cat([features, features])
    natural, pseudo = features[:, 0], features[:, 1]
    return torch.cat([natural + pseudo, natural - pseudo])


def half_sum_and_difference(both: Tensor) -> tuple[Tensor, Tensor]:
    """[2n, rows, C] of the two signs to (F(n + p) + F(n - p)) / 2 and (F(n + p) - F(n - p)) / 2."""
    plus, minus = both.unflatten(0, (2, -1))  # not chunk, with which torch.export takes the number of rows for fixed
    return 0.5 * (plus + minus), 0.5 * (plus - minus)


def parity_to_channels(features: Tensor) -> Tensor:
    """[n, 2, K, C] to [n, K, 2C]."""
    return features.transpose(1, 2).flatten(2)


def channels_to_parity(features: Tensor) -> Tensor:
    """[n, K, 2C] to [n, 2, K, C]."""
    return features.unflatten(2, (2, -1)).transpose(1, 2)


def halves(weights: Tensor) -> Tensor:
    """[n, 2W, C], the natural features' weights first, to [n, W, 2C]."""
    return parity_to_channels(weights.unflatten(1, (2, -1)))


class Pairing(nn.Module):
    """Puts the results of the even-sum and the odd-sum couplings together.

    Args:
        even: Copies of each degree that the even couplings give.
        odd: Copies of each degree that the odd couplings give.
        degrees: The degrees; 0, 1, 2, ... when None.
    """

    def __init__(self, even: Sequence[int], odd: Sequence[int], degrees: Sequence[int] | None = None) -> None:
        super().__init__()
        self.equal = tuple(even) == tuple(odd) and set(even) == {1}
        self.num_paths_natural = tuple(max(pair) for pair in zip(even, odd, strict=True))
        self.num_paths_parity = tuple(sum(pair) for pair in zip(even, odd, strict=True))
        degrees = range(len(even)) if degrees is None else degrees
        sizes = [2 * degree + 1 for degree in degrees]
        num_even = sum(size * count for size, count in zip(sizes, even, strict=True))
        num_odd = sum(size * count for size, count in zip(sizes, odd, strict=True))
        zero = num_even + num_odd
        tables: dict[str, list[int]] = {"even_rows": [], "odd_rows": [], "joint_rows": []}
        start_even, start_odd = 0, num_even
        for size, e, o in zip(sizes, even, odd, strict=True):
            for m in range(size):
                of_even = [start_even + m * e + path for path in range(e)]
                of_odd = [start_odd + m * o + path for path in range(o)]
                tables["even_rows"] += of_even + [zero] * (max(e, o) - e)
                tables["odd_rows"] += of_odd + [zero] * (max(e, o) - o)
                tables["joint_rows"] += of_even + of_odd
            start_even, start_odd = start_even + size * e, start_odd + size * o
        for name, rows in tables.items():
            self.register_buffer(name, torch.tensor(rows), persistent=False)

    even_rows: Tensor
    odd_rows: Tensor
    joint_rows: Tensor

    def of_natural(self, even: Tensor, odd: Tensor) -> Tensor:
        """Results of natural features, [n, rows, C] each, to [n, 2, rows, C]; missing copies are zero."""
        if self.equal:
            return torch.stack([even, odd], dim=1)
        rows = torch.cat([even, odd, even.new_zeros(even.shape[0], 1, even.shape[2])], dim=1)
        return torch.stack([rows.index_select(1, self.even_rows), rows.index_select(1, self.odd_rows)], dim=1)

    def joint(self, even: Tensor, odd: Tensor) -> Tensor:
        """Copies of the even, then of the odd couplings, of one parity: [n, rows, C]."""
        if self.equal:
            return torch.stack([even, odd], dim=2).flatten(1, 2)
        return torch.cat([even, odd], dim=1).index_select(1, self.joint_rows)

    def of_channels(self, even: Tensor, odd: Tensor) -> Tensor:
        """Results of features with natural and pseudo parts in the channels, [n, rows, 2C], to [n, 2, rows, C]."""
        even_natural, even_pseudo = even.chunk(2, dim=2)
        odd_natural, odd_pseudo = odd.chunk(2, dim=2)
        return torch.stack([self.joint(even_natural, odd_pseudo), self.joint(even_pseudo, odd_natural)], dim=1)
