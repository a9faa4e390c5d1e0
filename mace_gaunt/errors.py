"""The one error that is the user's to mend."""

import difflib
from collections.abc import Iterable


class UserError(ValueError):
    """A mistake in a configuration, a file or a structure; its message is ready for the terminal."""


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint that names the nearest known word.

    Args:
        name: The word that was not found.
        known: The words that exist.

    Returns:
        " Did you mean 'x'?" or, when nothing is near, " Known: a, b, c."
    """
    names = sorted(str(word) for word in known)
    close = difflib.get_close_matches(name, names, n=1)
    if close:
        return f" Did you mean '{close[0]}'?"
    return f" Known: {', '.join(names)}." if names else ""
