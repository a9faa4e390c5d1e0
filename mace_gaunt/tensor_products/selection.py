"""kernel=auto: the fastest kernel of a family, measured on the device at hand and at the sizes at hand.

Kernels of a family compute the same function. Here all that can be built are first checked to agree, in values and
gradients, then timed in turns, on a part of a large batch (`sample.py`); the choice is kept per device, size and
version in memory and in a small file.
"""

import logging
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import torch
from torch import Tensor

from mace_gaunt import __version__
from mace_gaunt.so3.harmonics import spherical_harmonics
from mace_gaunt.tensor_products.contracts import EdgeProduct, FeatureProduct, NodeProduct, Product
from mace_gaunt.tensor_products.measurements import recall, remember
from mace_gaunt.tensor_products.sample import enough_graph, enough_rows, first_rows

FIRST_ROUNDS, ROUNDS, MOST_ROUNDS = 3, 7, 50
SECONDS_PER_PRODUCT = 1.0
ENOUGH_SECONDS = 0.2
"""Fast kernels are timed in more rounds, so long: seven calls of a millisecond say little on a busy machine."""
DROP_ABOVE = 3.0
"""A kernel that takes this much longer than the best in each of the first rounds is not timed again."""
TOLERANCES = {torch.float32: 1e-3, torch.float64: 1e-8}
Found = TypeVar("Found")
log = logging.getLogger(__name__)


class KernelDisagreementError(RuntimeError):
    """Two kernels of one family gave different results: a defect, not a matter of choice."""


@dataclass(frozen=True)
class Choice:
    """What was chosen, and why.

    Attributes:
        kernel: The kernel the product uses now.
        milliseconds: Median time of each kernel; empty where there was nothing to choose from.
        cached: Whether the times are from an earlier measurement.
    """

    kernel: str
    milliseconds: dict[str, float]
    cached: bool

    def __str__(self) -> str:
        if len(self.milliseconds) < 2:
            return self.kernel
        times = ", ".join(f"{name} {value:.3g} ms" for name, value in sorted(self.milliseconds.items(), key=by_time))
        return f"{self.kernel} ({'measured before' if self.cached else 'measured'}: {times})"


def by_time(item: tuple[str, float]) -> float:
    """Sorting key of (kernel, time)."""
    return item[1]


def select_kernel(
    product: Product, inputs: tuple[Tensor, ...], *, training: bool, gradients: bool = True, cache: bool = True
) -> Choice:
    """Make a product use its fastest kernel for inputs of these sizes.

    Args:
        product: On its device, in its precision; `kernel_name` changes, its function does not.
        inputs: What `forward` takes, for an edge product with the edges' vectors, [n_edges, 3], in the place of their
            harmonics; values do not matter, sizes do. Of many rows a part is measured (`first_rows`).
        training: Whether to time two derivatives, as a training on forces needs, or one.
        gradients: Whether derivatives are wanted at all; without them the forward pass alone is timed.
        cache: Whether earlier measurements are used, and this one is kept.

    Returns:
        The choice.

    Raises:
        KernelDisagreementError: If the kernels do not compute the same function.
    """
    names = candidates(product)
    if len(names) < 2:
        return Choice(product.kernel_name, {}, False)
    order, inputs = 2 if training else int(gradients), first_rows(product, inputs)
    key = describe(product, inputs, names, order)
    known = recall(key) if cache else None
    times = measure(product, inputs, names, order) if known is None else known
    if cache and known is None:
        remember(key, times)
    best = min(times, key=lambda name: times[name])
    asked_for = product.asked_for
    product.use_kernel(best)
    product.asked_for = asked_for
    return Choice(best, times, known is not None)


def candidates(product: Product) -> list[str]:
    """Kernels that can be built here for this product, the present one first.

    References are no candidates, nor are kernels made for another kind of device.
    """
    found, shared = [product.kernel_name], getattr(product.kernel, "serves_all", False)
    for name, kernel in product.KERNELS.items():
        elsewhere = product.where.device.type not in getattr(kernel, "devices", (product.where.device.type,))
        if name == product.kernel_name or elsewhere or getattr(kernel, "reference", False):
            continue
        try:
            built = product.build_kernel(name)
        except (ImportError, ValueError):
            # An optional library that is missing, or degrees that this kernel cannot do: not a candidate here.
            continue
        if not (shared and getattr(built, "serves_all", False)):
            found.append(name)
    return found


def measure(product: Product, inputs: tuple[Tensor, ...], names: list[str], order: int) -> dict[str, float]:
    """Median milliseconds of each kernel with derivatives up to an order, in turns, after a check that they agree.

    Kernels for which the device has too little memory are left out, but for the first.
    """
    first, asked_for = product.kernel_name, product.asked_for
    runs: dict[str, Callable[[], list[Tensor]]] = {}
    try:
        kernels = {name: product.use_kernel(name).kernel for name in names}
        product.kernel = kernels[names[0]]
        probe = torch.ones_like(call(product, inputs).detach())

        def run(name: str, order: int) -> list[Tensor]:
            product.kernel = kernels[name]
            return derivatives(product, inputs, probe, order)

        reference = run(names[0], 1)
        runs = {names[0]: partial(run, names[0], order)}
        for name in names[1:]:
            found = if_it_fits(partial(run, name, 1), name)
            if found is not None:
                check_agreement(product.family, names[0], name, reference, found)
                runs[name] = partial(run, name, order)
        return timed_in_turns(runs, inputs[0].device)
    finally:
        product.use_kernel(first)
        product.asked_for = asked_for


def if_it_fits(run: Callable[[], Found], name: str) -> Found | None:
    """What a run of a kernel gives; None where the device has too little memory for it."""
    with suppress(torch.OutOfMemoryError):
        return run()
    log.info("kernel '%s' needs more memory than there is: it is left out", name)
    # The error is gone by now, and with it the frames that held the memory.
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return None


def derivatives(product: Product, inputs: tuple[Tensor, ...], probe: Tensor, order: int) -> list[Tensor]:
    """The result, from order 1 its gradient with respect to the inputs; at order 2 the gradient of that is taken."""
    if order == 0:
        with torch.no_grad():
            return [call(product, inputs)]
    leaves = [value.detach().requires_grad_() if value.is_floating_point() else value for value in inputs]
    wanted = [leaf for leaf in leaves if leaf.requires_grad]
    with torch.enable_grad():
        result = call(product, leaves)
        # Of degree 0 alone, harmonics do not depend on the vectors.
        gradients = torch.autograd.grad(
            (result * probe).sum(), wanted, create_graph=order == 2, allow_unused=True, materialize_grads=True
        )
        if order == 2:
            total = sum(((gradient * gradient).sum() for gradient in gradients), (result * result).sum())
            weights = [parameter for parameter in product.parameters() if parameter.requires_grad]
            torch.autograd.grad(total, [*wanted, *weights], allow_unused=True)
    return [result.detach(), *(gradient.detach() for gradient in gradients)]


def call(product: Product, inputs: Sequence[Tensor]) -> Tensor:
    """The product; harmonics are made of vectors, since the derivative along the sphere is all that kernels share."""
    if not isinstance(product, EdgeProduct):
        return product(*inputs)
    features, vectors, weights, edge_index = inputs
    directions = vectors / torch.linalg.vector_norm(vectors, dim=1, keepdim=True)
    return product(features, spherical_harmonics(directions, product.l_edge), weights, edge_index)


def check_agreement(family: str, one: str, other: str, expected: list[Tensor], found: list[Tensor]) -> None:
    """Stop where two kernels differ by more than rounding."""
    for reference, value in zip(expected, found, strict=True):
        scale = float(reference.abs().max()) if reference.numel() else 0.0
        difference = float((reference - value).abs().max()) if reference.numel() else 0.0
        if not difference <= TOLERANCES[reference.dtype] * max(scale, 1e-6):
            raise KernelDisagreementError(
                f"kernels '{one}' and '{other}' of family '{family}' differ by {difference:.1e} of {scale:.1e}: "
                f"choose one by name and report this"
            )


def timed_in_turns(runs: dict[str, Callable[[], list[Tensor]]], device: torch.device) -> dict[str, float]:
    """Median milliseconds of each, one round after the other so that noise meets all alike.

    What does not fit into the device's memory is left out, but for the first.
    """
    first = next(iter(runs))
    times: dict[str, list[float]] = {name: [] for name in runs}

    def time_once(name: str) -> None:
        once = partial(timed, runs[name], device)
        seconds = once() if name == first else if_it_fits(once, name)
        if seconds is None:
            del times[name]
        else:
            times[name].append(seconds)

    for _ in range(FIRST_ROUNDS):
        for name in list(times):
            time_once(name)
    best = min(min(values) for values in times.values())
    kept = [name for name, values in times.items() if min(values) <= DROP_ABOVE * best]
    begin = time.perf_counter()
    # The agreement check was the warm-up; with one kernel left there is nothing to decide.
    for done in range(FIRST_ROUNDS, MOST_ROUNDS if len(kept) > 1 else 0):
        spent = time.perf_counter() - begin
        if spent > SECONDS_PER_PRODUCT or (done >= ROUNDS and spent > ENOUGH_SECONDS):
            break
        for name in kept:
            if name in times:
                time_once(name)
    return {name: statistics.median(values) * 1e3 for name, values in times.items()}


def timed(run: Callable[[], list[Tensor]], device: torch.device) -> float:
    """Seconds of one run, the device's queue emptied before and after."""
    synchronize(device)
    begin = time.perf_counter()
    run()
    synchronize(device)
    return time.perf_counter() - begin


def synchronize(device: torch.device) -> None:
    """Wait for a CUDA device; nothing on a CPU."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def describe(product: Product, inputs: tuple[Tensor, ...], names: list[str], order: int) -> str:
    """Everything the times depend on; sizes to the next half power of two."""
    shape: list[Any] = []
    if isinstance(product, FeatureProduct):
        shape = ["feature", product.degrees_x, product.degrees_y, product.degrees_out]
    elif isinstance(product, EdgeProduct):
        shape = ["edge", product.l_in, product.l_edge, product.l_out, product.pseudo_in]
    elif isinstance(product, NodeProduct):
        shape = ["node", product.l_in, product.l_out, product.correlation, product.pseudo_in]
    sizes = [round(2.0 * torch.tensor(float(max(value.shape[0], 1))).log2().item()) for value in inputs]
    device = inputs[0].device
    kind = torch.cuda.get_device_name(device) if device.type == "cuda" else f"cpu x {torch.get_num_threads()}"
    parts = [product.family, *shape, sorted(product.options().items()), sizes, inputs[0].shape[-1], inputs[0].dtype]
    parts += [f"{order} derivatives", kind, sorted(names), torch.__version__, __version__]
    return " | ".join(str(part) for part in parts)


def example_inputs(product: Product, n_nodes: int, n_edges: int) -> tuple[Tensor, ...]:
    """Random inputs for `select_kernel` of a product of a model, on its device and in its precision.

    Args:
        product: A product; of a feature product both factors have natural parity.
        n_nodes: Number of nodes of a batch; of many, the inputs are of as many as are measured on.
        n_edges: Number of edges.
    """
    channels = getattr(product, "num_channels", None) or 1
    rows = enough_rows(product, channels, product.where.device)
    if not isinstance(product, EdgeProduct):
        n_nodes = min(n_nodes, rows or n_nodes)
    else:
        n_nodes, n_edges = enough_graph(n_nodes, n_edges, rows)
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator).to(product.where)

    if isinstance(product, FeatureProduct):
        sizes = [sum(2 * l + 1 for l in degrees) for degrees in (product.degrees_x, product.degrees_y)]
        return tuple(draw(n_nodes, size, channels) for size in sizes)
    parities = [2] if getattr(product, "pseudo_in", False) else []
    features = draw(n_nodes, *parities, (getattr(product, "l_in", 0) + 1) ** 2, channels)
    if isinstance(product, NodeProduct):
        types = torch.randint(product.num_elements, (n_nodes,), generator=generator)
        return features, types.to(product.where.device)
    assert isinstance(product, EdgeProduct)
    index = torch.randint(max(n_nodes, 1), (2, n_edges), generator=generator).sort(dim=1).values
    weights = draw(n_edges, product.weight_numel, channels)
    return features, draw(n_edges, 3), weights, index.to(product.where.device)


def products_of(module: torch.nn.Module) -> Iterator[tuple[str, Product]]:
    """The products of a model, outermost only."""
    inside: list[str] = []
    for name, member in module.named_modules():
        if isinstance(member, Product) and not any(name.startswith(f"{outer}.") for outer in inside):
            inside.append(name)
            yield name, member
