"""What one call of a candidate does: forward; with a backward pass; with forces and a backward pass through them."""

from collections.abc import Callable

import torch
from torch import Tensor

from mace_gaunt.benchmark.candidates import Candidate
from mace_gaunt.benchmark.settings import DOUBLE_BACKWARD, FORWARD, FORWARD_BACKWARD


def prepare(candidate: Candidate, name: str) -> Callable[[], object]:
    """The call that is timed.

    Args:
        candidate: What computes.
        name: One of `PASSES`.
    """
    return {
        FORWARD: prepare_forward,
        FORWARD_BACKWARD: prepare_backward,
        DOUBLE_BACKWARD: prepare_double_backward,
    }[name](candidate)


def prepare_forward(candidate: Candidate) -> Callable[[], object]:
    """The result, without a graph."""

    def call() -> object:
        with torch.no_grad():
            return candidate.call()

    return call


def prepare_backward(candidate: Candidate) -> Callable[[], object]:
    """The result and the gradient of a linear function of it, with respect to all inputs and parameters."""
    leaves = candidate.leaves
    with torch.no_grad():
        probe = torch.ones_like(candidate.call())

    def call() -> object:
        return torch.autograd.grad(candidate.call(), leaves, probe, allow_unused=True)

    return call


def prepare_double_backward(candidate: Candidate) -> Callable[[], object]:
    """What a training on forces does.

    Energy E = sum of z^2 / 2, forces F = dE/dy (harmonics of an edge product, features of a node product) with
    create_graph, and the gradient of sum of F^2 / 2 with respect to all inputs and parameters.
    """
    leaves = candidate.leaves

    def call() -> object:
        forces = energy_gradient(candidate, create_graph=True)
        return torch.autograd.grad(0.5 * forces.square().sum(), leaves, allow_unused=True)

    return call


def energy_gradient(candidate: Candidate, *, create_graph: bool) -> Tensor:
    """Gradient of sum of z^2 / 2 with respect to the input that stands for positions."""
    through = candidate.inputs.leaves[candidate.inputs.through]
    (gradient,) = torch.autograd.grad(0.5 * candidate.call().square().sum(), through, create_graph=create_graph)
    return gradient
