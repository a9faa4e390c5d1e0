"""Progress: a bar on a terminal, one line per validation elsewhere."""

import sys
import time
from collections.abc import Mapping
from typing import Any

import lightning
from lightning.pytorch.callbacks import ProgressBar
from lightning.pytorch.trainer.states import TrainerFn
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from mace_gaunt.training.data_wait import DataWait, FetchWatch, Sums, device_mark, remark


def duration(seconds: float) -> str:
    """Hours, minutes and seconds as 1:02:03, or 2:03 below an hour."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def number(value: Any) -> str:
    """Three digits, without an exponent for large errors."""
    return f"{float(value):.0f}" if float(value) >= 1000 else f"{float(value):.3g}"


def epoch_of(trainer: lightning.Trainer, pl_module: Any) -> str:
    """The epoch and how many there will be, as "3/20"; of a training without an end the epoch alone."""
    total = pl_module.total_epochs
    return f"{trainer.current_epoch + 1}/{total}" if total else str(trainer.current_epoch + 1)


def errors_line(values: Mapping[str, Any], short: bool = False) -> str:
    """Validation errors as "RMSE E 12.3 meV (0.46 meV/atom)  F 45.6 meV/Å"; short, "E 12.3 meV F 45.6 meV/Å".

    Args:
        values: Logged values; what is not among them is left out.
        short: Whether to fit a bar of 80 columns.
    """
    known = {name: number(value) for name, value in values.items()}
    energy, forces = known.get("valid/energy_rmse_meV"), known.get("valid/forces_rmse_meV_A")
    parts = [] if energy is None else [f"E {energy} meV"]
    if parts and not short:
        parts[0] += f" ({known['valid/energy_rmse_meV_per_atom']} meV/atom)"
    if forces is not None:
        parts.append(f"F {forces} meV/Å")
    if "valid/stress_rmse_meV_A3" in known:
        parts.append(f"S {known['valid/stress_rmse_meV_A3']} meV/Å³")
    return " ".join(parts) if short else "  ".join(["RMSE " + parts[0], *parts[1:]] if parts else [])


class ProgressReport(ProgressBar):
    """Loss, validation errors in meV and meV/Å, the share of the time spent waiting for batches, and the time left.

    The share is of the training steps since the last validation, as `DataWait` counts them; it is also logged, as
    `data_wait` (between 0 and 1). When it is too large there is a remark, once, that says what to change.

    Args:
        refresh_s: Seconds between two updates of the bar; the loss is read from the device only then.
    """

    def __init__(self, refresh_s: float = 0.5) -> None:
        super().__init__()
        self.refresh_s = refresh_s
        self._enabled = True
        self._bar: Progress | None = None
        self._errors = ""
        self._start = self._first = self._last_refresh = 0.0
        self.data_wait = DataWait()
        self._before = Sums()
        self._has_remarked = False

    @property
    def is_enabled(self) -> bool:
        """Whether this process reports."""
        return self._enabled

    def disable(self) -> None:
        """Say nothing (Lightning calls this on all processes but the first)."""
        self._enabled = False

    def enable(self) -> None:
        """Speak again."""
        self._enabled = True

    def print(self, *args: Any, **kwargs: Any) -> None:
        """Print above the bar."""
        if self._bar is not None:
            self._bar.console.print(*args, highlight=False, markup=False)
        elif self._enabled:
            print(*args, flush=True)

    def setup(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, stage: str) -> None:
        """Watch the training batches come."""
        super().setup(trainer, pl_module, stage)
        if stage == TrainerFn.FITTING:
            self.data_wait, self._before = DataWait(device_mark(trainer.strategy.root_device)), Sums()
            trainer.profiler = FetchWatch(trainer.profiler, self.data_wait)  # type: ignore[attr-defined]

    def teardown(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, stage: str) -> None:
        """Give the trainer its profiler back."""
        watch = trainer.profiler  # type: ignore[attr-defined]
        if isinstance(watch, FetchWatch):
            trainer.profiler = watch.profiler  # type: ignore[attr-defined]

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Start the clock, and the bar when there is a terminal."""
        self._start, self._first = time.monotonic(), float(trainer.global_step)
        console = Console(stderr=True)
        if self._enabled and console.is_terminal:
            columns = (TextColumn("{task.description}"), BarColumn(8), MofNCompleteColumn())
            self._bar = Progress(*columns, TextColumn("{task.fields[status]}"), console=console, auto_refresh=False)
            self._task = self._bar.add_task("", total=None, status="")
            self._bar.start()

    def on_train_epoch_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """The first batch is waited for: loader processes may have to start."""
        self.data_wait.ask()

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Until the next epoch nothing is waited for."""
        self.data_wait.end_step()

    def on_validation_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """The validation belongs to no step."""
        self.data_wait.end_step()

    def on_validation_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Log the share."""
        share = (self.data_wait.sums - self._before).share
        if share is not None and trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking:
            pl_module.log("data_wait", share, rank_zero_only=True)

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, *args: Any, **kwargs: Any
    ) -> None:
        """Refresh the bar, seldom."""
        if self._bar is not None and time.monotonic() - self._last_refresh >= self.refresh_s:
            # Only the first process has a bar: what needs all of them would wait for ever.
            self._refresh(trainer, pl_module, pl_module.own_train_loss)  # type: ignore[arg-type]

    def _refresh(self, trainer: lightning.Trainer, pl_module: Any, loss: float) -> None:
        if self._bar is None:
            return
        self._last_refresh = time.monotonic()
        self._bar.update(
            self._task,
            description=epoch_of(trainer, pl_module),
            completed=trainer.fit_loop.epoch_loop.batch_progress.current.ready,
            total=trainer.num_training_batches,
            status=f"loss {loss:.3g} {self._errors} data {self._wait()} {self.times(trainer, pl_module)[1]}",
            refresh=True,
        )

    def _wait(self) -> str:
        """Share of the time since the last validation as "2%"; "-" before there is one."""
        share = (self.data_wait.sums - self._before).share
        return "-" if share is None else f"{share:.0%}"

    def times(self, trainer: lightning.Trainer, pl_module: Any) -> tuple[str, str]:
        """Elapsed and remaining time in words, the latter from the mean time of a step of this process so far."""
        elapsed = time.monotonic() - self._start
        done = trainer.global_step - self._first
        if not pl_module.total_steps:
            return duration(elapsed), "no end"
        left = elapsed / done * max(0, pl_module.total_steps - trainer.global_step) if done else 0.0
        return duration(elapsed), f"{duration(left)} left"

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Report a validation."""
        if trainer.sanity_checking or trainer.state.fn != TrainerFn.FITTING:
            return
        values = trainer.callback_metrics
        self._errors = errors_line(values, short=True)
        self._refresh(trainer, pl_module, float(values["train/loss"]))
        if self._enabled and self._bar is None:
            elapsed, left = self.times(trainer, pl_module)
            print(
                f"epoch {epoch_of(trainer, pl_module)}",
                f"loss {float(values['train/loss']):.4g} valid {float(values['valid/loss']):.4g}",
                errors_line(values),
                f"lr {float(values['lr']):.3g}",
                f"data wait {self._wait()}",
                f"{elapsed} elapsed, {left}",
                sep="  ",
                flush=True,
            )
        self._before = self.data_wait.sums
        self._remark(trainer)

    def _remark(self, trainer: lightning.Trainer) -> None:
        """Say once what to change when batches come too slowly."""
        found = remark(self.data_wait.sums, getattr(trainer.train_dataloader, "num_workers", 0))
        if found is not None and not self._has_remarked:
            self._has_remarked = True
            self.print(found)

    def on_train_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Leave the bar as it is."""
        self._stop()

    def on_exception(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, exception: BaseException
    ) -> None:
        """Give the terminal back."""
        self._stop()

    def _stop(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
        sys.stderr.flush()
