"""Published errors on 3BPA."""

import functools
import json
import re
from dataclasses import dataclass
from importlib import resources


@dataclass(frozen=True)
class PublishedRow:
    """A published error.

    Attributes:
        method: Name of the potential.
        split: The official split it was measured on.
        energy: RMSE of the total energy (meV) and, where given, its standard deviation over seeds.
        forces: The same of force components (meV/Å).
    """

    method: str
    split: str
    energy: tuple[float, ...]
    forces: tuple[float, ...]


# Splits that hold frames of an official one, or stand for it: half of a test file carries `_dev`, and the last third
# of train_mixedT is its 1200 K part.
STANDS_FOR = {"train_mixedT[334:]": "test_1200K"}


def published_rows(split: str) -> list[PublishedRow]:
    """Published errors to set beside a split of the real 3BPA data.

    Args:
        split: Name of the split, slices allowed.

    Returns:
        Rows of the official split it belongs to, best forces first; none when it is no 3BPA test split.
    """
    official = STANDS_FOR.get(split) or re.sub(r"_dev$", "", re.sub(r"\[.*\]$", "", split))
    rows = _table()["rows"].get(official, {})
    return [
        PublishedRow(method, official, tuple(row["energy_rmse_meV"]), tuple(row["forces_rmse_meV_A"]))
        for method, row in rows.items()
    ]


def sources() -> list[str]:
    """Where the numbers are from, one line each, and under what conditions."""
    table = _table()
    return [*table["source"].values(), table["conditions"]]


@functools.cache
def _table() -> dict:
    return json.loads(resources.files("mace_gaunt.evaluation").joinpath("published.json").read_text(encoding="utf-8"))
