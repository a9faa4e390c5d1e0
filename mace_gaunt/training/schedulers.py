"""Learning-rate schedules, and what happens to them at the second stage and on resume.

Every factory takes the optimizer, the planned number of optimizer steps and the steps of an epoch, and returns a
`LambdaLR`, which is stepped after every optimizer step, or a `ReduceLROnPlateau`, which is stepped with the validation
loss after every validation.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, ReduceLROnPlateau

from mace_gaunt.errors import UserError
from mace_gaunt.training.groups import RATE

Schedule = LambdaLR | ReduceLROnPlateau

# What changes while training. The rest of a scheduler (factor, patience, the functions) comes from the configuration.
STATE = ("last_epoch", "_step_count", "base_lrs", "_last_lr", "best", "num_bad_epochs", "cooldown_counter")


class ScheduleFactory(Protocol):
    """What `PotentialModule` takes as `scheduler`."""

    def __call__(self, optimizer: Optimizer, *, total_steps: int, steps_per_epoch: int) -> Schedule: ...


def plateau(
    optimizer: Optimizer,
    *,
    total_steps: int,
    steps_per_epoch: int,
    factor: float = 0.8,
    patience: int = 50,
    min_lr: float = 0.0,
    threshold: float = 1e-4,
) -> ReduceLROnPlateau:
    """Multiply the rate by `factor` when the validation loss has not improved for more than `patience` validations.

    Args:
        optimizer: The optimizer whose rate is set.
        total_steps: Not used.
        steps_per_epoch: Not used.
        factor: Factor of one reduction.
        patience: Validations without improvement that are let pass.
        min_lr: The rate is not reduced below it.
        threshold: Relative improvement of the validation loss that counts.
    """
    return ReduceLROnPlateau(optimizer, factor=factor, patience=patience, min_lr=min_lr, threshold=threshold)


def cosine(
    optimizer: Optimizer,
    *,
    total_steps: int,
    steps_per_epoch: int,
    warmup_epochs: float = 1.0,
    final_ratio: float = 0.01,
) -> LambdaLR:
    """A linear rise, then half a cosine from the full rate down to `final_ratio` of it at the last step.

    Args:
        optimizer: The optimizer whose rate is set.
        total_steps: Optimizer steps of the whole training; 0 where it has no end.
        steps_per_epoch: Optimizer steps of one epoch.
        warmup_epochs: Length of the rise; a shorter training ends within it.
        final_ratio: Last rate over the highest one.

    Raises:
        UserError: If `warmup_epochs` is negative, or the training has no end.
    """
    warmup = _warmup_steps(warmup_epochs, steps_per_epoch)
    if total_steps < 1:
        raise UserError(
            "scheduler=cosine falls towards the last step, and a training without an end has none: give max_epochs, or "
            "scheduler=constant, exponential or plateau"
        )

    def shape(step: int) -> float:
        progress = min(1.0, (step - warmup) / max(1, total_steps - 1 - warmup))
        return final_ratio + (1 - final_ratio) * 0.5 * (1 + math.cos(math.pi * progress))

    return LambdaLR(optimizer, _after_warmup(shape, warmup))


def constant(optimizer: Optimizer, *, total_steps: int, steps_per_epoch: int, warmup_epochs: float = 0.0) -> LambdaLR:
    """The same rate throughout, after a linear rise of `warmup_epochs`."""
    warmup = _warmup_steps(warmup_epochs, steps_per_epoch)
    return LambdaLR(optimizer, _after_warmup(lambda step: 1.0, warmup))


def exponential(
    optimizer: Optimizer, *, total_steps: int, steps_per_epoch: int, gamma: float = 0.9993, warmup_epochs: float = 0.0
) -> LambdaLR:
    """The rate times `gamma` per epoch, step by step, after a linear rise of `warmup_epochs`."""
    warmup = _warmup_steps(warmup_epochs, steps_per_epoch)
    return LambdaLR(optimizer, _after_warmup(lambda step: gamma ** ((step - warmup) / steps_per_epoch), warmup))


def _warmup_steps(warmup_epochs: float, steps_per_epoch: int) -> int:
    if warmup_epochs < 0:
        raise UserError(f"warmup_epochs must not be negative, found {warmup_epochs}")
    return round(warmup_epochs * steps_per_epoch)


def _after_warmup(shape: Callable[[int], float], warmup: int) -> Callable[[int], float]:
    return lambda step: (step + 1) / (warmup + 1) if step < warmup else shape(step)


def schedule_state(schedule: Schedule) -> dict[str, Any]:
    """What a checkpoint keeps of a schedule: plain numbers and lists."""
    state = {name: value for name, value in vars(schedule).items() if name in STATE}
    return {"type": type(schedule).__name__, "state": state}


def restore_schedule(schedule: Schedule, saved: dict[str, Any]) -> None:
    """Continue a schedule from `schedule_state`; settings such as patience stay those of the configuration.

    Raises:
        UserError: If the checkpoint was written with the other type of schedule.
    """
    if saved["type"] != type(schedule).__name__:
        raise UserError(
            f"the checkpoint was written with a {saved['type']} schedule, this run has a {type(schedule).__name__}: "
            "resume with the same scheduler, or start a new run"
        )
    vars(schedule).update(saved["state"])


def scale_rates(optimizer: Optimizer, schedule: Schedule | None, before: Sequence[float], now: Sequence[float]) -> None:
    """Let an optimizer and its schedule go on as if the highest rates had been others.

    Args:
        optimizer: The optimizer.
        schedule: Its schedule, if it has one.
        before: The rate that each group was given then.
        now: The rate that it is given now.

    Raises:
        UserError: If a rate was zero.
    """
    for index, (group, old, new) in enumerate(zip(optimizer.param_groups, before, now, strict=True)):
        if new == old:
            continue
        if old == 0:
            raise UserError("optimizer.lr was 0: nothing was learned that could go on at another rate; begin a new run")
        group["lr"] *= new / old
        if isinstance(schedule, LambdaLR):
            schedule.base_lrs[index] *= new / old


def restart_schedule(optimizer: Optimizer, schedule: Schedule | None, lr: float | None) -> None:
    """Set the rate to `lr` and let the schedule go on from there.

    A plateau schedule forgets the best loss it saw, since the losses before and after are not comparable. The others
    are scaled, so that they keep their shape: a cosine falls from `lr` as it would have fallen from the old rate.

    Args:
        optimizer: The optimizer.
        schedule: Its schedule, if it has one.
        lr: The new rate, times what a group has as its factor; None keeps the rate.
    """
    for index, group in enumerate(optimizer.param_groups):
        if lr is None:
            continue
        rate = lr * group.get(RATE, 1.0)
        if isinstance(schedule, LambdaLR):
            schedule.base_lrs[index] *= rate / group["lr"] if group["lr"] > 0 else 1.0
        group["lr"] = rate
    if isinstance(schedule, ReduceLROnPlateau):
        schedule.best, schedule.num_bad_epochs, schedule.cooldown_counter = math.inf, 0, 0
