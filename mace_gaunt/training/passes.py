"""The gradient of a batch in several passes, and over several processes: always that of the whole batch.

The loss is a sum of terms, each a sum over labelled entries divided by their number. The numbers are known before
anything is predicted, so that the sums of parts, of one process or of several, can be divided by those of the whole.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.distributed
from torch import Tensor

from mace_gaunt.data.collate import collate
from mace_gaunt.data.sampler import cut_into_batches
from mace_gaunt.training.loss import WeightedLoss


def split_batch(batch: Any, max_edges: int | None) -> list[Any]:
    """Consecutive parts of a batch.

    Args:
        batch: A batch of AtomicData.
        max_edges: Bound on the edges of a part, two for a pair; a frame that alone has more is a part of its own. None
            does not split.

    Returns:
        The batch itself when it fits.
    """
    if max_edges is None or batch.num_edges <= max_edges or batch.num_graphs < 2:
        return [batch]
    n_edges = 2 * torch.bincount(batch.batch[batch.pair_index[1]], minlength=batch.num_graphs).cpu().numpy()
    parts = cut_into_batches(np.arange(batch.num_graphs), n_edges, 1, max_edges)
    return [collate([batch[i] for i in part]) for part in parts]


@dataclass(frozen=True)
class Whole:
    """What a batch has in all, the batches of the other processes included.

    Attributes:
        counts: Number of labelled entries of each term of the loss, shape [n_terms], float64.
        n_frames: Number of frames, shape [].
    """

    counts: Tensor
    n_frames: Tensor


def count_whole(loss: WeightedLoss, batch: Any) -> Whole:
    """Count labels and frames, over all processes; every process has to call it."""
    nothing = {
        "interaction_energy": torch.zeros_like(batch.energy),
        "forces": torch.zeros_like(batch.forces),
        "stress": torch.zeros_like(batch.stress),
    }
    counts = [count for _, count in loss.sums(nothing, batch, batch.energy).values()]
    totals = torch.stack([*counts, torch.full_like(counts[0], batch.num_graphs)]).double()
    if world_size() > 1:
        torch.distributed.all_reduce(totals)
    return Whole(totals[:-1], totals[-1])


def partial_loss(loss: WeightedLoss, sums: Mapping[str, tuple[Tensor, Tensor]], whole: Whole | None) -> Tensor:
    """The share of a part in the loss of the whole.

    Args:
        loss: The loss.
        sums: What `loss.sums` gave for the part.
        whole: What `count_whole` gave; None where the part is the whole.

    Returns:
        Shape []. Its sum over parts, averaged over processes (as DistributedDataParallel averages gradients), is the
        loss of the whole.
    """
    if whole is None:
        return loss.combine({name: total / count.clamp(min=1) for name, (total, count) in sums.items()})
    counts = whole.counts.clamp(min=1) / world_size()
    return loss.combine({name: total / counts[i].to(total.dtype) for i, (name, (total, _)) in enumerate(sums.items())})


def of_every_process(value: float) -> list[float]:
    """The number of each process, by rank; every process has to call it."""
    if world_size() == 1:
        return [value]
    values: list[Any] = [None] * world_size()
    torch.distributed.all_gather_object(values, value)
    return values


def own_of(values: list[float]) -> float:
    """What this process gave to `of_every_process`; their mean where there were more processes, or fewer."""
    if len(values) != world_size():
        return sum(values) / len(values)
    return values[torch.distributed.get_rank() if world_size() > 1 else 0]


def mean_over_processes(value: Tensor) -> Tensor:
    """The mean of a number, shape []; every process has to call it."""
    if world_size() == 1:
        return value
    mean = value.clone()
    torch.distributed.all_reduce(mean)
    return mean / world_size()


def world_size() -> int:
    """Number of processes that train together."""
    distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
    return torch.distributed.get_world_size() if distributed else 1
