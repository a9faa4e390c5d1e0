"""SOAP: Adam in the eigenbasis of Shampoo's preconditioner, for all parameters of a shape at once."""

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer


class SOAP(Optimizer):
    """Adam on gradients that are turned, dimension by dimension, into the eigenvectors of their covariances.

    A parameter of shape [d1, d2, ...] has a covariance [di, di] of its gradients for each of its dimensions; vectors
    have none, and are updated as by Adam. The eigenvectors follow by one step of power iteration and a QR decomposition
    every few steps. The first step only measures: parameters move from the second on. A parameter without a gradient
    counts as one whose gradient is zero; without any gradient there is no step.

    A potential has dozens of small matrices of a few shapes. Those of a shape are updated together here, in a handful
    of batched operations; one after the other, as in `pytorch_optimizer.SOAP` whose steps these are, they cost twice
    as much (docs/results.md).

    Source: Vyas et al., arXiv:2409.11321, algorithm 3.

    Args:
        params: Parameters or groups of them.
        lr: Learning rate.
        betas: How much of the old means of gradients, and of their squares and covariances, a step keeps.
        eps: Added to the root of the mean square.
        weight_decay: Times the rate, the part of a parameter that a step takes away (decoupled, as in AdamW).
        precondition_frequency: Steps between two updates of the eigenvectors.

    Raises:
        ValueError: If an argument is out of its range.
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float = 0.08,
        betas: tuple[float, float] = (0.95, 0.95),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        precondition_frequency: int = 10,
    ) -> None:
        if not (lr >= 0 and eps >= 0 and weight_decay >= 0 and precondition_frequency >= 1):
            raise ValueError("lr, eps and weight_decay must not be negative, precondition_frequency not below 1")
        if not all(0 <= beta < 1 for beta in betas):
            raise ValueError(f"betas are at least 0 and below 1, found {tuple(betas)}")
        defaults = {"lr": lr, "betas": tuple(betas), "eps": eps, "weight_decay": weight_decay, "step": 0}
        super().__init__(params, {**defaults, "precondition_frequency": precondition_frequency})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update the parameters.

        Args:
            closure: Computes the loss and its gradients anew.

        Returns:
            The loss of the closure, None without one.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            if any(parameter.grad is not None for parameter in group["params"]):
                group["step"] += 1
                for parameters in same_shapes(group["params"]):
                    self._update(group, parameters)
        return loss

    def _update(self, group: dict[str, Any], parameters: list[Tensor]) -> None:
        # The state of all parameters of a shape is that of the first.
        state, (beta1, beta2) = self.state[parameters[0]], group["betas"]
        gradient = stacked_gradient(parameters)
        if not state:
            state["mean"], state["square"] = torch.zeros_like(gradient), torch.zeros_like(gradient)
            state["covariances"] = [
                torch.zeros(len(gradient), size, size, dtype=gradient.dtype, device=gradient.device)
                for size in (gradient.shape[1:] if parameters[0].dim() > 1 else ())
            ]
            follow(state["covariances"], gradient, beta2)
            state["bases"] = [torch.linalg.eigh(one)[1].flip(-1) for one in state["covariances"]]
            return
        done = group["step"] - 1
        turned = turn(gradient, state["bases"])
        state["mean"].lerp_(turned, 1 - beta1)
        state["square"].lerp_(turned.square(), 1 - beta2)
        change = turn_back(state["mean"] / state["square"].sqrt().add_(group["eps"]), state["bases"])
        size = group["lr"] * math.sqrt(1 - beta2**done) / (1 - beta1**done)
        torch._foreach_add_(parameters, list(change.reshape(-1, *parameters[0].shape).unbind()), alpha=-size)
        if group["weight_decay"]:
            torch._foreach_mul_(parameters, 1 - group["lr"] * group["weight_decay"])
        follow(state["covariances"], gradient, beta2)
        if done % group["precondition_frequency"] == 0:
            refresh(state)


def refresh(state: dict[str, Any]) -> None:
    """Let the bases follow the covariances, and the mean and the mean square the bases."""
    mean = turn_back(state["mean"], state["bases"])
    for index, covariance in enumerate(state["covariances"]):
        state["bases"][index], order = next_basis(covariance, state["bases"][index])
        state["square"] = sorted_along(state["square"], order, index + 1)
    state["mean"] = turn(mean, state["bases"])


def same_shapes(parameters: Iterable[Tensor]) -> list[list[Tensor]]:
    """The parameters that are trained, by shape, type and device, in their order."""
    found: dict[Any, list[Tensor]] = {}
    for parameter in parameters:
        if parameter.requires_grad:
            found.setdefault((parameter.shape, parameter.dtype, parameter.device), []).append(parameter)
    return list(found.values())


def stacked_gradient(parameters: list[Tensor]) -> Tensor:
    """Gradients of parameters of one shape, shape [n_parameters, d1, d2, ...] without dimensions of size 1."""
    gradients = [torch.zeros_like(one) if one.grad is None else one.grad for one in parameters]
    return torch.stack(gradients).reshape(len(gradients), *(size for size in parameters[0].shape if size > 1))


def turn(values: Tensor, bases: list[Tensor]) -> Tensor:
    """Values in other bases of their dimensions.

    Args:
        values: Shape [n, d1, d2, ...].
        bases: For each dimension, columns are basis vectors, shape [n, di, di]; none leaves everything as it is.
    """
    shape = values.shape
    for basis in bases:
        # The first dimension is turned and becomes the last, so that after all of them the order is the old one.
        values = values.reshape(shape[0], basis.shape[1], -1).mT @ basis
    return values.reshape(shape)


def turn_back(values: Tensor, bases: list[Tensor]) -> Tensor:
    """The inverse of `turn`."""
    return turn(values, [basis.mT for basis in bases])


def follow(covariances: list[Tensor], gradient: Tensor, beta: float) -> None:
    """Move covariances towards those of a gradient of shape [n, d1, d2, ...], in place."""
    for index, covariance in enumerate(covariances):
        rows = gradient.movedim(index + 1, 1).reshape(*covariance.shape[:2], -1)
        covariance.lerp_(rows @ rows.mT, 1 - beta)


def next_basis(covariance: Tensor, basis: Tensor) -> tuple[Tensor, Tensor]:
    """One power iteration towards the eigenvectors, the largest eigenvalue first.

    Args:
        covariance: Shape [n, d, d].
        basis: Eigenvectors so far, shape [n, d, d].

    Returns:
        The next ones, and which of the old ones each follows, shape [n, d].
    """
    product = covariance @ basis
    order = (basis * product).sum(1).argsort(dim=-1, descending=True)
    return torch.linalg.qr(product.take_along_dim(order[:, None, :], dim=2))[0], order


def sorted_along(values: Tensor, order: Tensor, dim: int) -> Tensor:
    """Values of shape [n, d1, d2, ...] in an order of shape [n, d] along one dimension."""
    shape = [len(values), *(-1 if index == dim else 1 for index in range(1, values.dim()))]
    return values.take_along_dim(order.reshape(shape), dim=dim)
