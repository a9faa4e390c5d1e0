"""Whether a training is compiled, and the proof on its first batch that compiling changed nothing."""

import logging
import os
import shutil
import time
from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor

from mace_gaunt.errors import UserError, nearest
from mace_gaunt.model.compiled import SMALLEST_SCALE, CompiledGradient, CompileError, reason_of
from mace_gaunt.model.gradients import EdgeGradient, predict, reference_energy
from mace_gaunt.tensor_products.selection import timed
from mace_gaunt.training.loss import WeightedLoss
from mace_gaunt.training.memory import is_out_of_memory

CompileChoice = Literal["off", "on", "auto"]
CHOICES = ("off", "on", "auto")

# Compiling takes a minute, whatever the size of the model (54 to 77 s on two threads, 12 s where the code of an earlier
# start was kept), and takes 30 to 35 % off a step: 57 -> 37 ms at max_L 1 and 63 -> 44 ms at max_L 2 (Gaunt, 64
# channels, batches of five 3BPA molecules, two threads). What takes 200 s eagerly earns a minute back; where more is
# left than this (s), `auto` compiles.
LONG_TRAINING = 300.0
# Fewer steps than this would have to take more than a second each.
MIN_STEPS = 300

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


def reason_not_to_compile(steps_left: float) -> str | None:
    """Why `auto` trains eagerly whatever a step takes; None where that decides (`reason_of_time`)."""
    if steps_left < MIN_STEPS:
        return f"{steps_left} steps are planned, too few for compiling to be worth its time"
    return "no C++ compiler was found" if missing_compiler() else None


def reason_of_time(model: Any, loss: WeightedLoss, batch: Any, steps_left: float) -> str | None:
    """Why `auto` trains eagerly: what is left will be done soon. None where compiling earns its time back.

    An eager step is timed, after one to warm up. Of several processes each decides alone: their results agree to
    rounding, so that all a difference costs is time.
    """

    def step() -> list[Tensor]:
        return list(_results(model, loss, batch, None).values())

    step()
    seconds = steps_left * timed(step, batch.positions.device)
    if seconds < LONG_TRAINING:
        return f"the {steps_left} steps left take about {seconds:.0f} s, too short for compiling to be worth its time"
    return None


def missing_compiler() -> bool:
    """Whether the C++ compiler is missing that torch calls, without which nothing can be compiled on a CPU."""
    return shutil.which(os.environ.get("CXX", "g++")) is None


def check_compiler(choice: CompileChoice, device: str) -> None:
    """Refuse compile=on where nothing can be compiled.

    Args:
        choice: "off", "on" or "auto".
        device: Type of the device, such as "cpu".

    Raises:
        UserError: If the C++ compiler is missing, which a CPU needs.
    """
    if choice == "on" and device == "cpu" and missing_compiler():
        raise UserError(f"compile=on needs a C++ compiler: install {os.environ.get('CXX', 'g++')}, or set CXX.")


def choose_gradient(
    choice: CompileChoice, model: Any, loss: WeightedLoss, batch: Any, steps_left: float
) -> EdgeGradient | None:
    """The compiled gradient after it has been compared with the eager one on a batch, or None for eager.

    Args:
        choice: "off", "on" or "auto".
        model: The potential.
        loss: The loss, whose parameter gradients are compared.
        batch: The first batch of the training that the compiler serves (`is_compiled_for`).
        steps_left: Optimizer steps still to do; infinite where the training has no end.

    Returns:
        What `predict` takes as `gradient`.

    Raises:
        UserError: If compiling was asked for and fails, or compiled and eager disagree.
        RuntimeError, MemoryError: If the batch does not fit into memory (`is_out_of_memory`).
    """
    if choice == "off":
        return None
    if choice == "auto":
        reason = reason_not_to_compile(steps_left) or reason_of_time(model, loss, batch, steps_left)
        if reason is not None:
            log.info("compile=auto: eager, since %s", reason)
            return None
    else:
        check_compiler(choice, batch.positions.device.type)
    log.info(
        "compile=%s: compiling the model, about a minute; seconds where an earlier start has kept the code", choice
    )
    gradient, begin = CompiledGradient(model), time.perf_counter()
    try:
        errors = compare(model, loss, batch, gradient)
    except Exception as error:
        if is_out_of_memory(error):
            # Says nothing of the compiler: the module begins the batch anew in parts, the first of which comes here.
            raise
        # CompileError, or what the compiler raises when it comes to the backward graph.
        reason = str(error) if isinstance(error, CompileError) else reason_of(error)
        if choice == "on":
            raise UserError(
                "compile=on (which deterministic=true makes of auto), but compiling failed: "
                f"{reason}. compile=off trains without"
            ) from error
        log.warning("compile=auto: eager, since compiling failed: %s", reason)
        return None
    check(errors, model.dtype)
    seconds = time.perf_counter() - begin
    log.info("compiled in %.0f s; compiled and eager agree to %.0e on the first batch", seconds, max(errors.values()))
    return gradient


def compare(model: Any, loss: WeightedLoss, batch: Any, gradient: EdgeGradient) -> dict[str, float]:
    """Relative differences of compiled and eager: energy, forces, and the gradient of each parameter.

    Energies and forces are compared with their largest value, or with 0.01 (eV, Å) where all are smaller: an atom alone
    has no energy but rounding errors, a perfect crystal no forces.
    """
    eager, compiled = _results(model, loss, batch, None), _results(model, loss, batch, gradient)
    # A parameter whose gradient cancels is compared with a thousandth of the largest gradient instead of its own.
    floor = 1e-3 * max(float(value.abs().max()) for name, value in eager.items() if name not in ("energy", "forces"))
    return {
        name: _difference(compiled[name], value, SMALLEST_SCALE if name in ("energy", "forces") else floor)
        for name, value in eager.items()
    }


def _results(model: Any, loss: WeightedLoss, batch: Any, gradient: EdgeGradient | None) -> dict[str, Tensor]:
    prediction = predict(model, batch, stress=loss.needs_stress, training=True, gradient=gradient)
    value, _ = loss(prediction, batch, batch.energy - reference_energy(model, batch))
    parameters = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
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
