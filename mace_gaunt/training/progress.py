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


def duration(seconds: float) -> str:
    """Hours, minutes and seconds as 1:02:03, or 2:03 below an hour."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def errors_line(values: Mapping[str, Any]) -> str:
    """Validation errors in physical units, as "E 12.3 meV (0.46 meV/atom), F 45.6 meV/Å"."""

    def number(name: str) -> str:
        if f"valid/{name}" not in values:
            return "-"
        value = float(values[f"valid/{name}"])
        return f"{value:.0f}" if value >= 1000 else f"{value:.3g}"

    text = f"RMSE E {number('energy_rmse_meV')} meV ({number('energy_rmse_meV_per_atom')} meV/atom)"
    text += f"  F {number('forces_rmse_meV_A')} meV/Å"
    return text + f"  S {number('stress_rmse_meV_A3')} meV/Å³" if "valid/stress_rmse_meV_A3" in values else text


class ProgressReport(ProgressBar):
    """Loss, validation errors in meV and meV/Å, and the time left.

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

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Start the clock, and the bar when there is a terminal."""
        self._start, self._first = time.monotonic(), float(trainer.global_step)
        console = Console(stderr=True)
        if self._enabled and console.is_terminal:
            columns = (TextColumn("epoch {task.description}"), BarColumn(20), MofNCompleteColumn())
            self._bar = Progress(*columns, TextColumn("{task.fields[status]}"), console=console, auto_refresh=False)
            self._task = self._bar.add_task("", total=None, status="")
            self._bar.start()

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, *args: Any, **kwargs: Any
    ) -> None:
        """Refresh the bar, seldom."""
        now = time.monotonic()
        if self._bar is None or now - self._last_refresh < self.refresh_s:
            return
        self._last_refresh = now
        status = f"loss {pl_module.mean_train_loss:.4g}  {self._errors}  {self.time_left(trainer, pl_module)}"
        self._bar.update(
            self._task,
            description=f"{trainer.current_epoch + 1}/{pl_module.total_epochs}",
            completed=trainer.fit_loop.epoch_loop.batch_progress.current.ready,
            total=trainer.num_training_batches,
            status=status,
            refresh=True,
        )

    def time_left(self, trainer: lightning.Trainer, pl_module: Any) -> str:
        """Elapsed and remaining time, the latter from the mean time of a step of this process so far."""
        elapsed = time.monotonic() - self._start
        done = trainer.global_step - self._first
        left = elapsed / done * max(0, pl_module.total_steps - trainer.global_step) if done else 0.0
        return f"{duration(elapsed)} elapsed, {duration(left)} left"

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Report a validation."""
        if trainer.sanity_checking or trainer.state.fn != TrainerFn.FITTING:
            return
        values = trainer.callback_metrics
        self._errors = errors_line(values)
        if self._enabled and self._bar is None:
            loss = f"loss {float(values['train/loss']):.4g} valid {float(values['valid/loss']):.4g}"
            epoch = f"epoch {trainer.current_epoch + 1}/{pl_module.total_epochs}"
            time_left = self.time_left(trainer, pl_module)
            print(f"{epoch}  {loss}  {self._errors}  lr {float(values['lr']):.3g}  {time_left}", flush=True)

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
