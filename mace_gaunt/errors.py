"""The one error that is the user's to mend."""

import difflib
from collections.abc import Iterable

MOST_NAMES = 40
"""That a hint lists."""


class UserError(ValueError):
    """A mistake in a configuration, a file or a structure; its message is ready for the terminal."""


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint that names the nearest known word.

    Args:
        name: The word that was not found.
        known: The words that exist.

    Returns:
        " Did you mean 'x'?" or, when nothing is near, " Known: a, b, c.", MOST_NAMES of them at most
    """
    names = sorted(str(word) for word in known)
    close = difflib.get_close_matches(name, names, n=1)
    if close:
        return f" Did you mean '{close[0]}'?"
    more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    return f" Known: {', '.join(names[:MOST_NAMES])}{more}." if names else ""
