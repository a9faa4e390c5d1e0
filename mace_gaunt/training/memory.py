"""When a batch does not fit into memory: how small its parts have to be."""

import gc
import logging
from typing import Any

import torch

from mace_gaunt.errors import UserError
from mace_gaunt.training.passes import split_batch

CPU_MESSAGE = "DefaultCPUAllocator: "
"""How torch's allocator for the CPU begins its complaint."""

log = logging.getLogger(__name__)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error, or what caused it, says that there is no memory left, of a device or of the machine."""
    found = isinstance(error, (torch.OutOfMemoryError, MemoryError)) or CPU_MESSAGE in str(error)
    return found or (error.__cause__ is not None and is_out_of_memory(error.__cause__))


def smaller_parts(batch: Any, max_edges: int | None) -> int:
    """The bound on the edges of a part with which the largest part is cut in two.

    Args:
        batch: A batch that did not fit.
        max_edges: The bound it did not fit with; None for the batch as a whole.

    Raises:
        UserError: If one frame alone is too large.
    """
    largest = max(split_batch(batch, max_edges), key=lambda part: int(part.num_edges))
    if largest.num_graphs < 2:
        raise UserError(
            f"there is not enough memory for a single structure of {int(largest.num_edges)} edges (frame "
            f"{int(largest.frame_index[0])} of its file): take a smaller model or a larger device, or leave it out"
        )
    return int(largest.num_edges) // 2


def free_memory() -> None:
    """Let go of what the failed attempt held."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
