"""A logger that cannot end a training."""

import logging
from collections.abc import Callable
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

    def after_save_checkpoint(self, checkpoint_callback: Any) -> None:
        """Tell of a checkpoint."""
        self._try(lambda logger: logger.after_save_checkpoint(checkpoint_callback))
