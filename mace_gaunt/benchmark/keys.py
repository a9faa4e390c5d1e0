"""Keys of the benchmarks: how the text of each is read, and what it says in the help. Imports nothing heavy."""

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from mace_gaunt.errors import UserError, nearest

MOST_NUMBERS = 100_000
"""Of one key; a longer range is a mistake, and would fill the memory."""
MOST_DIGITS = 18


@dataclass(frozen=True)
class Key:
    """One key of a command line.

    Attributes:
        read: Text of the value -> value; raises UserError with the rest of the sentence "KEY=TEXT is not possible: ".
        what: Its line in the help.
    """

    read: Callable[[str], Any]
    what: str


def read_pairs(pairs: Iterable[tuple[str, str]], keys: Mapping[str, Key], command: str) -> dict[str, Any]:
    """Values of the keys of a command line.

    Args:
        pairs: (key, text) in their order.
        keys: The keys there are.
        command: Named in messages.

    Returns:
        Key -> value.

    Raises:
        UserError: If a key does not exist or its value is not possible.
    """
    values = {}
    for name, text in pairs:
        if name not in keys:
            raise UserError(f"no key '{name}' in '{command}'.{nearest(name, keys)}")
        try:
            values[name] = keys[name].read(text.strip())
        except UserError as error:
            raise UserError(f"{name}={text} is not possible: {error}") from error
    return values


def describe(keys: Mapping[str, Key]) -> str:
    """One line per key, for the help."""
    return "\n".join(f"  {name:16} {key.what}" for name, key in keys.items())


def integers(least: int) -> Callable[[str], tuple[int, ...]]:
    """Reads numbers and ranges: "1,2,5", "[1,2,5]", "1..4" or "1..4,6"; each once, ascending."""

    def read(text: str) -> tuple[int, ...]:
        found: set[int] = set()
        for part in split(text):
            match = re.fullmatch(rf"(\d{{1,{MOST_DIGITS}}})(?:\.\.(\d{{1,{MOST_DIGITS}}}))?", part)
            if not match:
                raise UserError("expected whole numbers such as 1,2,5 or a range such as 1..4.")
            first, last = int(match[1]), int(match[2] or match[1])
            if first > last:
                raise UserError(f"the range {part} is empty.")
            if last - first >= MOST_NUMBERS:
                raise UserError(f"the range {part} has more than {MOST_NUMBERS} numbers.")
            found.update(range(first, last + 1))
        if min(found) < least:
            raise UserError(f"expected numbers of at least {least}.")
        return tuple(sorted(found))

    return read


def integer(least: int) -> Callable[[str], int]:
    """Reads one number."""

    def read(text: str) -> int:
        if not text.isdecimal() or len(text) > MOST_DIGITS or int(text) < least:
            raise UserError(f"expected a whole number of at least {least}.")
        return int(text)

    return read


def positive(text: str) -> float:
    """Reads a positive number."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0.0 < value < math.inf:
        raise UserError("expected a positive number.")
    return value


def flag(text: str) -> bool:
    """Reads true or false."""
    known = {"true": True, "false": False}
    if text.lower() not in known:
        raise UserError("expected true or false.")
    return known[text.lower()]


def word(text: str) -> str:
    """Reads a word, such as a path."""
    if not text:
        raise UserError("it is empty.")
    return text


def words(text: str) -> tuple[str, ...]:
    """Reads words with commas between them, "all" for every one there is."""
    return () if text == "all" else tuple(dict.fromkeys(split(text)))


def choice(*known: str) -> Callable[[str], str]:
    """Reads one of some words."""

    def read(text: str) -> str:
        if text not in known:
            raise UserError(f"no '{text}'.{nearest(text, known)}")
        return text

    return read


def choices(*known: str) -> Callable[[str], tuple[str, ...]]:
    """Reads several of some words, in their own order; "all" for every one."""

    def read(text: str) -> tuple[str, ...]:
        found = [choice(*known)(part) for part in split(text)] if text != "all" else known
        return tuple(name for name in known if name in found)

    return read


def split(text: str) -> list[str]:
    """The parts between commas, with or without brackets around them."""
    inner = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    parts = [part.strip() for part in inner.split(",")]
    if not all(parts):
        raise UserError("it is empty, or has a comma too many.")
    return parts
