"""The Clebsch-Gordan family: every coupling, a free weight per path; what MACE does.

Source: Batatia et al., "MACE: Higher order equivariant message passing neural networks", NeurIPS 2022, eq. 8 to 11.
The node product spans MACE's space exactly, in a basis without MACE's redundant weights.
"""

from typing import ClassVar, cast

import torch
from torch import Tensor, nn

from mace_gaunt.tensor_products.contracts import EdgeProduct, NodeProduct
from mace_gaunt.tensor_products.kernels.cg_dense import DenseEdgeKernel, DenseNodeKernel
from mace_gaunt.tensor_products.kernels.scalar_input import ScalarInputKernel


def edge_paths(l_in: int, l_edge: int, l_out: int) -> list[tuple[int, int, int]]:
    """Couplings (l1, l2, l3) that natural parity allows: triangles with an even sum, ordered by l3, l1, l2."""
    return [
        (l1, l2, l3)
        for l3 in range(l_out + 1)
        for l1 in range(l_in + 1)
        for l2 in range(l_edge + 1)
        if abs(l1 - l2) <= l3 <= l1 + l2 and (l1 + l2 + l3) % 2 == 0
    ]


class ClebschGordanEdgeProduct(EdgeProduct):
    """Edge product of the Clebsch-Gordan family: one output copy, edge weight and channel weight per path."""

    family = "clebsch_gordan"
    KERNELS: ClassVar = {"dense": DenseEdgeKernel}

    def __init__(self, l_in: int, l_edge: int, l_out: int, kernel: str = "auto") -> None:
        super().__init__(l_in, l_edge, l_out, kernel)
        self.paths = edge_paths(l_in, l_edge, l_out)
        self.num_paths_out = tuple(sum(path[2] == degree for path in self.paths) for degree in range(l_out + 1))
        self.weight_numel = len(self.paths)
        if l_in == 0:
            self.kernel = ScalarInputKernel(l_edge, l_out)
        else:
            self.kernel = self.KERNELS[self.kernel_name](l_in, l_edge, self.paths)


class ClebschGordanNodeProduct(NodeProduct):
    """Node product of the Clebsch-Gordan family: the full symmetric coupling space, a weight per element and path."""

    family = "clebsch_gordan"
    KERNELS: ClassVar = {"dense": DenseNodeKernel}

    def __init__(
        self, l_in: int, l_out: int, correlation: int, num_elements: int, num_channels: int, kernel: str = "auto"
    ) -> None:
        super().__init__(l_in, l_out, correlation, num_elements, num_channels, kernel)
        self.kernel = self.KERNELS[self.kernel_name](l_in, l_out, correlation)
        num_paths = cast(list[list[int]], self.kernel.num_paths)
        totals = [sum(column) for column in zip(*num_paths, strict=True)]
        # Unit-variance paths, so the sum over the paths of one degree has unit variance too.
        scales = torch.cat([torch.full((total,), total**-0.5, dtype=torch.float64) for total in totals])
        self.register_table("scales", scales[:, None, None])
        self.weight = nn.Parameter(torch.randn(num_elements, sum(totals), num_channels))

    scales: Tensor

    def forward(self, node_feats: Tensor, node_types: Tensor) -> Tensor:
        weights = self.weight[node_types].transpose(0, 1) * self.scales
        result: Tensor = self.kernel(node_feats, weights)
        return result
