"""A logger that cannot end a training."""

import csv
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger

from mace_gaunt.errors import UserError

log = logging.getLogger(__name__)


class SafeLogger(Logger):
    """Passes everything on to another logger until that one fails; then warns once and is silent.

    Args:
        factory: Makes the logger, as `functools.partial(WandbLogger, offline=True)`.

    Raises:
        UserError: If its package is missing or its arguments are wrong, which is better known before training.
    """

    def __init__(self, factory: Callable[[], Logger]) -> None:
        super().__init__()
        self._logger: Logger | None = None
        self._label = getattr(getattr(factory, "func", factory), "__name__", str(factory))
        try:
            self._logger = factory()
        except (ModuleNotFoundError, TypeError) as error:
            raise UserError(f"logger {self._label}: {error}") from error
        except Exception as error:
            self._drop(error)

    def _drop(self, error: Exception) -> None:
        log.warning("logger %s failed and is left out from here on: %s: %s", self._label, type(error).__name__, error)
        self._logger = None

    def _try(self, call: Callable[[Logger], Any]) -> Any:
        if self._logger is None:
            return None
        try:
            return call(self._logger)
        except Exception as error:
            self._drop(error)
            return None

    @property
    def name(self) -> str | None:
        """Name of the experiment."""
        return self._try(lambda logger: logger.name)

    @property
    def version(self) -> int | str | None:
        """Version of the experiment."""
        return self._try(lambda logger: logger.version)

    @property
    def save_dir(self) -> str | None:
        """Where the logger writes."""
        return self._try(lambda logger: logger.save_dir)

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Pass metrics on."""
        self._try(lambda logger: logger.log_metrics(metrics, step))

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Pass hyperparameters on."""
        self._try(lambda logger: logger.log_hyperparams(params, *args, **kwargs))

    def log_graph(self, model: Any, input_array: Any = None) -> None:
        """Leave the graph out: loggers trace it with a made-up input, which a potential has not."""

    def save(self) -> None:
        """Flush."""
        self._try(lambda logger: logger.save())

    def finalize(self, status: str) -> None:
        """Close."""
        self._try(lambda logger: logger.finalize(status))

    def log_report(self, folder: Path) -> None:
        """Send the report of the trained model, where the logger takes one.

        Args:
            folder: Of the report: metrics.csv, PNG files and report.html are sent, predictions stay.
        """
        self._try(lambda logger: send_report(logger, folder))

    def after_save_checkpoint(self, checkpoint_callback: Any) -> None:
        """Tell of a checkpoint."""
        self._try(lambda logger: logger.after_save_checkpoint(checkpoint_callback))


def send_report(logger: Logger, folder: Path) -> None:
    """Log a report to Weights & Biases: plots and table of the splits, and its files as an artefact of the run.

    Args:
        logger: Any logger; others than `WandbLogger` take no report.
        folder: Of the report.
    """
    from lightning.pytorch.loggers import WandbLogger

    if not isinstance(logger, WandbLogger):
        return
    import wandb

    with (folder / "metrics.csv").open(encoding="utf-8", newline="") as file:
        header, *rows = csv.reader(file)
    plots = {f"report/{path.stem}": wandb.Image(str(path)) for path in sorted(folder.glob("*.png"))}
    run = logger.experiment
    cells: list[Any] = [[_number(cell) for cell in row] for row in rows]
    run.log({"report/metrics": wandb.Table(columns=list(header), data=cells), **plots})
    artifact = wandb.Artifact(f"report-{run.id}", type="report")
    for path in sorted(folder.glob("*.*")):
        artifact.add_file(str(path))
    run.log_artifact(artifact)


def _number(cell: str) -> str | float | None:
    """Cell of a table: a number where it is one, None where it is empty."""
    try:
        return float(cell) if cell else None
    except ValueError:
        return cell
