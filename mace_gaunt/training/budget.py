"""A training that lasts as long as it is told: its number of epochs is planned from what epochs take."""

from time import monotonic
from typing import Any

import lightning
import torch
from lightning.pytorch import callbacks
from torch.optim import SGD, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from mace_gaunt.errors import UserError
from mace_gaunt.training.schedulers import Schedule, ScheduleFactory


class TimeBudget(callbacks.Callback):
    """Plans as many epochs as fit into a time, and lets schedules and the second stage follow the plan.

    Before every epoch the number of epochs is planned anew: those done, and those that fit into what is left at the
    mean time of an epoch so far, validations included. The learning rate is that of a training of so many epochs, at
    this step; a second stage begins at its fraction of them. The last epoch is validated, whatever the interval. So a
    training ends within about one epoch of its budget, and on a steady machine its schedule is exactly that of
    `max_epochs` set to the number that fits; `trainer.max_epochs` remains an upper bound.

    The clock runs from the beginning of the first epoch: compilation, steps, validations and checkpoints count; reading
    data, choosing kernels and the final report do not. The epoch in which a process compiles counts as time, and not as
    a measurement. A continued training has what the checkpoint says it used, and pays for compiling again.

    Args:
        seconds: The budget (s).

    Raises:
        UserError: If it is not positive.
    """

    def __init__(self, seconds: float) -> None:
        if not seconds > 0:
            raise UserError(f"a time budget is a positive number of seconds, found {seconds}")
        self.seconds = seconds
        self.used = 0.0
        self.plan: int | None = None
        self._started = 0.0
        self._measured_from: tuple[int, float] | None = None
        self._epochs_here = 0
        self._schedule: PlannedSchedule | None = None
        self._interval: int | None = None
        self._limit: int | None = None

    def elapsed(self) -> float:
        """Time used so far (s), that before a continuation included."""
        return self.used + monotonic() - self._started

    def on_fit_start(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Refuse a second stage at a fixed epoch, which the plan might never reach, and take hold of the schedule.

        Raises:
            UserError: If the second stage is not given as a fraction.
        """
        stage = pl_module.stage_two
        if stage is not None and stage.start >= 1:
            raise UserError(f"stage_two.start={stage.start} is an epoch; with a time budget give a fraction below 1")
        if pl_module.make_schedule is not None:
            self._schedule = PlannedSchedule(pl_module.make_schedule)
            pl_module.make_schedule = self._schedule

    def on_train_start(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Start the clock; a continued training goes on with its plan."""
        self._started, self._epochs_here, self._measured_from = monotonic(), 0, None
        self._interval, self._limit = trainer.check_val_every_n_epoch, trainer.fit_loop.max_epochs
        if self.plan is not None:
            self._follow(trainer, self.plan)

    def on_train_epoch_start(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Plan anew."""
        done = trainer.current_epoch
        if self._epochs_here == 1:
            self._measured_from = (done, self.elapsed())
        self._epochs_here += 1
        if self._measured_from is not None and done > self._measured_from[0]:
            first, since = self._measured_from
            per_epoch = (self.elapsed() - since) / (done - first)
            self._follow(trainer, done + max(1, int((self.seconds - self.elapsed()) / per_epoch)))

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """End when the time is used up."""
        if trainer.strategy.broadcast(self.elapsed() >= self.seconds):
            self._follow(trainer, trainer.current_epoch + 1)

    def _follow(self, trainer: lightning.Trainer, plan: int) -> None:
        """Make a number of epochs the trainer's; of several processes the first one decides."""
        plan = int(trainer.strategy.broadcast(plan))
        self.plan = plan if self._limit is None or self._limit < 0 else min(plan, self._limit)
        trainer.fit_loop.max_epochs = self.plan
        trainer.check_val_every_n_epoch = 1 if self.plan <= trainer.current_epoch + 1 else self._interval
        if self._schedule is not None:
            self._schedule.revise(self.plan)

    def state_dict(self) -> dict[str, Any]:
        """What a continuation has to know."""
        return {"used": self.elapsed(), "plan": self.plan}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue."""
        self.used, self.plan = float(state_dict["used"]), state_dict["plan"]


class PlannedSchedule:
    """A schedule factory whose schedule can be told another number of epochs while it is used.

    Args:
        factory: Of `mace_gaunt.training.schedulers`. A plateau schedule knows no number of epochs and stays as it is.
    """

    def __init__(self, factory: ScheduleFactory) -> None:
        self.factory = factory
        self.schedule: LambdaLR | None = None
        self.steps_per_epoch = 0

    def __call__(self, optimizer: Optimizer, *, total_steps: int, steps_per_epoch: int) -> Schedule:
        """Make the schedule."""
        schedule = self.factory(optimizer, total_steps=total_steps, steps_per_epoch=steps_per_epoch)
        self.schedule, self.steps_per_epoch = schedule if isinstance(schedule, LambdaLR) else None, steps_per_epoch
        return schedule

    def revise(self, epochs: int) -> None:
        """Let the schedule have the shape of a training of so many epochs from its next step on."""
        if self.schedule is not None:
            other = self.factory(
                SGD([torch.zeros(1)], lr=1.0),
                total_steps=epochs * self.steps_per_epoch,
                steps_per_epoch=self.steps_per_epoch,
            )
            assert isinstance(other, LambdaLR)
            self.schedule.lr_lambdas = other.lr_lambdas * len(self.schedule.lr_lambdas)
