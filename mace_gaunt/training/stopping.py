"""Ending a training before its time so that it can be continued as if it had never ended."""

import signal
import time
from collections.abc import Callable

import lightning
from lightning.pytorch import callbacks

from mace_gaunt.errors import UserError
from mace_gaunt.signals import ENDING, StopSignals
from mace_gaunt.training.callbacks import LastCheckpoint

SIGNALS = (*ENDING, *([signal.SIGUSR1] if hasattr(signal, "SIGUSR1") else []))
LIMITS = ("stop_after_epochs", "stop_after_steps", "time_limit")
"""Keys of the configuration that end a start."""


class TrainingStopped(BaseException):
    """A training was ended by `StopTraining`; what it needs to go on is in its last checkpoint.

    Like KeyboardInterrupt no error: what answers errors, of the compiler for instance, must let it pass.

    Attributes:
        signals: With the signal that ended it, if one did.
    """

    def __init__(self, reason: str, signals: StopSignals) -> None:
        super().__init__(reason)
        self.signals = signals


class StopTraining(callbacks.Callback):
    """Ends a training after a number of epochs or steps, a time, or a signal (SIGTERM, SIGINT, SIGUSR1, SIGHUP).

    Whatever ends it, the step that runs is finished, the state after it is written to `checkpoints/last.ckpt`, in the
    middle of an epoch too, and `TrainingStopped` is raised. A signal before the first step of this start ends it at
    once: there is nothing to save. A second signal ends the process as it would any other. Numbers and time are those
    of this start. Of several processes all end together as soon as one is to.

    Args:
        epochs: Epochs, or None.
        steps: Optimizer steps, or None.
        seconds: Time from the making of this callback (s), or None.
        clock: Gives the time (s).

    Raises:
        UserError: If a number is below 1, or the time is not positive.
    """

    def __init__(
        self,
        epochs: int | None = None,
        steps: int | None = None,
        seconds: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        for name, number in (("stop_after_epochs", epochs), ("stop_after_steps", steps)):
            if number is not None and (type(number) is not int or number < 1):
                raise UserError(f"{name} is a number, at least 1, not {number}")
        if seconds is not None and not seconds > 0:
            raise UserError(f"a time limit is a positive number of seconds, found {seconds}")
        self.epochs, self.steps, self.seconds = epochs, steps, seconds
        self.signals = StopSignals(SIGNALS, self._noted)
        self._clock, self._made = clock, clock()
        self._first_epoch = self._first_step = 0
        self._has_stepped = False

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Take signals from here on, from Lightning too, and count.

        Raises:
            UserError: If nothing writes the checkpoint that the training would go on from.
        """
        if not any(isinstance(one, LastCheckpoint) for one in trainer.checkpoint_callbacks):
            if (self.epochs, self.steps, self.seconds) != (None, None, None):
                raise UserError(
                    "a training that is to stop and go on needs its last checkpoint: leave callbacks.last in"
                )
            # Without one, signals end the training as they end any process.
            return
        self._first_epoch, self._first_step = trainer.current_epoch, trainer.global_step
        self.signals.__enter__()

    def teardown(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, stage: str) -> None:
        """Leave signals alone."""
        self.signals.__exit__(None, None, None)

    def on_exception(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, exception: BaseException
    ) -> None:
        """Leave signals alone; `teardown` is not called then."""
        self.signals.__exit__(None, None, None)

    def on_train_epoch_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """End between two epochs: the checkpoint of the last one is there."""
        self._end_if(trainer, save=False)

    def after_step(self, trainer: lightning.Trainer) -> None:
        """End after an optimizer step; the module calls this when all that follows a step has been done."""
        self._has_stepped = True
        # The last step of an epoch is followed by a validation and the checkpoint of the epoch.
        if not trainer.fit_loop.epoch_loop.batch_progress.is_last_batch:
            self._end_if(trainer, save=True)

    def reason(self, trainer: lightning.Trainer) -> str | None:
        """Why this process is to end now, or None."""
        if self.signals.received is not None:
            return f"stopped by {self.signals.name}"
        if self.epochs is not None and trainer.current_epoch - self._first_epoch >= self.epochs:
            return f"stopped after {self.epochs} epochs of this start"
        if self.steps is not None and trainer.global_step - self._first_step >= self.steps:
            return f"stopped after {self.steps} steps of this start"
        if self.seconds is not None and self._clock() - self._made >= self.seconds:
            return f"stopped after {self.seconds:.0f} s"
        return None

    def _end_if(self, trainer: lightning.Trainer, save: bool) -> None:
        reason = self.reason(trainer)
        if not trainer.strategy.reduce_boolean_decision(reason is not None, all=False):
            return
        if save:
            last = next(one for one in trainer.checkpoint_callbacks if isinstance(one, LastCheckpoint))
            trainer.save_checkpoint(last.path, weights_only=False)
        raise TrainingStopped(reason or "stopped with another process", self.signals)

    def _noted(self) -> None:
        if not self._has_stepped:
            raise TrainingStopped(f"stopped by {self.signals.name} before its first step", self.signals)
        print(f"{self.signals.name}: ends after this step; once more ends it at once", flush=True)
