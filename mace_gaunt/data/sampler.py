"""Which frames make which batch of an epoch: a pure function of seed and epoch, so that resume continues it."""

from collections.abc import Iterator, Sequence
from itertools import count, islice

import numpy as np
import torch.distributed
from torch.utils.data import Sampler

from mace_gaunt.errors import UserError

# Frames that are put into order, and cut into batches, at a time: what this takes of memory is all there is.
WINDOW = 1 << 18
# Frames that lie together in a window of a larger set, so that reading from a disk goes from place to place less often.
BLOCK = 1 << 8
# Epochs looked at when the number of batches is fixed; a later epoch that needs more is drawn again.
TRIAL_EPOCHS = 16
# Of a set of several windows one epoch is looked at, and this part more is promised.
SLACK = 1e-3


class EpochBatchSampler(Sampler[list[int]]):
    """Batches of a fixed number of frames, or of at most so many edges.

    Every epoch has every frame once and the same number of batches (schedules and progress bars count on it): where
    an order of frames packs into fewer batches, the largest are cut in two. Frames are drawn in windows of `WINDOW`:
    a set of at most so many is shuffled as a whole, of a larger one blocks of neighbours are shuffled, then the frames
    of a window, so that memory does not grow with the set. Under torch.distributed each rank gets every n-th batch
    (give the trainer `use_distributed_sampler=False`), and where they do not come out even the last ranks get an empty
    one: all ranks step together, and every frame counts once.
    """

    def __init__(
        self,
        n_edges: Sequence[int] | np.ndarray,
        batch_size: int,
        max_edges_per_batch: int | None = None,
        seed: int = 0,
        shuffle: bool = True,
    ) -> None:
        """Fix the number of batches.

        Args:
            n_edges: Number of edges of each frame, two for a pair of neighbours; an array may be mapped from a file.
            batch_size: Frames per batch, at least 1; not read when max_edges_per_batch is given.
            max_edges_per_batch: Bound on the sum of n_edges in a batch.
            seed: Of the order of frames.
            shuffle: False keeps the order of the frames in every epoch.

        Raises:
            UserError: If batch_size < 1, or one frame alone has more edges than the bound.
        """
        self.n_edges = n_edges if isinstance(n_edges, np.ndarray) else np.asarray(n_edges, dtype=np.int64)
        self.batch_size = batch_size
        self.max_edges_per_batch = max_edges_per_batch
        self.seed = seed
        self.shuffle = shuffle
        self.epoch = self.skip = 0
        check_bounds(self.n_edges, batch_size, max_edges_per_batch)
        self._num_batches = self._promised()

    @property
    def sampler(self) -> "EpochBatchSampler":
        """Itself: Lightning calls set_epoch on the `sampler` of a batch sampler."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that the next iteration gives."""
        self.epoch = epoch

    def skip_batches(self, count: int) -> None:
        """Leave out the first batches (of this rank) of the next iteration, and of no other."""
        self.skip = count

    def batches(self, epoch: int) -> Iterator[list[int]]:
        """All batches of an epoch, those of the other ranks included.

        Args:
            epoch: Counted from 0.

        Yields:
            Lists of positions in n_edges; every position is in exactly one.
        """
        attempt = next(attempt for attempt in count() if self._count(epoch, attempt) <= self._num_batches)
        missing = self._num_batches - self._count(epoch, attempt)
        for window in self._windows(epoch, attempt):
            batches = self._cut(window)
            wanted = min(len(window), len(batches) + missing)
            missing -= wanted - len(batches)
            yield from cut_largest(batches, wanted)

    def __iter__(self) -> Iterator[list[int]]:
        skip, self.skip = self.skip, 0
        yield from islice(self._batches_of_rank(), skip, None)

    def _batches_of_rank(self) -> Iterator[list[int]]:
        rank, world = _rank_and_world()
        for i, batch in enumerate(self.batches(self.epoch)):
            if i % world == rank:
                yield batch
        if rank >= self._num_batches % world > 0:
            yield []

    def __len__(self) -> int:
        return -(-self._num_batches // _rank_and_world()[1])

    def _promised(self) -> int:
        """Number of batches of every epoch."""
        if not self.shuffle or self.max_edges_per_batch is None:
            return self._count(0, 0)
        if len(self.n_edges) <= WINDOW:
            return max(self._count(0, attempt) for attempt in range(TRIAL_EPOCHS))
        return min(len(self.n_edges), round(self._count(0, 0) * (1 + SLACK)))

    def _count(self, epoch: int, attempt: int) -> int:
        """Number of batches that an order packs into."""
        if self.max_edges_per_batch is None:
            whole, rest = divmod(len(self.n_edges), WINDOW)
            return whole * -(-WINDOW // self.batch_size) + -(-rest // self.batch_size)
        return sum(len(self._cut(window)) for window in self._windows(epoch, attempt))

    def _windows(self, epoch: int, attempt: int) -> Iterator[np.ndarray]:
        """The frames of an epoch in order, at most WINDOW at a time."""
        n_frames = len(self.n_edges)
        if not self.shuffle:
            yield from (np.arange(start, min(start + WINDOW, n_frames)) for start in range(0, n_frames, WINDOW))
            return
        random = np.random.default_rng([self.seed, epoch, attempt])
        if n_frames <= WINDOW:
            yield random.permutation(n_frames)
            return
        # The block that is not full comes last, so that all windows but the last are.
        blocks = np.append(random.permutation(n_frames // BLOCK), n_frames // BLOCK)
        for start in range(0, len(blocks), WINDOW // BLOCK):
            chosen = blocks[start : start + WINDOW // BLOCK, None] * BLOCK + np.arange(BLOCK)
            yield random.permutation(chosen[chosen < n_frames])

    def _cut(self, window: np.ndarray) -> list[list[int]]:
        """Consecutive batches of the frames of a window."""
        return cut_into_batches(window, self.n_edges, self.batch_size, self.max_edges_per_batch)


def cut_largest(batches: list[list[int]], wanted: int) -> list[list[int]]:
    """As many batches as wanted, by cutting the one with most frames in two until they suffice.

    Args:
        batches: Changed in place.
        wanted: Number of batches, at most that of the frames.

    Returns:
        The same list.
    """
    while len(batches) < wanted:
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
    positions = np.asarray(order, dtype=np.int64)
    # A frame without edges still takes room, or any number of isolated atoms would go into one batch.
    costs = np.maximum(n_edges[positions], 1)
    for i, cost in zip(positions.tolist(), costs.tolist(), strict=True):
        if cost > room:
            batches.append([])
            room = max_edges_per_batch
        batches[-1].append(i)
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
