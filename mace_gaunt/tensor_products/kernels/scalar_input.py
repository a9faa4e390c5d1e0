"""Edge product of scalar features, as in every first layer: no coupling is left, h * w_l * Y_lm."""

import torch
from torch import Tensor

from mace_gaunt.so3.layout import degree_of_component, num_components
from mace_gaunt.tensor_products.contracts import EdgeKernel


class ScalarInputKernel(EdgeKernel):
    """Degree 0 times degree l: shared by the families, since (0, l, l) is the only coupling.

    Args:
        l_edge: Largest degree of the edge harmonics; weights are one per degree 0..l_edge.
        l_out: Largest degree of the messages, at most l_edge.
    """

    serves_all = True
    """It stands in for every kernel of a family: there is nothing to choose."""
    degrees: Tensor

    def __init__(self, l_edge: int, l_out: int) -> None:
        super().__init__()
        self.num_out = num_components(l_out)
        self.register_buffer("degrees", degree_of_component(l_out), persistent=False)

    def couple(self, node_feats: Tensor, edge_attrs: Tensor, weights: Tensor) -> Tensor:
        """Per edge, shape [n_edges, (l_out+1)^2, C]."""
        spread = torch.index_select(weights, 1, self.degrees)
        return edge_attrs[:, : self.num_out, None] * (spread * node_feats)
