"""Settings of the process that make the most of the machine; inside the command only, never on import."""

import ctypes
import math
import os
import sys
from pathlib import Path

CGROUP_LIMIT = Path("/sys/fs/cgroup/cpu.max")


def use_machine_well() -> None:
    """Keep memory between steps, and start no more threads than there are processors to run them."""
    keep_memory()
    limit_threads(CGROUP_LIMIT)


def share_processors() -> None:
    """Let idle OpenMP threads give their processor up soon; only before torch is imported does it help.

    By default they spin for a millisecond after every operation. Where other programs want the processors too, that
    made evaluation 30 times slower (4 instead of 134 frames/s, four threads on four busy cores); on idle processors
    there is no difference.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "1000")


def keep_memory() -> None:
    """Keep large blocks of memory instead of returning them after each step.

    With glibc's defaults much of a CPU step is page faults: large blocks are mapped and returned each time. Without
    glibc nothing is changed.
    """
    if not sys.platform.startswith("linux"):
        return
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return
    # Parameters of <malloc.h>. Values are ints; older glibc refuses an mmap threshold above 32 MiB.
    trim_threshold, top_pad, mmap_threshold = -1, -2, -3
    largest = 2**31 - 1
    if not mallopt(mmap_threshold, largest):
        mallopt(mmap_threshold, 32 * 2**20)
    mallopt(trim_threshold, largest)
    mallopt(top_pad, 256 * 2**20)


def limit_threads(limit: Path) -> None:
    """Use as many threads as a container's quota of processors, where torch would use one per visible processor.

    Args:
        limit: The control group's file "QUOTA PERIOD", or "max PERIOD" without a quota.
    """
    import torch

    quota = processor_quota(limit)
    if quota is not None and "OMP_NUM_THREADS" not in os.environ and quota < torch.get_num_threads():
        torch.set_num_threads(quota)


def processor_quota(limit: Path) -> int | None:
    """The quota of processors, rounded up.

    Args:
        limit: See `limit_threads`.

    Returns:
        At least 1, or None without a quota.
    """
    try:
        quota, period = limit.read_text().split()
        return max(1, math.ceil(int(quota) / int(period)))
    except (OSError, ValueError):
        return None
