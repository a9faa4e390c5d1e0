"""What is in all files together: for a training, for a pipeline (JSON), for a reader (text)."""

import math
from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Any

from ase.data import atomic_numbers

from mace_gaunt.data.inspection.file_report import FileReport


@dataclass
class Report:
    """What is in some files. Everything is a JSON value; `str` gives a text.

    Attributes:
        r_max: Cutoff radius of edges and distances (Å).
        files: Of each file.
        batch: Recommended bound of a batch, see `recommend_batch`; None without edges.
        E0s: Of all files together: elements, rank, undetermined; None without energies.
        splits: role of each file by path ("train", "test"), and the elements that only test files have, by path.
        vendi: Vendi scores by order, number of frames, descriptor, kernel; None when it was not asked for.
        warnings: What concerns several files.
        notes: What is good to know about all of them.
    """

    r_max: float
    files: list[FileReport] = field(default_factory=list)
    batch: dict[str, Any] | None = None
    E0s: dict[str, Any] | None = None
    splits: dict[str, Any] = field(default_factory=dict)
    vendi: dict[str, Any] | None = None
    warnings: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def frames(self) -> int:
        """Number of records in all files."""
        return sum(file.frames for file in self.files)

    @property
    def elements(self) -> dict[str, int]:
        """Symbol -> number of atoms in all files, by atomic number."""
        total: Counter[str] = Counter()
        for file in self.files:
            total.update(file.elements)
        return {symbol: total[symbol] for symbol in sorted(total, key=atomic_numbers.__getitem__)}

    @property
    def problems(self) -> list[str]:
        """All records and files that cannot be used, with the file."""
        return [f"{file.path}: {problem}" for file in self.files for problem in file.problems]

    @property
    def all_warnings(self) -> list[str]:
        """All that should be looked at, with the file."""
        return [f"{file.path}: {warning}" for file in self.files for warning in file.warnings] + self.warnings

    def status(self, strict: bool = False) -> int:
        """Exit status: 1 when a record or file cannot be used or there is none; if strict, also for a warning."""
        return int(bool(self.problems) or not self.frames or (strict and bool(self.all_warnings)))

    def to_json(self) -> dict[str, Any]:
        """All of it as JSON values, `files` last; numbers that overflow (damaged labels) are None."""
        return _finite(self._values())

    def _values(self) -> dict[str, Any]:
        return {
            "frames": self.frames,
            "usable": sum(file.usable for file in self.files),
            "atoms": sum(self.elements.values()),
            "elements": self.elements,
            "problems": self.problems,
            "warnings": self.all_warnings,
            "notes": self.notes,
            "r_max": self.r_max,
            "E0s": self.E0s,
            "batch": self.batch,
            "splits": self.splits,
            "vendi": self.vendi,
            "files": [asdict(file) for file in self.files],
        }

    def __str__(self) -> str:
        from mace_gaunt.data.inspection.text import format_report

        return format_report(self)


def _finite(value: Any) -> Any:
    """The same without NaN and infinity, which JSON has not."""
    if isinstance(value, dict):
        return {key: _finite(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_finite(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
