"""What one call of a candidate does: forward; with a backward pass; with forces and a backward pass through them."""

from collections.abc import Callable

import torch

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

    Energy E = sum of z^2 / 2; its gradients with respect to all inputs, with create_graph, since from the second layer
    on features, harmonics and weights all depend on positions; and the gradient of half their squares with respect to
    all inputs and parameters.
    """
    leaves = candidate.leaves

    def call() -> object:
        energy = 0.5 * candidate.call().square().sum()
        forces = torch.autograd.grad(energy, candidate.inputs.leaves, create_graph=True)
        loss = sum((0.5 * force.square().sum() for force in forces), torch.zeros_like(energy))
        return torch.autograd.grad(loss, leaves, allow_unused=True)

    return call
