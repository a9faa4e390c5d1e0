"""Split frames into training and validation frames."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from mace_gaunt.errors import UserError

log = logging.getLogger(__name__)

T = TypeVar("T")


@dataclass(frozen=True)
class Split:
    """How to split; the same seed and number of frames give the same split.

    Attributes:
        valid_fraction: Part of the frames that becomes the validation set, above 0 and below 1, at least one frame.
        valid_size: Number of validation frames instead.
        max_train_frames: Bound on the training frames; what is left out does not change the validation frames, and
            fewer are a subset of more.
        seed: Of the random order.
    """

    valid_fraction: float = 0.1
    valid_size: int | None = None
    max_train_frames: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the ranges.

        Raises:
            UserError: If a setting is out of range.
        """
        if self.valid_size is None and not 0 < self.valid_fraction < 1:
            raise UserError(f"valid_fraction is between 0 and 1, not {self.valid_fraction}; valid_size gives a number.")
        for name in ("valid_size", "max_train_frames"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UserError(f"{name} is at least 1, not {value}.")

    def apply(self, frames: Sequence[T]) -> tuple[list[T], list[T]]:
        """Split frames at random.

        Args:
            frames: All frames; one alone is used for both, and the log says so.

        Returns:
            Training and validation frames, each in the order of `frames`.

        Raises:
            UserError: If valid_size leaves no training frame.
        """
        train, valid = self.choose(len(frames))
        return [frames[i] for i in train], [frames[i] for i in valid]

    def choose(self, n_frames: int) -> tuple[np.ndarray, np.ndarray]:
        """Which frames of a set are trained and which are validated on, in ascending order; see `apply`."""
        if n_frames == 1:
            log.warning("there is one frame only: it is used for training and for validation")
            return np.zeros(1, dtype=np.int64), np.zeros(1, dtype=np.int64)
        n_valid = self.valid_size or max(1, round(self.valid_fraction * n_frames))
        if n_frames and n_valid >= n_frames:
            raise UserError(
                f"{n_valid} validation frames leave nothing of {n_frames} frames to train on. "
                "Give a smaller valid_size or valid_fraction, or a valid_file."
            )
        order = np.random.default_rng(self.seed).permutation(n_frames)
        return np.sort(order[n_valid:][: self.max_train_frames]), np.sort(order[:n_valid])

    def limit(self, frames: Sequence[T]) -> list[T]:
        """At most max_train_frames of the frames, for a training set that is not split."""
        return [frames[i] for i in self.choose_limited(len(frames))]

    def choose_limited(self, n_frames: int) -> np.ndarray:
        """Which frames of a set are trained on when it is not split; see `limit`."""
        return np.sort(np.random.default_rng(self.seed).permutation(n_frames)[: self.max_train_frames])
