"""Selfmix: the features of a node multiplied with themselves."""

import torch
from torch import Tensor, nn

from mace_gaunt.so3.linear import EquivariantLinear
from mace_gaunt.tensor_products.families import feature_product


class Selfmix(nn.Module):
    """h + Linear(T(Linear(h), Linear(h))), node by node, with T the feature product of a family.

    Source: the self-interaction of Luo, Chen, Krishnapriyan (ICLR 2024, "Selfmix" of their OC20 table), an additional
    layer in every block, with T the Gaunt product and weights w(l1) w(l2) w(l3). Here the Linears hold these weights
    and mix channels too, and T = clebsch_gordan is the control which the paper does not have. Each factor has a Linear
    of its own: odd couplings of a signal with itself vanish.

    Args:
        family: Name of the family.
        l_max: Largest degree of the features.
        num_channels: Channels.
        pseudo_in: Whether the features have the parity axis.

    Raises:
        UserError: If there is no such family.
    """

    def __init__(self, family: str, l_max: int, num_channels: int, *, pseudo_in: bool = False) -> None:
        super().__init__()
        self.feature_product = feature_product(family, l_max, l_max, l_max)
        self.feature_product.num_channels = num_channels
        self.pseudo_out = pseudo_in or self.feature_product.pseudo_out
        one = (1,) * (l_max + 1)
        copies = self.feature_product.num_paths_parity if pseudo_in else self.feature_product.num_paths_out
        self.linear_x = EquivariantLinear(one, num_channels, num_channels, pseudo=pseudo_in)
        self.linear_y = EquivariantLinear(one, num_channels, num_channels, pseudo=pseudo_in)
        self.linear = EquivariantLinear(copies, num_channels, num_channels, pseudo=self.pseudo_out)

    def forward(self, node_feats: Tensor) -> Tensor:
        """Shape [n_nodes, (2,) (l_max+1)^2, C] to the same, with the parity axis if `pseudo_out`."""
        mixed = self.linear(self.feature_product(self.linear_x(node_feats), self.linear_y(node_feats)))
        return add_natural(mixed, node_feats)


def add_natural(features: Tensor, further: Tensor) -> Tensor:
    """Sum of features, of which the second may lack the parity axis that the first has: they are natural then."""
    if features.dim() == further.dim():
        return features + further
    return torch.stack([features[:, 0] + further, features[:, 1]], dim=1)
