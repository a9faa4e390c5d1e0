"""The text of a value on the command line -> a value, with Hydra's grammar and a plain reading where that fails."""

from dataclasses import dataclass
from typing import Any

from mace_gaunt.errors import UserError

DEEPEST = 50
"""Brackets in each other; a value has some three."""


@dataclass(frozen=True)
class Sweep:
    """Several values to run one after the other, such as `gaunt,clebsch_gordan` or `range(0,3)`.

    Attributes:
        text: As written; Hydra's sweeper reads it.
        choices: The values, when they are a plain list of words.
    """

    text: str
    choices: tuple[Any, ...]


def parse_value(text: str) -> Any:
    """Read a value.

    Hydra's grammar reads numbers, true, null, [lists], {dicts: 1}, 'quotes' and sweeps. What it cannot read, such as
    `train_mixedT[334:]`, `a=b` or a path with brackets, is a plain word here.

    Args:
        text: What stands behind the first `=`.

    Returns:
        A number, string, bool, None, list, dict, or a `Sweep`.

    Raises:
        UserError: If quotes or brackets are not closed, or too many are in each other.
    """
    if _depth(text) > DEEPEST:
        raise UserError(f"cannot read the value {text[:60]}...: more than {DEEPEST} brackets are in each other.")
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    try:
        override = OverridesParser.create().parse_override(f"key={text}")
    except (HydraException, ValueError):  # ValueError: a number of more digits than Python reads
        return _parse_plain(text)
    if not override.is_sweep_override():
        return _plain(override.value())
    choices = tuple(_unquoted(part) for part in _split(text)) if "(" not in text else ()
    return Sweep(text, choices)


def _parse_plain(text: str) -> Any:
    """Lists whose elements Hydra's grammar refuses, and words."""
    text = text.strip()
    if not text.startswith(("[", "{", "'", '"')):
        parts = _split(text)
        return Sweep(text, tuple(parts)) if len(parts) > 1 else text
    if text.startswith("[") and text.endswith("]"):
        return [parse_value(part) for part in _split(text[1:-1])]
    if text.startswith("{") and text.endswith("}"):
        pairs = [part.partition(":") for part in _split(text[1:-1])]
        if all(key.strip() and colon for key, colon, _ in pairs):
            return {_unquoted(key.strip()): parse_value(value.strip()) for key, _, value in pairs}
    raise UserError(
        f"cannot read the value {text}: brackets or quotes are not closed, or a dict is not {{key: value}}."
    )


def _split(text: str) -> list[str]:
    """Split at the commas that stand in no bracket and no quote."""
    parts, depth, quote = [""], 0, ""
    for letter in text:
        if quote or letter in "'\"":
            quote = "" if letter == quote else quote or letter
        depth += (letter in "[{(") - (letter in "]})") if not quote else 0
        if letter == "," and depth == 0 and not quote:
            parts.append("")
        else:
            parts[-1] += letter
    return [part.strip() for part in parts if part.strip()]


def _depth(text: str) -> int:
    """How many brackets are open at once; those in quotes count, too."""
    depth = most = 0
    for letter in text:
        depth += (letter in "[{(") - (letter in "]})")
        most = max(most, depth)
    return most


def _unquoted(word: str) -> str:
    return word[1:-1] if len(word) > 1 and word[0] == word[-1] and word[0] in "'\"" else word


def _plain(value: Any) -> Any:
    """Hydra's quoted strings as plain ones."""
    if isinstance(value, list):
        return [_plain(entry) for entry in value]
    if isinstance(value, dict):
        return {_plain(key): _plain(entry) for key, entry in value.items()}
    return getattr(value, "text", value)
