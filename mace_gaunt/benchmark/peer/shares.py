"""Where a training step spends its time, and how far that is from what the machine can do.

Loaded in the peer's environment too: imports torch and the standard library only.

An operation belongs to the part (edge product, node product, ...) whose module runs it in the forward pass. The node
that it leaves in the graph has a sequence number, by which its backward pass belongs to the same part, and so does the
backward pass of that, which a training on forces adds.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile, record_function
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

Step = Callable[[], object]
Parts = Mapping[str, Sequence[nn.Module]]

REST = "rest"
PREFIX = "part: "
ENGINE = "autograd::engine::evaluate_function"
MATMUL_SIZE, COPY_BYTES, RATE_REPEATS = 1536, 2**28, 5


def profile_step(step: Step, parts: Parts, repeats: int, timing: Any) -> dict[str, Any]:
    """Times and work of the parts of a step.

    Args:
        step: Runs one step.
        parts: Name -> modules.
        repeats: Steps that are averaged.
        timing: The module `benchmark/timing.py`.

    Returns:
        "seconds" of a step under the profiler, and "parts": name -> seconds, "flops" of matrix products and "bytes" of
        operands read and written, per step.
    """
    step()
    seconds = time_parts(step, parts, repeats, timing)
    work = count_parts(step, parts)
    found = {
        name: {"seconds": seconds[name], "flops": work.flops[name], "bytes": work.moved[name]}
        for name in [*parts, REST]
    }
    return {"seconds": sum(seconds.values()), "parts": found}


def time_parts(step: Step, parts: Parts, repeats: int, timing: Any) -> defaultdict[str, float]:
    """Seconds of each part; the profiler's own cost is in them, and weighs on small operations."""
    with (
        timing.silent_stderr(),
        profile(activities=[ProfilerActivity.CPU]) as recorded,
        marked(parts, lambda name: record_function(PREFIX + name)),
    ):
        for _ in range(repeats):
            step()
    seconds: defaultdict[str, float] = defaultdict(float)
    part_of: dict[int, str] = {}
    for event in in_order(event for event in recorded.events() if event.cpu_parent is None):
        add_time(event, REST, part_of, seconds)
    return defaultdict(float, {name: value * 1e-6 / repeats for name, value in seconds.items()})


def add_time(event: Any, part: str, part_of: dict[int, str], seconds: dict[str, float]) -> None:
    """Add the time of an event without its children to its part, and note the parts of what it leaves in the graph."""
    if event.name.startswith(PREFIX):
        part = event.name.removeprefix(PREFIX)
    elif event.name.startswith(ENGINE):
        part = part_of.get(event.sequence_nr, part)
    elif event.sequence_nr >= 0 and part != REST and not event.name.endswith("Backward0"):
        part_of.setdefault(event.sequence_nr, part)
    seconds[part] += event.time_range.elapsed_us() - sum(child.time_range.elapsed_us() for child in event.cpu_children)
    for child in in_order(event.cpu_children):
        add_time(child, part, part_of, seconds)


def in_order(events: Any) -> list[Any]:
    """Events by their start."""
    return sorted(events, key=lambda event: event.time_range.start)


def count_parts(step: Step, parts: Parts) -> "Work":
    """Work of the parts of one step."""
    with Work() as work, marked(parts, work.within):
        step()
    return work


class Work(TorchDispatchMode):
    """Counts, for each part, the FLOPs of matrix products and the bytes of operands, operation by operation.

    Attributes:
        flops: Part -> FLOPs.
        moved: Part -> bytes.
    """

    def __init__(self) -> None:
        super().__init__()
        self.flops: defaultdict[str, int] = defaultdict(int)
        self.moved: defaultdict[str, int] = defaultdict(int)
        self._part = REST
        self._part_of: dict[int, str] = {}

    @contextmanager
    def within(self, name: str) -> Iterator[None]:
        """Operations of the forward pass in here belong to a part."""
        before, self._part = self._part, name
        yield
        self._part = before

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        node = torch._C._current_autograd_node()
        part = self._part if node is None else self._part_of.get(node._sequence_nr(), REST)
        if part != REST:
            self._part_of.setdefault(torch.autograd._get_sequence_nr() - 1, part)
        if not func.is_view:
            self.moved[part] += sum(map(covered_bytes, tree_leaves((args, kwargs, result))))
            if func._overloadpacket in flop_registry:
                self.flops[part] += flop_registry[func._overloadpacket](*args, **(kwargs or {}), out_val=result)
        return result


def covered_bytes(value: Any) -> int:
    """Memory that a tensor covers; expanded directions have stride 0 and cost nothing."""
    if not isinstance(value, Tensor):
        return 0
    size = value.element_size()
    for length, stride in zip(value.shape, value.stride(), strict=True):
        size *= length if stride or not length else 1
    return size


@contextmanager
def marked(parts: Parts, context: Callable[[str], AbstractContextManager[Any]]) -> Iterator[None]:
    """Run the forward pass of the modules of each part inside a context that is made from the part's name."""
    opened: list[AbstractContextManager[Any]] = []
    handles = []

    def enter(name: str) -> None:
        opened.append(context(name))
        opened[-1].__enter__()

    def leave(*_: Any) -> None:
        opened.pop().__exit__(None, None, None)

    for name, modules in parts.items():
        for module in modules:
            handles.append(module.register_forward_pre_hook(lambda *_, name=name: enter(name)))
            handles.append(module.register_forward_hook(leave))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def machine_rates(dtype: str, device: torch.device, timing: Any) -> dict[str, float]:
    """FLOP/s of a square matrix product and bytes/s of a copy too large for caches, on the threads that are set."""
    kind = getattr(torch, dtype)
    a = torch.rand(MATMUL_SIZE, MATMUL_SIZE, dtype=kind, device=device)
    source = torch.ones(COPY_BYTES // kind.itemsize, dtype=kind, device=device)
    target = torch.empty_like(source)
    return {
        "flops_per_s": 2 * MATMUL_SIZE**3 / fastest(lambda: a @ a, device, timing),
        "bytes_per_s": 2 * COPY_BYTES / fastest(lambda: target.copy_(source), device, timing),
    }


def fastest(call: Step, device: torch.device, timing: Any) -> float:
    """Shortest time of some calls (s), the first left out."""
    times = []
    for _ in range(1 + RATE_REPEATS):
        timing.wait_for(device)
        start = time.perf_counter()
        call()
        timing.wait_for(device)
        times.append(time.perf_counter() - start)
    return min(times[1:])
