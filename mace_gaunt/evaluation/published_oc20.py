"""Published errors on OC20's S2EF task."""

import functools
import json
from importlib import resources
from typing import Any


def published_s2ef() -> list[dict[str, Any]]:
    """Published means over the four validation splits, to set beside ours.

    Returns:
        Rows, best forces first: `split` holds the method, the numbers have the names and units of `OC20Metrics`.
    """
    table = _table()
    return [{"split": name, **dict(zip(table["columns"], row, strict=True))} for name, row in table["rows"].items()]


def s2ef_sources() -> list[str]:
    """Where the numbers are from, and under what conditions; one line each."""
    table = _table()
    return [table["source"], table["conditions"]]


@functools.cache
def _table() -> dict[str, Any]:
    text = resources.files("mace_gaunt.evaluation").joinpath("published_oc20.json").read_text(encoding="utf-8")
    table: dict[str, Any] = json.loads(text)
    return table
