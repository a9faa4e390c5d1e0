"""The vector Gaunt family: pointwise products and Poisson brackets of spherical signals, so that every path exists.

The Gaunt product reaches the couplings with an even l1 + l2 + l3. The spherical Poisson bracket r . (grad f x grad g),
for degrees (1, 1, 1) the cross product, reaches all others; of natural features these are pseudo-tensors. Sources:
Bochkarev, Lysogorskiy, Drautz, "Fast contracted Clebsch-Gordan tensor products" (arXiv 2605.15073); Xie et al.,
"Asymptotically fast Clebsch-Gordan tensor products with vector spherical harmonics" (ICML 2026).
"""

from typing import ClassVar

from mace_gaunt.so3.coefficients import gaunt_amplitude
from mace_gaunt.so3.gradients import bracket_amplitude
from mace_gaunt.tensor_products.kernels.vector_grid import (
    PoissonEdgeKernel,
    PoissonFeatureKernel,
    VSHEdgeKernel,
    VSHFeatureKernel,
)
from mace_gaunt.tensor_products.pairs import Amplitude, ChainNodeProduct, PairEdgeProduct, PairFeatureProduct


def amplitude(l1: int, l2: int, l3: int) -> float:
    """Norm of a coupling before normalisation: of the pointwise product for even sums, of the bracket for odd ones."""
    return abs(gaunt_amplitude(l1, l2, l3)) + bracket_amplitude(l1, l2, l3)


class VectorGauntFeatureProduct(PairFeatureProduct):
    """Feature product of the vector Gaunt family: pointwise product and bracket."""

    family = "vector_gaunt"
    KERNELS: ClassVar = {"poisson": PoissonFeatureKernel, "vsh": VSHFeatureKernel}

    def amplitude(self) -> Amplitude:
        return amplitude


class VectorGauntEdgeProduct(PairEdgeProduct):
    """Edge product of the vector Gaunt family: weights per harmonic degree and channel, other ones for the bracket."""

    family = "vector_gaunt"
    KERNELS: ClassVar = {"poisson": PoissonEdgeKernel, "vsh": VSHEdgeKernel}

    def amplitude(self) -> Amplitude:
        return amplitude

    def numel(self) -> int:
        return 2 * self.l_edge + 1


class VectorGauntNodeProduct(ChainNodeProduct):
    """Node product of the vector Gaunt family: a chain of its feature products, each with channels mixed anew."""

    family = "vector_gaunt"
    KERNELS: ClassVar = VectorGauntFeatureProduct.KERNELS
    feature_product = VectorGauntFeatureProduct
