"""Averaged weights, checkpoints, early stopping and the table of metrics."""

import csv
import math
import os
import time
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch import callbacks
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor

from mace_gaunt.errors import UserError
from mace_gaunt.files import write_csv

MONITOR = "valid/loss"
EMA_KEY = "training_weights"


class EMA(callbacks.Callback):
    """Exponential moving average of the parameters: what is validated, and what checkpoints hold as the model.

    After the n-th optimizer step (n from 1) average <- d average + (1 - d) parameter with
    d = min(decay, (1 + n) / (10 + n)), so that the first steps do not weigh on the average; as MACE (torch_ema).
    A checkpoint has the average in `state_dict` and the weights in training beside it: `best.ckpt` is exactly what was
    validated, and a resumed run continues both.

    Args:
        decay: Weight of the old average.

    Raises:
        UserError: If `decay` is not between 0 and 1.
    """

    def __init__(self, decay: float = 0.99) -> None:
        if not 0 <= decay < 1:
            raise UserError(f"ema decay must be at least 0 and below 1, found {decay}")
        self.decay = decay
        self.num_updates = 0
        self._average: dict[str, Tensor] = {}

    def on_fit_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Start from the weights there are; a resumed run has loaded its average before."""
        for name, parameter in pl_module.named_parameters():
            start = self._average.get(name, parameter.detach())
            self._average[name] = start.clone().to(parameter.device)

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, *args: Any, **kwargs: Any
    ) -> None:
        """Update the average after an optimizer step (not after each accumulated batch)."""
        if trainer.global_step == self.num_updates:
            return
        self.num_updates = trainer.global_step
        decay = min(self.decay, (1 + self.num_updates) / (10 + self.num_updates))
        weights = [parameter.detach() for parameter in pl_module.parameters()]
        torch._foreach_lerp_(list(self._average.values()), weights, 1 - decay)

    def on_validation_epoch_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Put the average into the model."""
        self.swap(pl_module)

    def on_validation_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Put the weights in training back."""
        self.swap(pl_module)

    def swap(self, pl_module: lightning.LightningModule) -> None:
        """Exchange the average and the weights of the module, in place; outside of `fit` there is nothing to do."""
        with torch.no_grad():
            for name, average in self._average.items():
                parameter = pl_module.get_parameter(name)
                weight = parameter.clone()
                parameter.copy_(average)
                average.copy_(weight)

    def on_save_checkpoint(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Save the average as the model, and the weights in training beside it."""
        state = dict(checkpoint["state_dict"])
        checkpoint[EMA_KEY] = {name: state[name] for name in self._average}
        checkpoint["state_dict"] = state | {name: average.clone() for name, average in self._average.items()}
        checkpoint["ema_updates"] = self.num_updates

    def on_load_checkpoint(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Continue both sets of weights.

        Raises:
            UserError: If the checkpoint was written without an average.
        """
        if trainer.state.fn != TrainerFn.FITTING:
            return
        if EMA_KEY not in checkpoint:
            raise UserError("the checkpoint has no averaged weights: resume without the ema callback")
        weights = checkpoint[EMA_KEY]
        self._average = {name: checkpoint["state_dict"][name].clone() for name in weights}
        self.num_updates = checkpoint["ema_updates"]
        pl_module.load_state_dict(weights, strict=False)


class EarlyStopping(callbacks.EarlyStopping):
    """Stops when `valid/loss` has not improved for `patience` validations.

    Before a second stage it does not stop the training but starts that stage, as MACE does.

    Args:
        patience: Validations without improvement.
        min_delta: Smallest decrease that counts.
    """

    def __init__(self, patience: int = 50, min_delta: float = 0.0) -> None:
        super().__init__(MONITOR, min_delta=min_delta, patience=patience, check_on_train_epoch_end=False)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue the count; how long to wait is said by the configuration."""
        super().load_state_dict({**state_dict, "patience": self.patience})

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """End at once where an earlier start has come to its end: another epoch would be one too many."""
        if 0 < self.wait_count >= self.patience and not getattr(pl_module, "stage_two_waits", False):
            trainer.should_stop = True
            pl_module.print(
                f"there has been no improvement for {self.wait_count} validations: the training has come to its end "
                "before. patience=N with a larger number and resume=force goes on"
            )

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Count a validation without improvement."""
        stopped_before = trainer.should_stop
        super().on_validation_end(trainer, pl_module)
        if trainer.should_stop and not stopped_before and getattr(pl_module, "stage_two_waits", False):
            trainer.should_stop = False
            pl_module.call_stage_two()  # type: ignore[operator]
            self.forget_best()

    def forget_best(self) -> None:
        """Count anew: the loss has changed its meaning."""
        self.best_score = torch.tensor(math.inf)
        self.wait_count = 0


class _Checkpoint(callbacks.ModelCheckpoint):
    """`<folder>/<name>.ckpt`, overwritten in place.

    Args:
        name: File name without its ending.
        monitor: What has to improve; None writes every time.
        folder: Default: `checkpoints` in the trainer's `default_root_dir`.
        kwargs: Further arguments of Lightning's ModelCheckpoint.
    """

    def __init__(self, name: str, monitor: str | None, folder: str | Path | None, **kwargs: Any) -> None:
        super().__init__(dirpath=folder, filename=name, monitor=monitor, enable_version_counter=False, **kwargs)

    def setup(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, stage: str) -> None:
        """Find the folder; unlike Lightning's it does not depend on the logger."""
        self.dirpath = os.path.realpath(self.dirpath or Path(trainer.default_root_dir) / "checkpoints")
        save_top_k, self.save_top_k = self.save_top_k, 0  # silences the warning that the folder is not empty
        super().setup(trainer, pl_module, stage)
        self.save_top_k = save_top_k

    @property
    def path(self) -> Path:
        """The file this callback writes."""
        return Path(self.dirpath or ".") / f"{self.filename}{self.FILE_EXTENSION}"

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue also when the run's folder has been moved."""
        here = str(self.path)
        moved = {name: state_dict[name] and here for name in ("best_model_path", "kth_best_model_path")}
        scores = dict(zip([here], state_dict["best_k_models"].values(), strict=False))
        super().load_state_dict(state_dict | moved | {"dirpath": self.dirpath, "best_k_models": scores})


class BestCheckpoint(_Checkpoint):
    """`best.ckpt`: the validated weights with the lowest `valid/loss`; from a second stage on, of that stage.

    Args:
        folder: Default: `checkpoints` in the trainer's `default_root_dir`.
    """

    def __init__(self, folder: str | Path | None = None) -> None:
        super().__init__("best", MONITOR, folder)

    def forget_best(self) -> None:
        """Let the next validation be the best one: the loss has changed its meaning."""
        self.best_k_models = {}
        self.best_model_score = None
        self.kth_best_model_path = self.best_model_path = ""
        self.kth_value = torch.tensor(math.inf)


class LastCheckpoint(_Checkpoint):
    """`last.ckpt`: the state after the last epoch, from which a run resumes.

    Args:
        folder: Default: `checkpoints` in the trainer's `default_root_dir`.
    """

    def __init__(self, folder: str | Path | None = None) -> None:
        super().__init__("last", None, folder, save_on_train_epoch_end=True)


class MetricsCSV(callbacks.Callback):
    """A table with one row per validation: epochs and steps done, seconds, and every logged value.

    A resumed run keeps the rows of the epochs before it; those it repeats are replaced. The file is rewritten as a
    whole, so that a killed run never leaves half a row.

    Args:
        path: Default: `metrics.csv` in the trainer's `default_root_dir`.
    """

    def __init__(self, path: str | Path | None = None) -> None:
        self.path = path
        self.rows: list[dict[str, Any]] = []
        self._start = 0.0

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Read the rows of a run that is continued."""
        self.path = Path(self.path or Path(trainer.default_root_dir) / "metrics.csv")
        self.rows = read_rows(self.path, trainer.current_epoch) if trainer.ckpt_path else []
        self._start = time.monotonic() - (float(self.rows[-1]["seconds"]) if self.rows else 0.0)

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Add a row."""
        if trainer.sanity_checking or trainer.state.fn != TrainerFn.FITTING or not trainer.is_global_zero:
            return
        row = {"epoch": trainer.current_epoch + 1, "step": trainer.global_step}
        row["seconds"] = round(time.monotonic() - self._start, 2)  # type: ignore[assignment]
        self.rows.append(row | {name: float(value) for name, value in trainer.callback_metrics.items()})
        path = Path(self.path or "metrics.csv")
        path.parent.mkdir(parents=True, exist_ok=True)
        write_csv(path, self.rows, floats="")


def read_rows(path: Path, epochs: int) -> list[dict[str, Any]]:
    """The rows of the first epochs; none when there is no file."""
    if not path.is_file():
        return []
    with path.open(newline="") as file:
        return [row for row in csv.DictReader(file) if int(row["epoch"]) <= epochs]
