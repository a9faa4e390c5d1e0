"""Kernels of a family are timed only if they compute the same function."""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from mace_gaunt.benchmark.cells import Cell
from mace_gaunt.benchmark.inputs import make_inputs, with_vectors
from mace_gaunt.tensor_products.selection import call

TOLERANCES = {"float32": 1e-3, "float64": 1e-9}
"""Largest difference over largest value."""
MOST_ROWS = 100
DISAGREES = "disagrees with "
"""How the reason begins where a kernel computes something else than its family: a defect, not a matter of choice."""


def disagreement(product: Any, reference: Any, cell: Cell) -> str:
    """How a kernel differs from another of its family: in values, and in first and second derivatives.

    Derivatives are taken with respect to what stands for positions: the vectors of an edge product, since off the unit
    sphere kernels need not agree; else the features.

    Args:
        product: With the kernel to check, on the cell's device and in its precision.
        reference: With another kernel, float64, on the CPU.
        cell: The cell; at most `MOST_ROWS` rows are compared.

    Returns:
        What is wrong, beginning with `DISAGREES`; empty if nothing is.
    """
    with_whom = f"{DISAGREES}'{reference.kernel_name}': "
    weights = {name: value.cpu().double() for name, value in product.state_dict().items()}
    if weights.keys() != reference.state_dict().keys():
        return f"{with_whom}its weights have other names"
    reference.load_state_dict(weights)
    few = replace(cell, batch=min(cell.batch, MOST_ROWS))
    problems = []
    for what, value, expected in zip(
        ("values", "gradients", "second derivatives"),
        probe(product, few),
        probe(reference, replace(few, dtype="float64", device="cpu")),
        strict=True,
    ):
        scale = float(expected.abs().max()) or 1.0
        difference = float((value.cpu().double() - expected).abs().max()) / scale
        if not difference < TOLERANCES[cell.dtype]:
            problems.append(f"{what} differ by {difference:.1e} of the largest")
    return with_whom + ", ".join(problems) if problems else ""


def probe(product: Any, cell: Cell) -> tuple[Tensor, Tensor, Tensor]:
    """Result z, gradient g of sum of z^2 / 2, and gradient of sum of g^2 / 2.

    Args:
        product: The product.
        cell: Whose inputs are taken.
    """
    inputs = make_inputs(product, cell)
    values = with_vectors(inputs, cell)
    through = values[inputs.through]
    result = call(product, values)
    (first,) = torch.autograd.grad(0.5 * result.square().sum(), through, create_graph=True)
    (second,) = torch.autograd.grad(0.5 * first.square().sum(), through)
    return result.detach(), first.detach(), second
