"""Loader of batches; those that other processes prepare cross over cheaply."""

import io
import pickle
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader
from torch_geometric.data import Batch

from mace_gaunt.data.atomic_data import AtomicData
from mace_gaunt.data.collate import collate
from mace_gaunt.data.sampler import EpochBatchSampler
from mace_gaunt.errors import UserError


class BatchLoader(DataLoader):
    """Batches of frames, made when they are asked for or, ahead of that, by other processes; see `batch_loader`.

    torch sends a tensor to another process as a file of shared memory. A batch has some forty of them, and where
    opening files is slow that takes as long as a training step (measured: 48 ms for a batch of five molecules, 1.5 ms
    as here), so a batch travels as one string of bytes, whose arrays are used in place.
    """

    delivered = 0
    """Batches of this epoch that were given out, those of an earlier start included."""

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]
        self.delivered = self.batch_sampler.skip  # type: ignore[union-attr]
        return self._told(map(self._deliver, super().__iter__()))

    @staticmethod
    def _told(batches: Iterator[Batch]) -> Iterator[Batch]:
        """The batches; a process that was killed is told in words."""
        try:
            yield from batches
        except RuntimeError as error:
            # What torch says of its death; an error within it has no number of a process.
            if "DataLoader worker (pid" not in str(error):
                raise
            raise UserError(
                "a process that prepares batches was killed, maybe for want of memory. Give data.num_workers fewer of "
                "them, or 0; resume=auto goes on from the last checkpoint."
            ) from error

    def _deliver(self, batch: Any) -> Batch:
        self.delivered += 1
        return pickle.loads(batch) if self.num_workers else batch

    def state_dict(self) -> dict[str, int]:
        """Where in the epoch it is; Lightning keeps this in checkpoints."""
        return {"batches": self.delivered}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Begin the next epoch where another loader was."""
        self.batch_sampler.skip_batches(state["batches"])  # type: ignore[union-attr]


def batch_loader(frames: Sequence[AtomicData], batches: EpochBatchSampler, num_workers: int = 0) -> BatchLoader:
    """A loader; no process is started yet.

    Args:
        frames: The frames; every process gets a copy.
        batches: Positions of the frames of each batch.
        num_workers: Processes that prepare batches, each up to two ahead; with 0 they are made in this process when
            they are asked for.
    """
    return BatchLoader(
        frames,  # type: ignore[arg-type]
        batch_sampler=batches,
        collate_fn=collate_to_bytes if num_workers else collate,
        num_workers=num_workers,
        persistent_workers=num_workers > 0,
        # Else every iteration would take a number from torch's own generator: a resumed epoch takes one more.
        generator=torch.Generator(),
    )


class _ArrayPickler(pickle.Pickler):
    """Writes tensors as numpy arrays; a tensor that occurs several times is written once."""

    def reducer_override(self, obj: Any) -> Any:
        return (torch.from_numpy, (obj.numpy(),)) if isinstance(obj, Tensor) else NotImplemented


def collate_to_bytes(frames: Sequence[AtomicData]) -> bytes:
    """A batch of `collate` as bytes that `pickle.loads` reads.

    Args:
        frames: See `collate`; on the CPU.
    """
    stream = io.BytesIO()
    _ArrayPickler(stream, protocol=pickle.HIGHEST_PROTOCOL).dump(collate(frames))
    return stream.getvalue()
