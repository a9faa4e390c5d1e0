"""What all members are given alike: a time, or a number of epochs."""

import math
import re
from dataclasses import dataclass

from mace_gaunt.errors import UserError

UNITS = {"s": 1.0, "sec": 1.0, "min": 60.0, "h": 3600.0, "hours": 3600.0}
MOST_EPOCHS = 1_000_000
"""Upper bound where time is what counts."""


@dataclass(frozen=True)
class Budget:
    """A limit of the training of every member; of both None the recipe's own number of epochs.

    Attributes:
        seconds: Time (s); see `training.budget.TimeBudget`.
        epochs: Epochs.
    """

    seconds: float | None = None
    epochs: int | None = None

    @property
    def title(self) -> str:
        """For tables and plots."""
        if self.seconds is not None:
            return f"equal time: {tell_seconds(self.seconds)} of training for each member"
        return "equal epochs" + (
            f": {self.epochs} for each member" if self.epochs is not None else ", those of the recipe"
        )

    @property
    def conditions(self) -> str:
        """What is counted."""
        counted = (
            "Training time counts compilation, steps, validations and checkpoints; not reading data, choosing kernels"
        )
        return f"{counted} and the final report."


def read_budget(budget: object, epochs: object) -> Budget:
    """The limit that two keys describe.

    Args:
        budget: A time such as "30min", "600s" or "2h", or None.
        epochs: A number of epochs, or None.

    Raises:
        UserError: If both are given, or one cannot be read.
    """
    if budget is not None and epochs is not None:
        raise UserError("budget (equal time) and epochs (equal epochs) exclude each other: give one of them.")
    if epochs is not None and (isinstance(epochs, bool) or not isinstance(epochs, int) or epochs < 1):
        raise UserError(f"epochs is a number of epochs, not {epochs}.")
    return Budget(None if budget is None else read_seconds(budget), epochs)


def read_seconds(text: object, key: str = "budget") -> float:
    """A time such as "30min" in seconds.

    Args:
        text: The time.
        key: The key that has it, for messages.

    Raises:
        UserError: If it is none, or not positive.
    """
    match = re.fullmatch(r"([\d.]+)\s*([a-z]+)", str(text))
    if match is None or match[2] not in UNITS:
        raise UserError(f"{key}={text} is not a time: write it as 30min, 600s or 2h.")
    try:
        seconds = float(match[1]) * UNITS[match[2]]
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < math.inf:
        raise UserError(f"{key}={text} is not a positive time.")
    return seconds


def tell_seconds(seconds: float) -> str:
    """A time in words, as "10 min"."""
    for unit, size in (("h", 3600.0), ("min", 60.0)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.3g} s"
