"""Which problems are timed: one cell is an operation with its degrees, batch and channels."""

from dataclasses import dataclass
from typing import Any

import torch

from mace_gaunt.benchmark.settings import Plan, ProductSettings

DTYPES = {"float32": torch.float32, "float64": torch.float64}

EDGES_PER_NODE = 16.6
"""Neighbours of an atom of 3BPA within 5 Å: 2,242 edges for five molecules of 27 atoms."""
NUM_ELEMENTS = 4
"""As in 3BPA."""


@dataclass(frozen=True)
class Cell:
    """One problem.

    Attributes:
        operation: "feature", "edge" or "node".
        regime: "siso", "simo" or "mimo" for feature products, else "".
        degree: L, the degree of the inputs.
        arguments: What products are built with: degrees_x, degrees_y, degrees_out; l_in, l_edge, l_out; or l_in,
            l_out, correlation.
        batch: Rows, edges or nodes.
        channels: Channels.
        pseudo: Whether couplings with an odd l1 + l2 + l3 are wanted from families that have the option.
        dtype: "float32" or "float64".
        device: "cpu" or "cuda".
        seed: Of the random inputs.
    """

    operation: str
    regime: str
    degree: int
    arguments: tuple[Any, ...]
    batch: int
    channels: int
    pseudo: bool
    dtype: str
    device: str
    seed: int

    def __str__(self) -> str:
        unit = {"feature": "rows", "edge": "edges", "node": "nodes"}[self.operation]
        regime = f" {self.regime}" if self.regime else ""
        return f"{self.operation}{regime} L={self.degree}, {self.batch} {unit} x {self.channels} channels"

    @property
    def series(self) -> tuple[str, str, int, int]:
        """What cells of different degrees have in common."""
        return self.operation, self.regime, self.batch, self.channels

    @property
    def n_nodes(self) -> int:
        """Nodes of an edge product's graph, or of a node product."""
        return max(2, round(self.batch / EDGES_PER_NODE)) if self.operation == "edge" else self.batch

    @property
    def tensor_options(self) -> dict[str, Any]:
        """dtype and device, for new tensors."""
        return {"dtype": DTYPES[self.dtype], "device": torch.device(self.device)}


def list_cells(plan: Plan, settings: ProductSettings) -> list[Cell]:
    """The cells of a plan.

    Args:
        plan: The plan.
        settings: What it belongs to.
    """
    regimes = plan.regimes if plan.operation == "feature" else ("",)
    return [
        Cell(
            plan.operation,
            regime,
            degree,
            arguments(plan.operation, regime, degree, settings),
            batch,
            channels,
            # The only coupling of l x l -> l is odd for odd l.
            settings.pseudo or (regime == "siso" and degree % 2 == 1),
            settings.dtype,
            settings.device,
            settings.seed,
        )
        for regime in regimes
        for batch in plan.batches
        for channels in plan.channels
        for degree in plan.degrees
    ]


def arguments(operation: str, regime: str, degree: int, settings: ProductSettings) -> tuple[Any, ...]:
    """Degrees and orders of a cell; see `Cell.arguments`.

    The results of simo have natural parity unless pseudo-tensors are asked for: degrees 0, 2, ..., 2L.
    """
    if operation == "node":
        return degree, min(degree, settings.max_L), settings.correlation
    if operation == "edge":
        l_edge = max(degree, settings.max_ell)
        return degree, l_edge, l_edge
    if regime == "siso":
        return (degree,), (degree,), (degree,)
    if regime == "simo":
        return (degree,), (degree,), tuple(range(0, 2 * degree + 1, 1 if settings.pseudo else 2))
    inputs = tuple(range(degree + 1))
    return inputs, inputs, tuple(range(2 * degree + 1)) if settings.mimo_out == "2L" else inputs
