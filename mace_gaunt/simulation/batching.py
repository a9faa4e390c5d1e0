"""Many structures through the model at a time, bounded by edges."""

from collections.abc import Iterable, Iterator

from mace_gaunt.data.atomic_data import AtomicData

# What fits the caches of a CPU: with 64 channels 2,000 edges ran twice as fast as 20,000. A GPU wants more.
MAX_EDGES_PER_BATCH = 2_000


def in_batches(frames: Iterable[AtomicData], max_edges: int) -> Iterator[list[AtomicData]]:
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
    batch: list[AtomicData] = []
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
