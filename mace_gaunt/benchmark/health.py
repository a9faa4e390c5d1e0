"""Which kernels run on a device, and whether they compute what the first of their family does."""

from dataclasses import dataclass

from mace_gaunt.benchmark.agreement import DISAGREES
from mace_gaunt.benchmark.building import Name, attempt, find_wrong, make
from mace_gaunt.benchmark.candidates import Candidate, classes
from mace_gaunt.benchmark.cells import Cell

ARGUMENTS = {"feature": (2, 2, 2), "edge": (1, 3, 2), "node": (2, 1, 3)}
"""Degrees of small products in which nothing is trivial; of the node product the correlation too."""
ROWS, CHANNELS = 40, 3


@dataclass(frozen=True)
class KernelState:
    """One kernel on one device.

    Attributes:
        operation: "feature", "edge" or "node".
        family: The family.
        kernel: The kernel.
        why: Why it does not run; empty if it does, and is right.
        wrong: Whether it runs and computes something else.
    """

    operation: str
    family: str
    kernel: str
    why: str
    wrong: bool


def check_kernels(operation: str, device: str) -> list[KernelState]:
    """Build every kernel of every family and compare values and two derivatives, in float64, on small inputs.

    Args:
        operation: "feature", "edge" or "node".
        device: "cpu" or "cuda".
    """
    cell = Cell(operation, "", 2, ARGUMENTS[operation], ROWS, CHANNELS, False, "float64", device, 0)
    names: list[Name] = [(family, kernel) for family, found in classes(operation).items() for kernel in found.KERNELS]
    made = {name: attempt(make, name, cell) for name in names}
    built = {name: one for name, one in made.items() if isinstance(one, Candidate)}
    wrong = find_wrong(built, cell)
    states = []
    for name in names:
        found = made[name]
        why = found if isinstance(found, str) else wrong.get(name, "")
        states.append(KernelState(operation, *name, why, why.startswith(DISAGREES) or (name in wrong)))
    return states
