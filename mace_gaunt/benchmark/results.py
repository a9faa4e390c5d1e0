"""The table of a `benchmark tensor_product`: one row per cell, candidate and pass, written as it grows."""

import csv
from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from mace_gaunt.benchmark.cells import Cell


@dataclass(frozen=True)
class Row:
    """One candidate in one pass of one cell; times and later are None where it was skipped.

    Attributes:
        operation: "feature", "edge" or "node".
        regime: "siso", "simo" or "mimo"; empty but for feature products.
        degree: L.
        batch: Rows, edges or nodes.
        channels: Channels.
        pseudo: Whether couplings with an odd sum of degrees were wanted.
        family: The function; "e3nn" and "rfft2" stand beside the families.
        kernel: How it is computed; "auto" for the one that measuring chose.
        chosen: That one.
        reference: Whether it is there to compare with only, and never chosen by "auto".
        pass_name: The pass; empty where a candidate was skipped in all of them.
        median_ms: Median time of a call.
        q1_ms: First quartile.
        q3_ms: Third quartile.
        samples: How many times were taken.
        peak_MB: Most memory that a call holds beyond inputs and tables.
        output_irreps: Irreps in the result of one row, edge or node.
        free_weights: Weights that choose the function.
        us_per_irrep: Median time over output_irreps.
        us_per_weight: Median time over free_weights.
        skipped: Why it was not timed.
    """

    operation: str
    regime: str
    degree: int
    batch: int
    channels: int
    pseudo: bool
    family: str
    kernel: str
    chosen: str = ""
    reference: bool = False
    pass_name: str = ""
    median_ms: float | None = None
    q1_ms: float | None = None
    q3_ms: float | None = None
    samples: int | None = None
    peak_MB: float | None = None
    output_irreps: int | None = None
    free_weights: int | None = None
    us_per_irrep: float | None = None
    us_per_weight: float | None = None
    skipped: str = ""

    @property
    def name(self) -> str:
        """Family and kernel."""
        return f"{self.family}/{self.kernel}"

    @property
    def cell(self) -> tuple[str, str, int, int, int]:
        """What is computed."""
        return self.operation, self.regime, self.degree, self.batch, self.channels

    @property
    def key(self) -> tuple[object, ...]:
        """What makes a row the only one of its kind."""
        return *self.cell, self.name, self.pass_name

    @property
    def ms(self) -> float:
        """The median of a row that was timed."""
        assert self.median_ms is not None
        return self.median_ms


COLUMNS = tuple(field.name for field in fields(Row))
DIGITS = {"median_ms": 4}
"""The bars are ratios of medians; other figures have three digits."""


def cell_columns(cell: Cell) -> dict[str, Any]:
    """The columns that tell the cell."""
    return {name: getattr(cell, name) for name in ("operation", "regime", "degree", "batch", "channels", "pseudo")}


def write_rows(path: Path, rows: Iterable[Row]) -> None:
    """Add rows to a CSV file; with its header when there is none yet.

    Args:
        path: The file.
        rows: The rows.
    """
    new = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        if new:
            writer.writerow(COLUMNS)
        writer.writerows([write_value(getattr(row, name), DIGITS.get(name, 3)) for name in COLUMNS] for row in rows)


def write_value(value: Any, digits: int = 4) -> str:
    """Text of a value; figures with a few digits, more than a time is worth."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:.{digits}g}" if isinstance(value, float) else str(value)


def read_rows(path: Path) -> list[Row]:
    """The rows of a file of `write_rows`.

    Args:
        path: The file.
    """
    with path.open(newline="") as file:
        return [
            Row(**{field.name: read_value(entry[field.name], field.type) for field in fields(Row)})
            for entry in csv.DictReader(file)
        ]


def read_value(text: str, kind: Any) -> Any:
    """A value of a column of some type."""
    if kind is str:
        return text
    if kind is bool:
        return text == "true"
    if not text:
        return None
    return int(text) if kind in (int, int | None) else float(text)
