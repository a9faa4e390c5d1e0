"""Clebsch-Gordan products by NVIDIA's cuequivariance, an optional library: fused CUDA kernels, plain torch on a CPU.

Our layout, one row of channels per component, is what its method "uniform_1d" wants, so nothing is rearranged: each
coupling coefficient that is not zero is one path between rows.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mace_gaunt.so3.layout import num_components
from mace_gaunt.so3.symmetric import SymmetricBasis, symmetric_bases
from mace_gaunt.so3.tables import TableModule
from mace_gaunt.tensor_products.contracts import EdgeKernel, Path
from mace_gaunt.tensor_products.kernels.cg_dense import coupling_tensor, path_offsets, row_paths

INSTALL = "kernel 'cuequivariance' needs the library of that name: pip install 'mace-gaunt[cueq]'"
INSTALL_CUDA = (
    "on a GPU, kernel 'cuequivariance' needs its CUDA kernels: pip install 'mace-gaunt[cueq-cu13]' (or cueq-cu12, the "
    "CUDA version of your torch)"
)

Term = tuple[tuple[int, ...], float]
"""Row of every operand, and the coefficient."""


def import_library() -> tuple[Any, Any]:
    """The modules cuequivariance and cuequivariance_torch.

    Raises:
        ImportError: Saying what to install.
    """
    try:
        import cuequivariance
        import cuequivariance_torch
    except ImportError as error:
        raise ImportError(INSTALL) from error
    if torch.cuda.is_available():
        try:
            import cuequivariance_ops_torch  # noqa: F401
        except ImportError as error:
            raise ImportError(INSTALL_CUDA) from error
    return cuequivariance, cuequivariance_torch


class RowPolynomial:
    """Sums of products of rows, each row of C channels (or one number for all channels).

    The library's module depends on the number of channels and lies on a device, so it is made at the first call.

    Args:
        operands: Rows of each input and, last, of the output; and whether a row has one number per channel.
        products: For each product the operands it multiplies, the output last, and its terms.
    """

    def __init__(
        self, operands: Sequence[tuple[int, bool]], products: Sequence[tuple[Sequence[int], Sequence[Term]]]
    ) -> None:
        self.library = import_library()
        self.operands, self.products = operands, products
        self.modules: dict[tuple[int, torch.device, torch.dtype], Any] = {}

    def __call__(
        self,
        inputs: Sequence[Tensor],
        channels: int,
        input_indices: dict[int, Tensor] | None = None,
        output: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor:
        """Evaluate.

        Args:
            inputs: Each of shape [n, rows, C], or [n, rows] where a row is one number.
            channels: C.
            input_indices: Rows to gather of some inputs.
            output: Where results are added up: index of each result, and a tensor as long as the output.

        Returns:
            Shape [n, rows, C].
        """
        key = channels, inputs[0].device, inputs[0].dtype
        if key not in self.modules:
            self.modules[key] = self.module(*key)
        index, like = output or (None, None)
        (result,) = self.modules[key](
            [value.flatten(1) for value in inputs],
            input_indices=input_indices,
            output_shapes=None if like is None else {0: like[:, :1]},
            output_indices=None if index is None else {0: index},
        )
        return result.unflatten(1, (-1, channels))

    def module(self, channels: int, device: torch.device, dtype: torch.dtype) -> Any:
        """The library's module for a number of channels."""
        cue, cue_torch = self.library
        operands = [
            cue.SegmentedOperand(ndim=int(per_channel), segments=[(channels,) * per_channel] * rows)
            for rows, per_channel in self.operands
        ]
        described = []
        for positions, terms in self.products:
            product = cue.SegmentedTensorProduct.from_subscripts(
                ",".join("u" if self.operands[position][1] else "" for position in positions)
            )
            for operand, position in enumerate(positions):
                product.add_segments(operand, operands[position].segments)
            for rows, coefficient in terms:
                product.add_path(*rows, c=coefficient)
            described.append((cue.Operation(tuple(positions)), product))
        polynomial = cue.SegmentedPolynomial(operands[:-1], operands[-1:], described)
        method = "uniform_1d" if device.type == "cuda" else "naive"
        return cue_torch.SegmentedPolynomial(polynomial, method=method, math_dtype=dtype).to(device)


def coupling_terms(degrees_x: Sequence[int], degrees_y: Sequence[int], paths: Sequence[Path]) -> list[Term]:
    """Coefficients of `coupling_tensor` that are not zero, with their rows of x, y and the result."""
    tensor = coupling_tensor(degrees_x, degrees_y, paths)
    found = tensor.nonzero().tolist()
    return [((x, y, row), value) for (row, x, y), value in zip(found, tensor[tensor != 0].tolist(), strict=True)]


class CueqFeatureKernel(TableModule):
    """Feature product; see `DenseFeatureKernel` for the arguments and the order of rows.

    Raises:
        ImportError: If the library is missing.
    """

    devices = ("cuda",)

    def __init__(self, degrees_x: Sequence[int], degrees_y: Sequence[int], paths: Sequence[Path]) -> None:
        super().__init__()
        rows = [sum(2 * l + 1 for l in degrees) for degrees in (degrees_x, degrees_y)]
        terms = coupling_terms(degrees_x, degrees_y, paths)
        operands = [(rows[0], True), (rows[1], True), (len(row_paths(paths)), True)]
        self.polynomial = RowPolynomial(operands, [((0, 1, 2), terms)])

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Shapes as in `FeatureProduct.forward`, natural features."""
        return self.polynomial([x, y], x.shape[-1])


class CueqEdgeKernel(EdgeKernel):
    """Edge product, gather and scatter included; see `DenseEdgeKernel` for the arguments and the order of rows.

    Raises:
        ImportError: If the library is missing.
    """

    devices = ("cuda",)

    def __init__(self, l_in: int, l_edge: int, paths: Sequence[Path]) -> None:
        super().__init__()
        owners = row_paths(paths)
        terms: list[Term] = [
            ((x, y, owners[row], row), value)
            for (x, y, row), value in coupling_terms(range(l_in + 1), range(l_edge + 1), paths)
        ]
        operands = [
            (num_components(l_in), True), (num_components(l_edge), False), (len(paths), True), (len(owners), True)
        ]  # fmt: skip
        self.polynomial = RowPolynomial(operands, [((0, 1, 2, 3), terms)])

    def couple(self, node_feats: Tensor, edge_attrs: Tensor, weights: Tensor) -> Tensor:
        """Per edge, shape [n_edges, rows, C]."""
        return self.polynomial([node_feats, edge_attrs, weights], node_feats.shape[-1])

    def forward(self, node_feats: Tensor, edge_attrs: Tensor, weights: Tensor, edge_index: Tensor) -> Tensor:
        """Summed over neighbours, shape [n_nodes, rows, C]."""
        if edge_index.shape[1] == 0:
            # The library takes an empty index for none.
            return super().forward(node_feats, edge_attrs, weights, edge_index)
        return self.polynomial(
            [node_feats, edge_attrs, weights],
            node_feats.shape[-1],
            input_indices={0: edge_index[0]},
            output=(edge_index[1], node_feats.flatten(1)),
        )


class CueqNodeKernel(TableModule):
    """Node product; see `DenseNodeKernel` for the arguments.

    Raises:
        ImportError: If the library is missing.
    """

    devices = ("cuda",)

    def __init__(self, l_in: int, l_out: int, correlation: int) -> None:
        super().__init__()
        bases = symmetric_bases(l_in, l_out, correlation)
        num_paths = [[len(block) for block in basis.coefficients] for basis in bases]
        offsets = path_offsets(num_paths)
        products = [
            ([0, *[1] * basis.order, 2], symmetric_terms(basis, offsets[order])) for order, basis in enumerate(bases)
        ]
        operands = [
            (sum(map(sum, num_paths)), True), (num_components(l_in), True), (num_components(l_out), True)
        ]  # fmt: skip
        self.polynomial = RowPolynomial(operands, products)

    def forward(self, node_feats: Tensor, weights: Tensor) -> Tensor:
        """Shapes as in `DenseNodeKernel.forward`."""
        return self.polynomial([weights.transpose(0, 1), node_feats], node_feats.shape[-1])


def symmetric_terms(basis: SymmetricBasis, offsets: Sequence[int]) -> list[Term]:
    """Rows of weight, factors and result of every coefficient of one order.

    Args:
        basis: The polynomials.
        offsets: First weight of each degree.
    """
    terms = []
    for degree, block in enumerate(basis.coefficients):
        for path, m, monomial in np.argwhere(block != 0).tolist():
            rows = offsets[degree] + path, *basis.monomials[monomial].tolist(), degree * degree + m
            terms.append((rows, float(block[path, m, monomial])))
    return terms
