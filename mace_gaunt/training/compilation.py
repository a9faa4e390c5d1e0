"""Whether a training is compiled, and the proof on its first batch that compiling changed nothing."""

import logging
import os
import shutil
from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor

from mace_gaunt.errors import UserError, nearest
from mace_gaunt.model.compiled import CompiledGradient
from mace_gaunt.model.gradients import EdgeGradient, predict, reference_energy
from mace_gaunt.training.loss import WeightedLoss

CompileChoice = Literal["off", "on", "auto"]
CHOICES = ("off", "on", "auto")

# Compiling takes one to two minutes and saves 20 to 50 ms a step on one CPU core: about 3000 steps earn it back.
MIN_STEPS = 3000

# Largest relative difference between compiled and eager; a wrong second derivative is off by 5 % or more.
TOLERANCES = {torch.float32: 1e-3, torch.float64: 1e-8}

log = logging.getLogger(__name__)


def check_choice(choice: Any) -> CompileChoice:
    """The choice as one of "off", "on", "auto"; YAML reads a bare on or off as a boolean.

    Raises:
        UserError: If it is something else.
    """
    if choice in ("on", "off", "auto"):
        return choice
    if isinstance(choice, bool):
        return "on" if choice else "off"
    raise UserError(f"compile='{choice}' does not exist.{nearest(str(choice), CHOICES)}")


def reason_not_to_compile(steps_left: int) -> str | None:
    """Why `auto` trains eagerly, or None when it compiles."""
    if steps_left < MIN_STEPS:
        return f"{steps_left} steps are planned, from {MIN_STEPS} on compiling is worth its time"
    return "no C++ compiler was found" if missing_compiler() else None


def missing_compiler() -> bool:
    """Whether there is no C++ compiler, without which nothing can be compiled on a CPU."""
    return shutil.which(os.environ.get("CXX", "g++")) is None and shutil.which("clang++") is None


def choose_gradient(
    choice: CompileChoice, model: Any, loss: WeightedLoss, batch: Any, steps_left: int
) -> EdgeGradient | None:
    """The compiled gradient after it has been compared with the eager one on a batch, or None for eager.

    Args:
        choice: "off", "on" or "auto".
        model: The potential.
        loss: The loss, whose parameter gradients are compared.
        batch: The first batch of the training.
        steps_left: Optimizer steps still to do.

    Returns:
        What `predict` takes as `gradient`.

    Raises:
        UserError: If compiling was asked for and fails, or compiled and eager disagree.
    """
    if choice == "off":
        return None
    reason = reason_not_to_compile(steps_left) if choice == "auto" else None
    if reason is not None:
        log.info("compile=auto: eager, since %s", reason)
        return None
    log.info("compile=%s: compiling the model, one to two minutes", choice)
    try:
        gradient = CompiledGradient(model)
        errors = compare(model, loss, batch, gradient)
    except Exception as error:  # CompileError, and what the compiler raises when it comes to the backward graph
        if choice == "on":
            raise UserError(f"compile=on, but compiling failed: {error}") from error
        log.warning("compile=auto: eager, since compiling failed: %s", error)
        return None
    check(errors, model.dtype)
    log.info("compiled and eager agree to %.0e on the first batch", max(errors.values()))
    return gradient


def compare(model: Any, loss: WeightedLoss, batch: Any, gradient: EdgeGradient) -> dict[str, float]:
    """Relative differences of compiled and eager: energy, forces, and the gradient of each parameter."""
    eager, compiled = _results(model, loss, batch, None), _results(model, loss, batch, gradient)
    # A parameter whose gradient cancels is compared with a thousandth of the largest gradient instead of its own.
    floor = 1e-3 * max(float(value.abs().max()) for name, value in eager.items() if name not in ("energy", "forces"))
    return {
        name: _difference(compiled[name], value, 0.0 if name in ("energy", "forces") else floor)
        for name, value in eager.items()
    }


def _results(model: Any, loss: WeightedLoss, batch: Any, gradient: EdgeGradient | None) -> dict[str, Tensor]:
    prediction = predict(model, batch, stress=loss.needs_stress, training=True, gradient=gradient)
    value, _ = loss(prediction, batch, batch.energy - reference_energy(model, batch))
    parameters = dict(model.named_parameters())
    gradients = torch.autograd.grad(value, list(parameters.values()), allow_unused=True)
    results = {"energy": prediction["interaction_energy"].detach(), "forces": prediction["forces"].detach()}
    for (name, parameter), found in zip(parameters.items(), gradients, strict=True):
        results[name] = torch.zeros_like(parameter) if found is None else found
    return results


def _difference(found: Tensor, expected: Tensor, floor: float) -> float:
    scale = max(float(expected.abs().max()), floor, torch.finfo(expected.dtype).tiny)
    return float((found - expected).abs().max()) / scale


def check(errors: Mapping[str, float], dtype: torch.dtype) -> None:
    """Stop when compiled and eager disagree.

    Raises:
        UserError: With the figures of the worst quantities.
    """
    tolerance = TOLERANCES[dtype]
    worst = sorted(errors.items(), key=lambda item: -item[1])
    if not worst[0][1] <= tolerance:
        figures = ", ".join(f"{name} {error:.1e}" for name, error in worst[:5])
        raise UserError(
            f"the compiled model differs from the eager one on the first batch (relative: {figures}; allowed "
            f"{tolerance:.0e}). Train with compile=off and report this"
        )
