"""From names to candidates that are known to be right; what cannot be built or is wrong gives a reason instead."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

from mace_gaunt.benchmark.agreement import disagreement
from mace_gaunt.benchmark.candidates import AUTO, Candidate, build, candidate, classes
from mace_gaunt.benchmark.cells import Cell
from mace_gaunt.benchmark.inputs import make_inputs, with_vectors
from mace_gaunt.benchmark.references import REFERENCES
from mace_gaunt.benchmark.settings import DOUBLE_BACKWARD, FORWARD, Plan, ProductSettings
from mace_gaunt.tensor_products.selection import select_kernel

T = TypeVar("T")
Name = tuple[str, str]
"""Family and kernel."""


def attempt(make: Callable[..., T], *arguments: Any) -> T | str:
    """What a call gives, or why it fails: one kernel that fails must not end the run.

    Args:
        make: What to call.
        arguments: On what.
    """
    try:
        return make(*arguments)
    except Exception as error:
        kind = "" if isinstance(error, (ValueError, ImportError)) else f"{type(error).__name__}: "
        return kind + (str(error).strip().splitlines() or ["no message"])[0]


def list_names(operation: str, plan: Plan, settings: ProductSettings) -> list[Name]:
    """Candidates of an operation, without the choices of "auto".

    Args:
        operation: "feature", "edge" or "node".
        plan: Its families.
        settings: Its kernels, and whether references run beside.
    """
    names = [
        (family, kernel)
        for family, found in classes(operation).items()
        for kernel in found.KERNELS
        if family in (plan.families or (family,)) and kernel in (settings.kernels or (kernel,))
    ]
    beside = [name for name, (_, operations) in REFERENCES.items() if operation in operations]
    return names + beside * settings.references


def is_reference(operation: str, name: Name) -> bool:
    """Whether a candidate is there to compare with only, and never chosen by "auto"."""
    family, kernel = name
    if name in REFERENCES:
        return True
    return kernel != AUTO and bool(getattr(classes(operation)[family].KERNELS[kernel], "reference", False))


def make(name: Name, cell: Cell) -> Candidate:
    """A candidate.

    Args:
        name: A kernel of a family, or one of `REFERENCES`.
        cell: Its cell.

    Raises:
        ValueError: If it cannot compute the cell, or computes it by another kernel, or is not made for the device.
        ImportError: If a library is missing.
    """
    if name in REFERENCES:
        return REFERENCES[name][0](cell)
    family, kernel = name
    found = classes(cell.operation)[family]
    devices = getattr(found.KERNELS[kernel], "devices", (cell.device,))
    if cell.device not in devices:
        raise ValueError(f"made for {', '.join(devices)}")
    product: Any = build(found, kernel, cell)
    first = next(iter(found.KERNELS))
    if getattr(product.kernel, "serves_all", False) and kernel != first:
        raise ValueError(f"the same as '{first}': scalar features leave nothing to choose")
    return candidate(product, cell)


def choose(family: str, cell: Cell, pass_name: str) -> Candidate:
    """What `kernel=auto` comes to: measured here and now, without what earlier runs have found.

    Args:
        family: The family.
        cell: The cell, whose inputs are measured on.
        pass_name: The pass that it is to be fast in.
    """
    product: Any = build(classes(cell.operation)[family], AUTO, cell)
    inputs = with_vectors(make_inputs(product, cell), cell)
    training, gradients = pass_name == DOUBLE_BACKWARD, pass_name != FORWARD
    select_kernel(product, inputs, training=training, gradients=gradients, cache=False)
    return candidate(product, cell)


def find_wrong(built: dict[Name, Candidate], cell: Cell) -> dict[Name, str]:
    """Kernels that do not compute the same as the first of their family that could be built, in float64 on the CPU.

    Args:
        built: Candidates.
        cell: Their cell.

    Returns:
        Name -> what is wrong, or why it could not be found out.
    """
    wrong = {}
    exact = replace(cell, dtype="float64", device="cpu")
    references: dict[str, Any] = {}
    for family, kernel in built:
        if (family, kernel) in REFERENCES:
            continue
        if family not in references:
            references[family] = attempt(build, classes(cell.operation)[family], kernel, exact)
        reference = references[family]
        failed = isinstance(reference, str)
        problem = reference if failed else attempt(disagreement, built[family, kernel].module, reference, cell)
        if problem:
            wrong[family, kernel] = problem
    return wrong
