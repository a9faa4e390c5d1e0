"""Errors of libraries as reasons."""


def reason_of(error: BaseException) -> str:
    """The kind of an error and its first line, short enough for a message."""
    text = next(iter(str(error).strip().splitlines()), "")
    return f"{type(error).__name__}: {text[:300]}" if text else type(error).__name__
