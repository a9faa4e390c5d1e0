"""Two kernels as one: the even-sum couplings and the odd-sum ones, returned as a pair."""

from typing import Any

from torch import Tensor

from mace_gaunt.so3.tables import TableModule
from mace_gaunt.tensor_products.contracts import EdgeKernel


class PairFeatureKernel(TableModule):
    """Even and odd couplings of two features.

    Args:
        even: Kernel of the couplings with an even sum; None where there are none.
        odd: Kernel of those with an odd sum.
    """

    def __init__(self, even: Any | None, odd: Any) -> None:
        super().__init__()
        self.even, self.odd = even, odd

    def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Both results, [n, rows, C]."""
        odd = self.odd(x, y)
        return odd[:, :0] if self.even is None else self.even(x, y), odd


class PairEdgeKernel(EdgeKernel):
    """Even and odd couplings of features and harmonics.

    Args:
        even: Kernel of the couplings with an even sum.
        odd: Kernel of those with an odd sum.
        num_even: Weights of the first; the rest are the second's.
    """

    def __init__(self, even: EdgeKernel, odd: EdgeKernel, num_even: int) -> None:
        super().__init__()
        self.even, self.odd, self.num_even = even, odd, num_even

    def couple(self, node_feats: Tensor, edge_attrs: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Both results, [n_edges, rows, C]."""
        even, odd = weights[:, : self.num_even], weights[:, self.num_even :]
        return self.even.couple(node_feats, edge_attrs, even), self.odd.couple(node_feats, edge_attrs, odd)

    def forward(
        self, node_feats: Tensor, edge_attrs: Tensor, weights: Tensor, edge_index: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Both results summed over neighbours, [n_nodes, rows, C]."""
        even, odd = weights[:, : self.num_even], weights[:, self.num_even :]
        return (
            self.even(node_feats, edge_attrs, even, edge_index),
            self.odd(node_feats, edge_attrs, odd, edge_index),
        )
