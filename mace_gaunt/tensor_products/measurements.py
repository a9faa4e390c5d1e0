"""What `kernel=auto` measured, kept in memory and, between runs, in a small file."""

import json
from contextlib import suppress
from pathlib import Path

from mace_gaunt.cache import cache_folder, writable_folder
from mace_gaunt.files import write_whole

FILE = "kernels.json"

_memory: dict[str, dict[str, float]] = {}


def cache_file() -> Path:
    """Where measurements are kept between runs; see `cache_folder`."""
    return cache_folder() / FILE


def recall(key: str) -> dict[str, float] | None:
    """An earlier measurement, from this process or an earlier one."""
    if key not in _memory:
        _memory.update({found: times for found, times in read_cache().items() if found not in _memory})
    return _memory.get(key)


def read_cache() -> dict[str, dict[str, float]]:
    """The file's content; nothing where it is absent or was damaged."""
    try:
        content = json.loads(cache_file().read_text(encoding="utf-8"))
        return {str(key): {str(n): float(t) for n, t in times.items()} for key, times in content.items()}
    except (OSError, ValueError, AttributeError, TypeError, RuntimeError):  # RuntimeError: a user without a home
        return {}


def remember(key: str, times: dict[str, float]) -> None:
    """Keep a measurement; a home that cannot be written to costs the next process a second, no more."""
    _memory[key] = times
    if (folder := writable_folder()) is None:
        return
    with suppress(OSError):
        write_whole(folder / FILE, json.dumps({**read_cache(), key: times}, indent=1))
