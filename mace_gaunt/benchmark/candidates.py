"""What can compute a cell: every kernel of every family, built and ready to be called."""

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mace_gaunt.benchmark.cells import NUM_ELEMENTS, Cell
from mace_gaunt.benchmark.inputs import Inputs, make_inputs
from mace_gaunt.errors import UserError, nearest
from mace_gaunt.tensor_products.contracts import EdgeProduct, FeatureProduct, NodeProduct
from mace_gaunt.tensor_products.expressivity import expressivity
from mace_gaunt.tensor_products.families import FAMILIES, product_class

CONTRACTS: dict[str, Any] = {"feature": FeatureProduct, "edge": EdgeProduct, "node": NodeProduct}

AUTO = "auto"
"""The kernel that is chosen by measuring; stands beside the others in every family."""
ZERO = 1e-4
"""Below this a copy of unit variance is none."""
MOST_PATHS = 150
"""Expressivity is computed for products with at most so many copies of degrees in their result: it takes seconds there,
and minutes at twice as many."""


@dataclass(frozen=True)
class Candidate:
    """Something that computes a cell.

    Attributes:
        compute: Leaves -> result.
        inputs: What `compute` takes.
        module: Holds further weights and tables.
        output_irreps: Irreps in the result of one row, edge or node, channels counted; None for the bare convolution.
        free_weights: Weights that choose the function (`count_weights`); None where they are not counted.
    """

    compute: Callable[..., Tensor]
    inputs: Inputs
    module: nn.Module
    output_irreps: int | None = None
    free_weights: int | None = None

    @property
    def leaves(self) -> tuple[Tensor, ...]:
        """Inputs and parameters."""
        return (*self.inputs.leaves, *self.module.parameters())

    def call(self) -> Tensor:
        """The result."""
        return self.compute(*self.inputs.leaves)


def classes(operation: str) -> dict[str, Any]:
    """Family -> class, of all families with an operation."""
    found = {}
    for family in FAMILIES:
        try:
            found[family] = product_class(family, CONTRACTS[operation])
        except StopIteration:
            # A family need not have every operation.
            continue
    return found


def check_names(families: tuple[str, ...], kernels: tuple[str, ...]) -> None:
    """Refuse families and kernels that do not exist.

    Raises:
        UserError: Naming the nearest that does.
    """
    for family in families:
        if family not in FAMILIES:
            raise UserError(f"no family '{family}'.{nearest(family, FAMILIES)}")
    known = {name for operation in CONTRACTS for found in classes(operation).values() for name in found.KERNELS}
    for kernel in kernels:
        if kernel not in known | {AUTO}:
            raise UserError(f"no kernel '{kernel}'.{nearest(kernel, known | {AUTO})}")


def build(found: Any, kernel: str, cell: Cell) -> nn.Module:
    """A product for a cell, on its device; equal weights for all kernels of a family.

    Args:
        found: Class of the product.
        kernel: Name of the kernel.
        cell: The cell.

    Raises:
        ValueError: If the family or kernel cannot compute the cell.
        ImportError: If a library is missing.
    """
    parameters = inspect.signature(found).parameters
    options: dict[str, Any] = {"pseudo": True} if cell.pseudo and "pseudo" in parameters else {}
    if cell.operation == "node":
        options |= {"num_elements": NUM_ELEMENTS, "num_channels": cell.channels}
    elif "num_channels" in parameters:
        options["num_channels"] = cell.channels
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(cell.seed)
        product: nn.Module = found(*cell.arguments, kernel=kernel, **options)
    return product.to(**cell.tensor_options)


def candidate(product: Any, cell: Cell) -> Candidate:
    """A product with inputs.

    Args:
        product: From `build`.
        cell: Its cell.
    """
    inputs = make_inputs(product, cell)

    def compute(*leaves: Tensor) -> Tensor:
        result: Tensor = product(*leaves, *inputs.indices)
        return result

    return Candidate(compute, inputs, product, count_irreps(product, inputs, cell), count_weights(product, cell))


def count_irreps(product: Any, inputs: Inputs, cell: Cell) -> int:
    """Irreps in the result for one row, edge or node, channels counted: copies that are always zero do not count."""
    few = [value[:3] if cell.operation == "feature" else value for value in inputs.leaves]
    with torch.no_grad():
        result = product(*few, *inputs.indices)
    degrees = product.degrees_out if cell.operation == "feature" else tuple(range(product.l_out + 1))
    copies = (1,) * len(degrees) if cell.operation == "node" else product.num_paths_out
    count = 0
    for half in result.unbind(1) if result.dim() == 4 else [result]:
        blocks = half.split([(2 * l + 1) * n for l, n in zip(degrees, copies, strict=True)], dim=1)
        for l, block in zip(degrees, blocks, strict=True):
            largest = block.unflatten(1, (2 * l + 1, -1)).abs().amax(dim=(0, 1))
            count += int((largest > ZERO).sum())
    return count


def count_weights(product: Any, cell: Cell) -> int | None:
    """Weights that choose the function.

    For a feature product the dimension of what the Linears around it reach, channel by channel; for an edge product the
    weights of one edge and its own; for a node product its own.
    """
    own = sum(weight.numel() for weight in product.parameters())
    if cell.operation == "feature":
        dimension = reached(product.family, cell.arguments, cell.pseudo)
        return None if dimension is None else dimension * cell.channels
    return int(product.weight_numel) * cell.channels + own if cell.operation == "edge" else own


@functools.cache
def reached(family: str, arguments: tuple[Any, ...], pseudo: bool) -> int | None:
    """Expressivity of a feature product for one channel; None where it has too many paths."""
    found = product_class(family, FeatureProduct)
    options = {"pseudo": True} if pseudo and "pseudo" in inspect.signature(found).parameters else {}
    product = found(*arguments, **options)
    if sum(product.num_paths_out) > MOST_PATHS:
        return None
    return expressivity(product).dimension
