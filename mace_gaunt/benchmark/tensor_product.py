"""`benchmark tensor_product`: every candidate of every cell, in every pass."""

from collections.abc import Callable, Iterator
from typing import Any

from mace_gaunt.benchmark.building import (
    Name,
    attempt,
    choose,
    find_wrong,
    is_reference,
    list_names,
    make,
)
from mace_gaunt.benchmark.candidates import AUTO, Candidate, classes
from mace_gaunt.benchmark.cells import Cell, list_cells
from mace_gaunt.benchmark.passes import prepare
from mace_gaunt.benchmark.results import Row, cell_columns
from mace_gaunt.benchmark.settings import Plan, ProductSettings
from mace_gaunt.benchmark.timing import Timing, measure, peak_memory

LEFT_OUT = "a kernel of the family is too slow to be measured here"
PATIENCE_WITH_AUTO = 4.0
"""Choosing calls a slow kernel two or three times only, so it may be slower than what is timed."""


class TooSlow:
    """Remembers how long candidates took, and refuses those that took too long at a smaller degree.

    Args:
        longest: Longest time of a call (s) after which larger degrees are left out.
    """

    def __init__(self, longest: float) -> None:
        self.longest = longest
        self.last: dict[tuple[Any, ...], tuple[int, float]] = {}

    def note(self, cell: Cell, name: Name, pass_name: str, seconds: float) -> None:
        """Remember a time."""
        self.last[(cell.series, name, pass_name)] = cell.degree, seconds

    def reason(self, cell: Cell, name: Name, pass_name: str, patience: float = 1.0) -> str:
        """Why a candidate is left out; empty if it is not."""
        degree, seconds = self.last.get((cell.series, name, pass_name), (cell.degree, 0.0))
        if degree >= cell.degree or seconds <= self.longest * patience:
            return ""
        return f"took {seconds:.2g} s at L={degree}; above {self.longest:g} s larger degrees are left out"


def time_cells(settings: ProductSettings) -> Iterator[tuple[Cell, list[Row]]]:
    """Time everything that was asked for.

    Args:
        settings: The request.

    Yields:
        Cells with their rows. What two plans have in common is in the rows of the first.
    """
    too_slow = TooSlow(settings.longest)
    seen: set[tuple[Any, ...]] = set()
    for plan in settings.plans:
        for cell in list_cells(plan, settings):
            rows = [row for row in time_cell(cell, plan, settings, too_slow) if row.key not in seen]
            seen.update(row.key for row in rows)
            yield cell, rows


def count_cells(settings: ProductSettings) -> int:
    """How many cells `time_cells` yields."""
    return sum(len(list_cells(plan, settings)) for plan in settings.plans)


def time_cell(cell: Cell, plan: Plan, settings: ProductSettings, too_slow: TooSlow) -> list[Row]:
    """All rows of one cell.

    Args:
        cell: The cell.
        plan: What it belongs to: families and passes.
        settings: What that belongs to: kernels, references, time.
        too_slow: What is left out.
    """
    built: dict[Name, Candidate] = {}
    skipped: dict[Name, str] = {}
    for name in list_names(cell.operation, plan, settings):
        reasons = [too_slow.reason(cell, name, pass_name) for pass_name in plan.passes]
        made = reasons[0] if all(reasons) else attempt(make, name, cell)
        if isinstance(made, str):
            skipped[name] = made
        else:
            built[name] = made
    skipped |= find_wrong(built, cell)
    right = {name: made for name, made in built.items() if name not in skipped}
    failed = {family for family, _ in skipped} - {family for family, _ in right}
    with_auto = [family for family in wanted_families(cell.operation, plan, settings) if family not in failed]
    rows = [skipped_row(cell, name, "", reason) for name, reason in skipped.items()]
    for pass_name in plan.passes:
        rows += PassInCell(cell, pass_name, settings.seconds, too_slow).run(right, with_auto)
    return rows


def wanted_families(operation: str, plan: Plan, settings: ProductSettings) -> list[str]:
    """The families whose "auto" is wanted."""
    if settings.kernels and AUTO not in settings.kernels:
        return []
    return [family for family in classes(operation) if family in (plan.families or (family,))]


class PassInCell:
    """One pass of one cell: who takes part, and what they take.

    Args:
        cell: The cell.
        pass_name: The pass.
        seconds: Measuring time for each candidate.
        too_slow: What is left out; learns what is measured here.
    """

    def __init__(self, cell: Cell, pass_name: str, seconds: float, too_slow: TooSlow) -> None:
        self.cell, self.pass_name, self.seconds, self.too_slow = cell, pass_name, seconds, too_slow
        self.device = cell.tensor_options["device"]
        self.taking_part: dict[Name, tuple[Candidate, Callable[[], object]]] = {}
        self.skipped: dict[Name, str] = {}

    def run(self, built: dict[Name, Candidate], with_auto: list[str]) -> list[Row]:
        """Time candidates in turns.

        Args:
            built: The candidates, without the choices of "auto".
            with_auto: Families whose choices take part too.
        """
        for name, made in built.items():
            self.admit(name, made)
        for family in with_auto:
            self.admit_choice(family)
        timings = measure({name: call for name, (_, call) in self.taking_part.items()}, self.device, self.seconds)
        rows = [skipped_row(self.cell, name, self.pass_name, reason) for name, reason in self.skipped.items()]
        return rows + [self.timed_row(name, timing) for name, timing in timings.items()]

    def admit(self, name: Name, made: Candidate) -> None:
        """Let a candidate take part, if it is fast enough and runs."""
        reason = self.too_slow.reason(self.cell, name, self.pass_name)
        call = reason if reason else attempt(self.ready, made)
        if isinstance(call, str):
            self.skipped[name] = call
        else:
            self.taking_part[name] = made, call

    def admit_choice(self, family: str) -> None:
        """Let "auto" of a family take part; not where it would have to measure what is too slow."""
        names = [(family, kernel) for kernel in classes(self.cell.operation)[family].KERNELS]
        slow = any(
            self.too_slow.reason(self.cell, name, self.pass_name, PATIENCE_WITH_AUTO)
            for name in names
            if not self.is_reference(name)
        )
        made = LEFT_OUT if slow else attempt(choose, family, self.cell, self.pass_name)
        if isinstance(made, str):
            self.skipped[family, AUTO] = made
        else:
            self.admit((family, AUTO), made)

    def is_reference(self, name: Name) -> bool:
        """See `building.is_reference`."""
        return is_reference(self.cell.operation, name)

    def ready(self, made: Candidate) -> Callable[[], object]:
        """The call that is timed, tried once."""
        call = prepare(made, self.pass_name)
        call()
        return call

    def timed_row(self, name: Name, timing: Timing) -> Row:
        """Times and memory of a candidate."""
        made, call = self.taking_part[name]
        self.too_slow.note(self.cell, name, self.pass_name, timing.median)
        first, third = timing.quartiles
        microseconds = timing.median * 1e6
        return Row(
            **cell_columns(self.cell),
            family=name[0],
            kernel=name[1],
            chosen=getattr(made.module, "kernel_name", "") if name[1] == AUTO else "",
            reference=self.is_reference(name),
            pass_name=self.pass_name,
            median_ms=timing.median * 1e3,
            q1_ms=first * 1e3,
            q3_ms=third * 1e3,
            samples=len(timing.samples),
            peak_MB=peak_memory(call, self.device) / 1e6,
            output_irreps=made.output_irreps,
            free_weights=made.free_weights,
            us_per_irrep=microseconds / made.output_irreps if made.output_irreps else None,
            us_per_weight=microseconds / made.free_weights if made.free_weights else None,
        )


def skipped_row(cell: Cell, name: Name, pass_name: str, reason: str) -> Row:
    """The row of a candidate that was not timed."""
    return Row(**cell_columns(cell), family=name[0], kernel=name[1], pass_name=pass_name, skipped=reason)
