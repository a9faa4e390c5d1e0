"""The matrix family: features as (2j+1) x (2j+1) matrices, multiplied and turned back; even and odd couplings.

Sources: Unke, Maennel, "E3x" (2024); Xie et al., "The Price of Freedom in Selecting Tensor Products" (ICML 2025).
"""

import functools
from typing import ClassVar

from mace_gaunt.tensor_products.kernels.matmul import (
    MatmulEdgeKernel,
    MatmulFeatureKernel,
    half_degree,
    matrix_amplitude,
)
from mace_gaunt.tensor_products.pairs import Amplitude, ChainNodeProduct, PairEdgeProduct, PairFeatureProduct


class MatrixFeatureProduct(PairFeatureProduct):
    """Feature product of the matrix family: anticommutator and commutator."""

    family = "matrix"
    KERNELS: ClassVar = {"matmul": MatmulFeatureKernel}

    def amplitude(self) -> Amplitude:
        return functools.partial(matrix_amplitude, half_degree(*self.degrees_x, *self.degrees_y, *self.degrees_out))


class MatrixEdgeProduct(PairEdgeProduct):
    """Edge product of the matrix family: one weight per harmonic degree and channel, for both couplings."""

    family = "matrix"
    KERNELS: ClassVar = {"matmul": MatmulEdgeKernel}

    def amplitude(self) -> Amplitude:
        return functools.partial(matrix_amplitude, half_degree(self.l_in, self.l_edge, self.l_out))

    def numel(self) -> int:
        return self.l_edge + 1


class MatrixNodeProduct(ChainNodeProduct):
    """Node product of the matrix family: a chain of its feature products, each with channels mixed anew."""

    family = "matrix"
    KERNELS: ClassVar = MatrixFeatureProduct.KERNELS
    feature_product = MatrixFeatureProduct
