"""The Clebsch-Gordan family: every coupling, a free weight per path; what MACE does.

Source: Batatia et al., "MACE: Higher order equivariant message passing neural networks", NeurIPS 2022, eq. 8 to 11.
The node product spans MACE's space exactly, in a basis without MACE's redundant weights.
"""

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from mace_gaunt.so3.layout import Degrees
from mace_gaunt.so3.scatter import rows_of
from mace_gaunt.so3.symmetric import symmetric_bases
from mace_gaunt.tensor_products.contracts import (
    EdgeProduct,
    FeatureProduct,
    NodeProduct,
    Path,
    check_reached,
    count_paths,
    coupled_paths,
)
from mace_gaunt.tensor_products.kernels.aligned import AlignedCGEdgeKernel
from mace_gaunt.tensor_products.kernels.cg_dense import DenseEdgeKernel, DenseFeatureKernel, DenseNodeKernel
from mace_gaunt.tensor_products.kernels.cg_e3nn import E3nnEdgeKernel, E3nnFeatureKernel, E3nnNodeKernel
from mace_gaunt.tensor_products.kernels.cg_sparse import SparseEdgeKernel, SparseFeatureKernel, SparseNodeKernel
from mace_gaunt.tensor_products.kernels.cueq import CueqEdgeKernel, CueqFeatureKernel, CueqNodeKernel
from mace_gaunt.tensor_products.kernels.fused import FusedCGEdgeKernel, FusedCGNodeKernel, FusedScalarEdgeKernel
from mace_gaunt.tensor_products.kernels.pair import PairEdgeKernel, PairFeatureKernel
from mace_gaunt.tensor_products.kernels.scalar_input import ScalarInputKernel
from mace_gaunt.tensor_products.parity import Pairing

NO_PATH = "no triangle of the given degrees ends there with natural parity; pseudo=true adds those with an odd sum"


class ClebschGordanFeatureProduct(FeatureProduct):
    """Feature product of the Clebsch-Gordan family: one copy of a degree for every path that ends there.

    Args:
        degrees_x: Degrees of the first feature: a largest degree, or ascending degrees.
        degrees_y: Degrees of the second.
        degrees_out: Degrees of the result.
        kernel: How it is computed.
        pseudo: Whether to have the couplings with odd l1 + l2 + l3 too, which make pseudo-tensors.

    Raises:
        ValueError: If a degree is out of reach, or there is no such kernel.
    """

    family = "clebsch_gordan"
    KERNELS: ClassVar = {
        "dense": DenseFeatureKernel,
        "sparse": SparseFeatureKernel,
        "e3nn": E3nnFeatureKernel,
        "cuequivariance": CueqFeatureKernel,
    }

    def __init__(
        self,
        degrees_x: Degrees,
        degrees_y: Degrees,
        degrees_out: Degrees,
        kernel: str = "auto",
        *,
        pseudo: bool = False,
    ) -> None:
        super().__init__(degrees_x, degrees_y, degrees_out)
        degrees = self.degrees_x, self.degrees_y, self.degrees_out
        self.paths = coupled_paths(*degrees)
        self.odd_paths = coupled_paths(*degrees, odd=True) if pseudo else []
        counts, odd_counts = (count_paths(paths, self.degrees_out) for paths in (self.paths, self.odd_paths))
        reached = [even + odd for even, odd in zip(counts, odd_counts, strict=True)]
        check_reached(self.family, reached, self.degrees_out, NO_PATH)
        self.num_paths_out = counts
        if self.odd_paths:
            self.pairing, self.pseudo_out = Pairing(counts, odd_counts, self.degrees_out), True
            self.num_paths_out = self.pairing.num_paths_natural
        self.choose_kernel(kernel)

    def build_kernel(self, name: str) -> Any:
        def build(paths: list[Path]) -> Any:
            return self.KERNELS[name](self.degrees_x, self.degrees_y, paths)

        even = build(self.paths) if self.paths else None
        return PairFeatureKernel(even, build(self.odd_paths)) if self.odd_paths else even


class ClebschGordanEdgeProduct(EdgeProduct):
    """Edge product of the Clebsch-Gordan family: one output copy, edge weight and channel weight per path.

    Args:
        l_in: Largest degree of the node features.
        l_edge: Largest degree of the edge harmonics.
        l_out: Largest degree of the messages.
        kernel: How it is computed.
        num_channels: Not needed by this family.
        pseudo_in: Whether the node features have the parity axis.
        pseudo: Whether to have the couplings with odd l1 + l2 + l3 too, which make pseudo-tensors. MACE has none.
    """

    family = "clebsch_gordan"
    KERNELS: ClassVar = {
        "dense": DenseEdgeKernel,
        "sparse": SparseEdgeKernel,
        "aligned": AlignedCGEdgeKernel,
        "fused": FusedCGEdgeKernel,
        "e3nn": E3nnEdgeKernel,
        "cuequivariance": CueqEdgeKernel,
    }

    def __init__(
        self,
        l_in: int,
        l_edge: int,
        l_out: int,
        kernel: str = "auto",
        *,
        num_channels: int | None = None,
        pseudo_in: bool = False,
        pseudo: bool = False,
    ) -> None:
        super().__init__(l_in, l_edge, l_out, num_channels=num_channels, pseudo_in=pseudo_in)
        self.pseudo = pseudo
        degrees = range(l_in + 1), range(l_edge + 1), range(l_out + 1)
        self.paths = coupled_paths(*degrees)
        self.odd_paths = coupled_paths(*degrees, odd=True) if pseudo else []
        counts, odd_counts = (count_paths(paths, degrees[2]) for paths in (self.paths, self.odd_paths))
        pairing = Pairing(counts, odd_counts) if self.odd_paths else None
        self.announce(counts, len(self.paths) + len(self.odd_paths), pairing)
        self.choose_kernel(kernel)

    def build_kernel(self, name: str) -> Any:
        if self.l_in == 0:
            if name == "fused":
                return FusedScalarEdgeKernel(self.l_out, len(self.paths))
            return ScalarInputKernel(self.l_edge, self.l_out)

        def build(paths: list[Path]) -> Any:
            return self.KERNELS[name](self.l_in, self.l_edge, paths)

        if not self.odd_paths:
            return build(self.paths)
        return PairEdgeKernel(build(self.paths), build(self.odd_paths), len(self.paths))

    def options(self) -> dict[str, Any]:
        return {"pseudo": True} if self.pseudo else {}


class ClebschGordanNodeProduct(NodeProduct):
    """Node product of the Clebsch-Gordan family: the full symmetric coupling space, a weight per element and path."""

    family = "clebsch_gordan"
    KERNELS: ClassVar = {
        "dense": DenseNodeKernel,
        "sparse": SparseNodeKernel,
        "fused": FusedCGNodeKernel,
        "e3nn": E3nnNodeKernel,
        "cuequivariance": CueqNodeKernel,
    }

    def __init__(
        self,
        l_in: int,
        l_out: int,
        correlation: int,
        num_elements: int,
        num_channels: int,
        kernel: str = "auto",
        *,
        pseudo_in: bool = False,
    ) -> None:
        super().__init__(l_in, l_out, correlation, num_elements, num_channels, pseudo_in=pseudo_in)
        num_paths = [[len(block) for block in basis.coefficients] for basis in self.bases()]
        totals = [sum(column) for column in zip(*num_paths, strict=True)]
        # Unit-variance paths, so the sum over the paths of one degree has unit variance too.
        scales = torch.cat([torch.full((total,), total**-0.5, dtype=torch.float64) for total in totals])
        self.register_table("scales", scales[:, None, None])
        self.choose_kernel(kernel)
        self.weight = nn.Parameter(torch.randn(num_elements, sum(totals), num_channels))

    scales: Tensor

    def bases(self) -> Any:
        """The polynomials of each order, which all kernels evaluate."""
        return symmetric_bases(self.l_in, self.l_out, self.correlation)

    def build_kernel(self, name: str) -> Any:
        return self.KERNELS[name](self.l_in, self.l_out, self.correlation)

    def natural(self, node_feats: Tensor, node_types: Tensor) -> Tensor:
        weights = rows_of(self.weight, node_types).transpose(0, 1) * self.scales
        result: Tensor = self.kernel(node_feats, weights)
        return result
