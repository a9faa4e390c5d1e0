"""The members of a comparison: what each is called, where it lives, and what has become of it."""

import csv
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FAMILY, SEED = "tensor_product", "seed"
PEER = "mace-torch"
MOST_LETTERS = 300
"""Of a reason."""
RAISED = re.compile(r"(\w+\.)*\w*(Error|Exception): ")
FINISHED, UNFINISHED, ABSENT = "finished", "unfinished", "absent"


@dataclass(frozen=True)
class Member:
    """One training.

    Attributes:
        settings: Key -> value of what differs between members; `tensor_product` and `seed` are always among them.
        folder: Folder of the comparison.
    """

    settings: Mapping[str, Any]
    folder: Path

    @property
    def family(self) -> str:
        """Its tensor product, or mace-torch."""
        return str(self.settings[FAMILY])

    @property
    def seed(self) -> int:
        """Its seed."""
        return int(self.settings[SEED])

    @property
    def group(self) -> str:
        """What members that differ in their seeds alone have in common, as "gaunt, num_channels 32"."""
        others = [
            f"{key.rpartition('.')[2]} {value}" for key, value in self.settings.items() if key not in (FAMILY, SEED)
        ]
        return ", ".join([self.family, *others])

    @property
    def name(self) -> str:
        """Name of its files: letters, digits and `-_.`, as "gaunt-num_channels_32-seed_0"."""
        return "-".join(
            re.sub(r"[^\w.]+", "_", part).strip("_") for part in [*self.group.split(", "), f"seed_{self.seed}"]
        )

    @property
    def path(self) -> Path:
        """Its run folder."""
        return self.folder / "members" / self.name

    @property
    def file(self) -> Path:
        """Its configuration, complete, from which it is trained."""
        return self.folder / "members" / f"{self.name}.yaml"

    @property
    def log(self) -> Path:
        """What its training printed."""
        return self.folder / "members" / f"{self.name}.log"


def state_of(member: Member) -> str:
    """What there is of a member: FINISHED (trained and evaluated), UNFINISHED (to be continued) or ABSENT."""
    record = read_json(member.path / "run.json")
    if record.get("finished") and (member.path / "report" / "metrics.csv").is_file():
        return FINISHED
    return UNFINISHED if (member.path / "checkpoints" / "last.ckpt").is_file() else ABSENT


def read_json(path: Path) -> dict[str, Any]:
    """The content of a JSON file, empty where there is none."""
    content: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {}
    return content


def read_rows(path: Path) -> list[dict[str, str]]:
    """The rows of a table, none where there is no file."""
    if not path.is_file():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def errors_of(member: Member) -> dict[str, dict[str, float | None]]:
    """Split -> errors of a finished member, by the columns of its report; None where there are no labels."""
    return {row["split"]: {name: number(row[name]) for name in row if name != "split"} for row in report_rows(member)}


def report_rows(member: Member) -> list[dict[str, str]]:
    """The rows of its report."""
    return read_rows(member.path / "report" / "metrics.csv")


def number(cell: str | None) -> float | None:
    """A cell as a number, None where it is empty."""
    return float(cell) if cell else None


def training_seconds(member: Member) -> float | None:
    """How long its training took, compilation, validations and checkpoints included (s); None where nobody knows."""
    record = read_json(member.path / "run.json")
    if "training_seconds" in record:
        return float(record["training_seconds"])
    rows = read_rows(member.path / "metrics.csv")
    return float(rows[-1]["seconds"]) if rows else None


def reason_of_failure(member: Member) -> str:
    """The error that its training ended with, one line; its last words where it told none."""
    lines = member.log.read_text(errors="replace").strip().splitlines() if member.log.is_file() else []
    told = [line.removeprefix("error: ") for line in lines if line.startswith("error: ") or RAISED.match(line)]
    return (told or lines or ["it ended without a word"])[-1][:MOST_LETTERS]
