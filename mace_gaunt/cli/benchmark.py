"""`mace-gaunt benchmark`: the verb is reserved."""

import sys

MESSAGE = "no benchmark is available in this version yet"


def help_text() -> str:
    """What `mace-gaunt benchmark --help` prints."""
    return f"mace-gaunt benchmark: {MESSAGE}."


def run(argv: list[str]) -> int:
    """Say that there is nothing to run.

    Args:
        argv: The words after the verb; ignored.

    Returns:
        Exit status 2.
    """
    print(f"error: {MESSAGE}.", file=sys.stderr)
    return 2
