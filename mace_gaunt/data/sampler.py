"""Which frames make which batch of an epoch: a pure function of seed and epoch, so that resume continues it."""

from collections.abc import Iterator, Sequence
from itertools import count

import numpy as np
import torch.distributed
from torch.utils.data import Sampler

from mace_gaunt.errors import UserError

# Epochs looked at when the number of batches is fixed; a later epoch that needs more is drawn again.
TRIAL_EPOCHS = 16


class EpochBatchSampler(Sampler[list[int]]):
    """Batches of a fixed number of frames, or of at most so many edges.

    Every epoch has every frame once and the same number of batches (schedules and progress bars count on it): where
    an order of frames packs into fewer batches, the largest are cut in two. Under torch.distributed each rank gets
    every n-th batch (give the trainer `use_distributed_sampler=False`). Where they do not come out even, training
    repeats the first batches, since ranks step together; without shuffling nothing is repeated, since sums over
    frames are to be exact.
    """

    def __init__(
        self,
        n_edges: Sequence[int],
        batch_size: int,
        max_edges_per_batch: int | None = None,
        seed: int = 0,
        shuffle: bool = True,
    ) -> None:
        """Fix the number of batches.

        Args:
            n_edges: Number of edges of each frame, two for a pair of neighbours.
            batch_size: Frames per batch, at least 1; not read when max_edges_per_batch is given.
            max_edges_per_batch: Bound on the sum of n_edges in a batch.
            seed: Of the order of frames.
            shuffle: False keeps the order of the frames in every epoch.

        Raises:
            UserError: If batch_size < 1, or one frame alone has more edges than the bound.
        """
        self.n_edges = np.asarray(n_edges, dtype=np.int64)
        self.batch_size = batch_size
        self.max_edges_per_batch = max_edges_per_batch
        self.seed = seed
        self.shuffle = shuffle
        self.epoch = 0
        check_bounds(self.n_edges, batch_size, max_edges_per_batch)
        varies = shuffle and max_edges_per_batch is not None
        self._num_batches = max(len(self._cut(self._order(i, 0))) for i in range(TRIAL_EPOCHS if varies else 1))

    @property
    def sampler(self) -> "EpochBatchSampler":
        """Itself: Lightning calls set_epoch on the `sampler` of a batch sampler."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that the next iteration gives."""
        self.epoch = epoch

    def batches(self, epoch: int) -> list[list[int]]:
        """All batches of an epoch, those of the other ranks included.

        Args:
            epoch: Counted from 0.

        Returns:
            Lists of positions in n_edges; every position is in exactly one.
        """
        for attempt in count():
            batches = self._cut(self._order(epoch, attempt))
            if len(batches) <= self._num_batches:
                return self._cut_largest(batches)
        raise AssertionError("an order that needs no more batches than the first epochs is always found")

    def __iter__(self) -> Iterator[list[int]]:
        rank, world = _rank_and_world()
        batches = self.batches(self.epoch)
        if self.shuffle and batches:
            batches += [batches[i % len(batches)] for i in range(-len(batches) % world)]
        return iter(batches[rank::world])

    def __len__(self) -> int:
        rank, world = _rank_and_world()
        return -(-(self._num_batches - (0 if self.shuffle else rank)) // world)

    def _order(self, epoch: int, attempt: int) -> np.ndarray:
        if not self.shuffle:
            return np.arange(len(self.n_edges))
        return np.random.default_rng([self.seed, epoch, attempt]).permutation(len(self.n_edges))

    def _cut(self, order: np.ndarray) -> list[list[int]]:
        """Consecutive batches of an order of frames."""
        return cut_into_batches(order, self.n_edges, self.batch_size, self.max_edges_per_batch)

    def _cut_largest(self, batches: list[list[int]]) -> list[list[int]]:
        """As many batches as promised, by cutting the one with most frames in two until they suffice."""
        while len(batches) < self._num_batches:
            largest = max(range(len(batches)), key=lambda i: len(batches[i]))
            middle = len(batches[largest]) // 2
            batches[largest : largest + 1] = [batches[largest][:middle], batches[largest][middle:]]
        return batches


def cut_into_batches(
    order: Sequence[int] | np.ndarray, n_edges: np.ndarray, batch_size: int, max_edges_per_batch: int | None = None
) -> list[list[int]]:
    """Cut an order of frames into consecutive batches.

    Args:
        order: Positions in n_edges.
        n_edges: Number of edges of each frame.
        batch_size: Frames per batch; not read when max_edges_per_batch is given.
        max_edges_per_batch: Bound on the sum of n_edges in a batch.

    Returns:
        Lists of positions, in order.
    """
    if max_edges_per_batch is None:
        return [[int(i) for i in order[start : start + batch_size]] for start in range(0, len(order), batch_size)]
    batches: list[list[int]] = []
    room = -1
    for i in order:
        # A frame without edges still takes room, or any number of isolated atoms would go into one batch.
        cost = max(1, int(n_edges[i]))
        if cost > room:
            batches.append([])
            room = max_edges_per_batch
        batches[-1].append(int(i))
        room -= cost
    return batches


def check_bounds(n_edges: Sequence[int] | np.ndarray, batch_size: int, max_edges_per_batch: int | None) -> None:
    """Stop when frames cannot be put into batches.

    Raises:
        UserError: If batch_size < 1, or one frame alone has more edges than max_edges_per_batch.
    """
    if batch_size < 1:
        raise UserError(f"batch_size is at least 1, not {batch_size}.")
    largest = max(1, int(np.max(n_edges, initial=0)))
    if max_edges_per_batch is not None and largest > max_edges_per_batch:
        raise UserError(
            f"max_edges_per_batch is {max_edges_per_batch}, but one frame has {largest} edges; give at least that."
            if len(n_edges)
            else f"max_edges_per_batch is at least 1, not {max_edges_per_batch}."
        )


def _rank_and_world() -> tuple[int, int]:
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    return 0, 1
