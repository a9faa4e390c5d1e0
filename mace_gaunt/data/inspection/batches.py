"""How many edges a training batch may hold: what memory allows, and what the frames need."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

BYTES_PER_EDGE = 150_000
"""What a training step of the default model (64 channels, max_L 1, max_ell 3, two layers, float32) holds in tensors for
each edge, as `mace-gaunt benchmark step` measures: kernel=dense and sparse of clebsch_gordan 165 and 145 kB,
kernel=grid of gaunt 91 kB. The kernel `fused` of a CPU needs 15 to 20 kB. It grows with the channels."""
CHANNELS = 64
# A batch of so many of the largest frames packs well (at most a quarter stays empty); so many usual ones train well.
LARGEST_FRAMES, USUAL_FRAMES = 4, 32


def recommend_batch(n_edges: Sequence[int], largest: int, memory_gb: float) -> dict[str, Any]:
    """A bound for max_edges_per_batch.

    It is the greater of four times the largest frame and 32 times the median one, as far as memory allows, but never
    less than the largest frame.

    Args:
        n_edges: Edges of a sample of the frames, two for a pair of neighbours.
        largest: Edges of the largest frame.
        memory_gb: Memory of the device (GB).

    Returns:
        max_edges_per_batch; frames_per_batch at the median; what memory allows (memory_edges) and on what that rests.
    """
    allowed = int(memory_gb * 1e9 / BYTES_PER_EDGE)
    usual = float(np.median(n_edges)) if len(n_edges) else 0.0
    wanted = max(LARGEST_FRAMES * largest, math.ceil(USUAL_FRAMES * usual), 1)
    bound = max(largest, min(wanted, allowed))
    # To two digits: up where memory allows it, else down, but never below the largest frame.
    step = 10 ** max(0, len(str(bound)) - 2)
    up, down = -(-bound // step) * step, bound // step * step
    bound = up if up <= allowed else max(down, largest)
    return {
        "max_edges_per_batch": bound,
        "frames_per_batch": bound / usual if usual else None,
        "largest_frame": largest,
        "memory_edges": allowed,
        "memory_GB": memory_gb,
        "bytes_per_edge": BYTES_PER_EDGE,
        "num_channels": CHANNELS,
    }
