"""What runs beside the families: e3nn's own tensor products, and the bare FFT convolution."""

from collections.abc import Callable
from typing import Any

import torch
from e3nn import o3
from scipy.fft import next_fast_len
from torch import Tensor, nn

from mace_gaunt.benchmark.candidates import Candidate
from mace_gaunt.benchmark.cells import Cell
from mace_gaunt.benchmark.inputs import Inputs, directions, leaf, normal, random_graph
from mace_gaunt.so3.harmonics import spherical_harmonics
from mace_gaunt.tensor_products.contracts import coupled_paths

E3NN_MAX_DEGREE = 11
"""e3nn's Wigner matrices end here."""
E3NN_MOST_PATHS = 200
"""e3nn writes a program of its own for each path; above this it takes minutes to build."""


def e3nn_candidate(cell: Cell) -> Candidate:
    """e3nn's `o3.TensorProduct` in its own layout, compiled as e3nn does by default.

    Feature products are channel by channel ("uuu"), edge products "uvu" with external weights, gather and `index_add`.

    Raises:
        ValueError: If e3nn cannot do it, or not in reasonable time.
    """
    degrees = cell.arguments if cell.operation == "feature" else tuple(tuple(range(l + 1)) for l in cell.arguments)
    if max(map(max, degrees)) > E3NN_MAX_DEGREE:
        raise ValueError(f"e3nn ends at degree {E3NN_MAX_DEGREE}")
    paths = coupled_paths(*degrees) + (coupled_paths(*degrees, odd=True) if cell.pseudo else [])
    if not 0 < len(paths) <= E3NN_MOST_PATHS:
        raise ValueError(f"{len(paths)} paths: e3nn is run with 1 to {E3NN_MOST_PATHS}")
    edge = cell.operation == "edge"
    product = o3.TensorProduct(
        irreps(degrees[0], cell.channels),
        irreps(degrees[1], 1 if edge else cell.channels),
        o3.Irreps([(cell.channels, (l3, (-1) ** (l1 + l2))) for l1, l2, l3 in paths]),
        [
            (degrees[0].index(l1), degrees[1].index(l2), path, "uvu" if edge else "uuu", edge)
            for path, (l1, l2, _) in enumerate(paths)
        ],
        shared_weights=False if edge else None,
        internal_weights=False if edge else None,
    ).to(**cell.tensor_options)
    compute, leaves = edge_call(product, cell) if edge else feature_call(product, cell)
    count = len(paths) * cell.channels
    return Candidate(compute, Inputs(leaves, (), 1), product, count, count)


def irreps(degrees: tuple[int, ...], channels: int) -> Any:
    """Irreps of natural parity."""
    return o3.Irreps([(channels, (l, (-1) ** l)) for l in degrees])


def feature_call(product: Any, cell: Cell) -> Any:
    """The product itself, and x and y."""
    parts = product.irreps_in1, product.irreps_in2
    return product, tuple(leaf(normal(cell, cell.batch, part.dim, offset=i)) for i, part in enumerate(parts))


def edge_call(product: Any, cell: Cell) -> Any:
    """Gather, couple, `index_add`; with node features, harmonics and weights."""
    senders, receivers = random_graph(cell)

    def compute(feats: Tensor, attrs: Tensor, weights: Tensor) -> Tensor:
        messages = product(feats[senders], attrs, weights)
        return messages.new_zeros(cell.n_nodes, messages.shape[1]).index_add(0, receivers, messages)

    feats = normal(cell, cell.n_nodes, product.irreps_in1.dim)
    attrs = spherical_harmonics(directions(cell), cell.arguments[1])
    weights = normal(cell, cell.batch, product.weight_numel, offset=1)
    return compute, (leaf(feats), leaf(attrs), leaf(weights))


def rfft2_candidate(cell: Cell) -> Candidate:
    """The bare convolution inside a Fourier feature product: two real 2-D FFTs, a product, one back.

    The product of signals of degrees L1 and L2 has 2 (L1 + L2) + 1 frequencies each way; the next size is taken that
    FFTs like.
    """
    size = next_fast_len(2 * (max(cell.arguments[0]) + max(cell.arguments[1])) + 1, real=True)
    shape = (cell.batch * cell.channels, size, size)

    def compute(x: Tensor, y: Tensor) -> Tensor:
        return torch.fft.irfft2(torch.fft.rfft2(x) * torch.fft.rfft2(y), s=(size, size))

    leaves = leaf(normal(cell, *shape)), leaf(normal(cell, *shape, offset=1))
    return Candidate(compute, Inputs(leaves, (), 1), nn.Identity())


REFERENCES: dict[tuple[str, str], tuple[Callable[[Cell], Candidate], tuple[str, ...]]] = {
    ("e3nn", "TensorProduct"): (e3nn_candidate, ("feature", "edge")),
    ("rfft2", "convolution"): (rfft2_candidate, ("feature",)),
}
"""(What stands in the place of the family, of the kernel) -> its maker, and the operations beside which it runs."""
