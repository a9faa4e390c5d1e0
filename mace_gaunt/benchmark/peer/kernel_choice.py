"""kernel=: which kernels of ours run beside each other. Imports nothing heavy: the help reads it."""

import re
from collections.abc import Collection, Mapping

from mace_gaunt.benchmark.keys import split
from mace_gaunt.errors import UserError, nearest

AUTO = "auto"
PLACES = ("edge", "node")
Known = Mapping[str, Collection[str]]
"""Place -> kernels of a family there."""


def kernel_choices(text: str) -> tuple[str, ...]:
    """Reads several of "auto", names and {edge:NAME,node:NAME}, with commas between; each once, in their order."""
    whole = text.replace(" ", "").removeprefix("[").removesuffix("]")
    # Commas outside of braces only.
    parts = re.split(r",(?![^{]*\})", whole)
    for part in parts:
        kernel_choice(part)
    return tuple(dict.fromkeys(parts))


def kernel_choice(text: str) -> str | dict[str, str]:
    """One of them as `model.kernels.use_kernels` takes it.

    Args:
        text: The choice.

    Raises:
        UserError: If it is neither a word nor places with their kernels.
    """
    if re.fullmatch(r"\w+", text):
        return text
    match = re.fullmatch(r"\{(.*)\}", text)
    pairs = [part.partition(":")[::2] for part in split(match[1])] if match else []
    if not pairs or not all(place in PLACES and re.fullmatch(r"\w+", name) for place, name in pairs):
        raise UserError(
            "expected kernels with commas between: auto, a name such as grid, or {edge:NAME,node:NAME} (in quotes)."
        )
    return dict(pairs)


def suits(text: str, known: Known) -> bool:
    """Whether a family has the kernels of a choice.

    Args:
        text: The choice.
        known: Of the family.
    """
    choice = kernel_choice(text)
    if isinstance(choice, str):
        return choice == AUTO or any(choice in names for names in known.values())
    return all(name == AUTO or name in known[place] for place, name in choice.items())


def check_kernels(choices: Collection[str], families: Mapping[str, Known]) -> None:
    """Refuse a choice that no family has.

    Args:
        choices: The choices.
        families: Family -> its kernels.

    Raises:
        UserError: Naming the nearest.
    """
    for text in choices:
        if not any(suits(text, known) for known in families.values()):
            names = {name for known in families.values() for place in PLACES for name in known[place]}
            has = f"{', '.join(families)} {'has' if len(families) == 1 else 'have'}"
            raise UserError(f"kernel={text} is not possible: {has} no such kernel.{nearest(text, names)}")
