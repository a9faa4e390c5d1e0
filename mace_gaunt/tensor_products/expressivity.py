"""What a feature product can say: which degrees it couples, and how many different maps the Linears around it reach.

Source of both measures: Xie, Daigavane, Kotak, Smidt, "The Price of Freedom in Selecting Tensor Products", ICML 2025.
Interactability asks which triples (l1, l2, l3) have a coupling that is not zero; expressivity is the dimension of the
set of equivariant bilinear maps obtained by varying the equivariant linear layers around the product. Both are computed
numerically from the product alone, so they hold for any family.
"""

import copy
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn

from mace_gaunt.so3.linear import EquivariantLinear
from mace_gaunt.tensor_products.contracts import FeatureProduct

M = TypeVar("M", bound=nn.Module)

TOLERANCE = 1e-9
"""Singular values below this share of the largest count as zero: the Jacobian is exact to about 1e-15 of it."""
DRAWS = 16
"""Random weights over which the strengths of a product with weights of its own are averaged."""


BACKWARDS_AT_ONCE = 64


@dataclass(frozen=True)
class Coupling:
    """How one triangle couples under a product, for natural inputs.

    Attributes:
        l1: Degree from the first feature.
        l2: Degree from the second.
        l3: Degree in the result.
        strength: Root mean square of what it adds to a component of the result, for unit-variance inputs; all copies of
            the degree together. Zero where the triple does not interact.
        relative: Norm of the coupling over the norm of all that end in the same degree and parity.
    """

    l1: int
    l2: int
    l3: int
    strength: float
    relative: float

    @property
    def pseudo(self) -> bool:
        """Whether it makes pseudo-tensors of natural features."""
        return (self.l1 + self.l2 + self.l3) % 2 == 1

    @property
    def interacts(self) -> bool:
        """Whether it is not zero."""
        return self.strength > 0.0


def interactability(product: FeatureProduct, generator: torch.Generator | None = None) -> list[Coupling]:
    """The strength of every triangle of a product's degrees.

    The product is applied to all pairs of unit vectors of two degrees, in float64. Weights of its own are drawn from
    the normal distribution, and squares averaged over `DRAWS` draws.

    Args:
        product: The product; left as it is.
        generator: Of the random weights; seed 0 when None.

    Returns:
        Even and odd triangles, ordered by l3, l1, l2.
    """
    generator = generator or torch.Generator().manual_seed(0)
    draws = DRAWS if any(True for _ in product.parameters()) else 1
    squares = torch.stack([squared_norms(with_random_weights(product, generator)) for _ in range(draws)]).mean(0)
    totals = squares.sum(dim=(1, 2))
    couplings = []
    for (k, l3), (i, l1), (j, l2) in itertools.product(
        enumerate(product.degrees_out), enumerate(product.degrees_x), enumerate(product.degrees_y)
    ):
        if abs(l1 - l2) <= l3 <= l1 + l2:
            odd = (l1 + l2 + l3) % 2
            square, total = float(squares[odd, i, j, k]), float(totals[odd, k])
            square = square if square > 1e-20 else 0.0
            couplings.append(
                Coupling(l1, l2, l3, math.sqrt(square / (2 * l3 + 1)), math.sqrt(square / total) if square else 0.0)
            )
    return couplings


def squared_norms(product: FeatureProduct) -> Tensor:
    """Squared norms of the couplings, shape [2 (natural, pseudo), len(degrees_x), len(degrees_y), len(degrees_out)]."""
    degrees_x, degrees_y = product.degrees_x, product.degrees_y
    norms = torch.zeros(2, len(degrees_x), len(degrees_y), len(product.degrees_out), dtype=torch.float64)
    for (i, units_x), (j, units_y) in itertools.product(
        enumerate(unit_vectors(degrees_x)), enumerate(unit_vectors(degrees_y))
    ):
        x = units_x.repeat_interleave(len(units_y), dim=0)[..., None]
        y = units_y.repeat(len(units_x), 1)[..., None]
        with torch.no_grad():
            result = product(x, y)
        for parity, half in enumerate(halves(result)):
            blocks = half.split(block_sizes(product.degrees_out, product.num_paths_out), dim=1)
            norms[parity, i, j] = torch.stack([block.square().sum() for block in blocks])
    return norms


@dataclass(frozen=True)
class Expressivity:
    """How many maps a product with Linears around it can represent.

    Attributes:
        dimension: Rank of the Jacobian of the bilinear map with respect to all weights at a random point.
        free_weights: Weights that have an effect: of the Linears, and of the product if it has any.
        available: Dimension of all equivariant bilinear maps, those with odd couplings only for a product that has
            pseudo-tensors.
        gap: Smallest singular value that counts over the largest that does not; the larger, the surer.
    """

    dimension: int
    free_weights: int
    available: int
    gap: float


def expressivity(
    product: FeatureProduct,
    multiplicity: int = 1,
    channels: int | None = None,
    generator: torch.Generator | None = None,
) -> Expressivity:
    """Dimension of the set of maps Lin_out T(Lin_x x, Lin_y y), with one matrix per degree (and parity) in each Linear.

    The map is taken at as many random pairs (x, y) as determine an equivariant bilinear map, which is as good as its
    whole tensor: the rank of the Jacobian is the same.

    Args:
        product: T; left as it is.
        multiplicity: Copies of each degree in x, y and the result.
        channels: Channels of T; `multiplicity` when None.
        generator: Of the random weights and inputs; seed 0 when None.

    Returns:
        The dimension and what to compare it with.
    """
    generator = generator or torch.Generator().manual_seed(0)
    layer = with_random_weights(LinearProduct(product, multiplicity, channels or multiplicity), generator)
    matrix = jacobian(layer, *sample_inputs(product, multiplicity, generator), generator)
    used = matrix[:, matrix.norm(dim=0) > 1e-12]
    values = torch.linalg.svdvals(used)
    rank = int((values > TOLERANCE * values[0]).sum())
    dropped = float(values[rank]) if rank < len(values) else 0.0
    available = sum(paths_that_end(product, l3) for l3 in product.degrees_out) * multiplicity**3
    return Expressivity(rank, used.shape[1], available, float(values[rank - 1]) / max(dropped, 1e-300))


def jacobian(layer: nn.Module, x: Tensor, y: Tensor, generator: torch.Generator) -> Tensor:
    """Derivatives of random combinations of a layer's results with respect to its weights.

    A few more combinations than weights have the rank of all results, and take fewer backward passes.

    Returns:
        Shape [combinations, weights].
    """
    result = layer(x, y).flatten()
    weights = list(layer.parameters())
    combinations = sum(weight.numel() for weight in weights) + 10
    directions = torch.randn(combinations, len(result), generator=generator, dtype=torch.float64)
    rows = []
    for part in directions.split(BACKWARDS_AT_ONCE):
        gradients = torch.autograd.grad(result, weights, part, retain_graph=True, is_grads_batched=True)
        rows.append(torch.cat([gradient.flatten(1) for gradient in gradients], dim=1))
    return torch.cat(rows)


class LinearProduct(nn.Module):
    """A feature product between Linears, natural features in.

    Args:
        product: The product.
        multiplicity: Copies of each degree in the inputs and the result.
        channels: Channels of the product.
    """

    def __init__(self, product: FeatureProduct, multiplicity: int, channels: int) -> None:
        super().__init__()
        self.product = product
        self.linear_x, self.linear_y = (
            EquivariantLinear((1,) * len(degrees), multiplicity, channels, degrees=degrees)
            for degrees in (product.degrees_x, product.degrees_y)
        )
        self.linear_out = EquivariantLinear(
            product.num_paths_out, channels, multiplicity, pseudo=product.pseudo_out, degrees=product.degrees_out
        )

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Shapes [n, rows, multiplicity] to [n, (2,) rows, multiplicity]."""
        result: Tensor = self.linear_out(self.product(self.linear_x(x), self.linear_y(y)))
        return result


def sample_inputs(product: FeatureProduct, multiplicity: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Random x and y, as many as determine a map: each gives 2l+1 equations for the couplings to degree l."""
    n = 2 + max(math.ceil(multiplicity**2 * paths_that_end(product, l3) / (2 * l3 + 1)) for l3 in product.degrees_out)
    x, y = (
        torch.randn(n, sum(2 * l + 1 for l in degrees), multiplicity, generator=generator, dtype=torch.float64)
        for degrees in (product.degrees_x, product.degrees_y)
    )
    return x, y


def paths_that_end(product: FeatureProduct, l3: int) -> int:
    """Triangles of the product's degrees that end in a degree, odd ones only if it makes pseudo-tensors."""
    return sum(
        abs(l1 - l2) <= l3 <= l1 + l2 and (product.pseudo_out or (l1 + l2 + l3) % 2 == 0)
        for l1 in product.degrees_x
        for l2 in product.degrees_y
    )


def with_random_weights(module: M, generator: torch.Generator) -> M:
    """A copy in float64 whose weights are drawn from the normal distribution."""
    module = copy.deepcopy(module).double()
    with torch.no_grad():
        for weight in module.parameters():
            weight.copy_(torch.randn(weight.shape, generator=generator, dtype=torch.float64))
    return module


def unit_vectors(degrees: Sequence[int]) -> list[Tensor]:
    """Unit vectors of the components of each degree, shape [2l+1, rows] for every degree l."""
    sizes = [2 * degree + 1 for degree in degrees]
    return list(torch.eye(sum(sizes), dtype=torch.float64).split(sizes))


def block_sizes(degrees: Sequence[int], copies: Sequence[int]) -> list[int]:
    """Rows of each degree in a result."""
    return [(2 * l + 1) * count for l, count in zip(degrees, copies, strict=True)]


def halves(result: Tensor) -> tuple[Tensor, ...]:
    """The natural and, with the parity axis, the pseudo half."""
    return result.unbind(1) if result.dim() == 4 else (result,)
