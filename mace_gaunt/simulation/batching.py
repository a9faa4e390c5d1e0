"""Many structures through the model at a time, bounded by edges."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol, TypeVar

from torch import Tensor

from mace_gaunt.data.atomic_data import AtomicData
from mace_gaunt.data.collate import collate
from mace_gaunt.model.gradients import EdgeGradient, predict
from mace_gaunt.model.mace import MACE

# Safe for the memory of any model, and what fits the caches of a CPU: with 128 channels and max_L 2 the hungriest
# kernel (dense, float64) takes 0.8 GB for 2,000 edges and 3.9 GB for 8,000, and none is faster with 8,000. Small models
# are: 1.3 times as fast with 64 channels and max_L 1. A GPU wants more.
MAX_EDGES_PER_BATCH = 2_000


def predict_batches(
    model: MACE,
    frames: Iterable[AtomicData],
    max_edges: int = MAX_EDGES_PER_BATCH,
    *,
    stress: bool = False,
    gradient_of: Callable[[Any], EdgeGradient | None] = lambda batch: None,
) -> Iterator[tuple[Any, dict[str, Tensor]]]:
    """Predict a stream of frames of a data set: what `mace-gaunt evaluate` does.

    Frames are read as they are needed and let go once they are computed, so the stream may be of any length.

    Args:
        model: The potential, on the device where it is to run.
        frames: The frames, of any sizes; read as they are needed.
        max_edges: See `in_batches`.
        stress: Whether to compute virials and stress.
        gradient_of: Called with every batch before it is predicted; gives its `gradient` for `predict`.

    Yields:
        The batch, on the model's device, with its frames in order, and what `predict` makes of it.

    Raises:
        ValueError: If max_edges < 1.
    """
    for members in in_batches(frames, max_edges):
        batch = collate(members).to(model.device)
        yield batch, predict(model, batch, stress=stress, gradient=gradient_of(batch))


class Countable(Protocol):
    """A frame or graph whose size can be told: AtomicData, or `simulation.graphs.Graph`."""

    @property
    def num_edges(self) -> int:
        """Number of edges, two for every pair."""
        ...

    @property
    def positions(self) -> Tensor:
        """Shape [n_nodes, 3]."""
        ...


Frame = TypeVar("Frame", bound=Countable)


def in_batches(frames: Iterable[Frame], max_edges: int) -> Iterator[list[Frame]]:
    """Cut a stream of frames into runs of at most max_edges edges, in order.

    Args:
        frames: The frames; read as they are needed.
        max_edges: Bound per batch, at least 1; a pair of neighbours is two edges. A frame with more edges goes alone.

    Returns:
        Lists of frames, none empty.

    Raises:
        ValueError: If max_edges < 1.
    """
    if max_edges < 1:
        raise ValueError(f"max_edges_per_batch is at least 1, not {max_edges}.")
    batch: list[Frame] = []
    n_edges = 0
    for frame in frames:
        # One node counts as one edge, so that frames without edges do not pile up without bound.
        cost = frame.num_edges + frame.positions.shape[0]
        if batch and n_edges + cost > max_edges:
            yield batch
            batch, n_edges = [], 0
        batch.append(frame)
        n_edges += cost
    if batch:
        yield batch
