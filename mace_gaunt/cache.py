"""Where results that are worth keeping between runs lie: compiled code, measurements."""

import os
from pathlib import Path


def cache_folder() -> Path:
    """$XDG_CACHE_HOME/mace_gaunt, by default ~/.cache/mace_gaunt; nothing is made.

    Raises:
        RuntimeError: For a user without a home who has not set XDG_CACHE_HOME.
    """
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path("~/.cache").expanduser()) / "mace_gaunt"


def writable_folder(*names: str) -> Path | None:
    """A folder inside, made unless it is there.

    Args:
        names: Of the folder and those around it, outermost first; none for the whole.

    Returns:
        None where nothing can be written.
    """
    try:
        folder = cache_folder().joinpath(*names)
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError):  # RuntimeError: a user without a home
        return None
    return folder if os.access(folder, os.W_OK) else None
