"""What other libraries say that a user of ours cannot act on. Filtered inside the command only, never on import."""

import logging
import os
import sys
import warnings
from typing import TextIO

# Regular expressions that match the beginning of a message.
_WARNINGS = (
    r".*does not have many workers.*",
    r".*litlogger.*",
    r".*treespec.*",
    r".*torch\.jit.*",
    r".*number of training batches .* is smaller than the logging interval.*",
    r".*Checkpoint directory .* exists and is not empty.*",
    # What is logged has been summed over all processes before.
    r".*It is recommended to use `self\.log.*sync_dist=True.*",
    r".*resuming from a checkpoint that ended before the epoch ended.*",
)
_CHATTER = (
    "Restor",
    "GPU available",
    "TPU available",
    "HPU available",
    "litlogger",
    "Tip:",
    "`Trainer.fit` stopped",
    "Seed set",
)


class _Chatter(logging.Filter):
    """Drops Lightning's remarks on hardware and its advertisements."""

    def filter(self, record: logging.LogRecord) -> bool:
        return not any(text in record.getMessage() for text in _CHATTER)


def quiet() -> None:
    """Silence known chatter for this process and show our own log lines."""
    for message in _WARNINGS:
        warnings.filterwarnings("ignore", message=message)
    chatter = _Chatter()
    for name in ("lightning", "lightning.pytorch", "lightning.fabric", "pytorch_lightning"):
        log = logging.getLogger(name)
        log.addFilter(chatter)
        for nested in (f"{name}.utilities.rank_zero", f"{name}.accelerators.cuda"):
            logging.getLogger(nested).addFilter(chatter)
    _show_own_log()


class _Terminal(logging.StreamHandler):
    """Writes to whatever standard output is at the time."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> TextIO:
        """Standard output."""
        return sys.stdout


def _show_own_log() -> None:
    log = logging.getLogger("mace_gaunt")
    if not log.handlers:
        handler = _Terminal()
        handler.setFormatter(logging.Formatter("%(message)s"))
        log.addHandler(handler)
        log.propagate = False
    # Of several processes of one training only the first tells what all of them do.
    log.setLevel(logging.INFO if os.environ.get("LOCAL_RANK", "0") == "0" else logging.ERROR)
