"""Guard against libraries that change the environment of the process when they are imported."""

import os
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def unchanged_environment() -> Iterator[None]:
    """Put the environment variables back as they were: importing this program sets none."""
    before = dict(os.environ)
    try:
        yield
    finally:
        for name in set(os.environ) - set(before):
            del os.environ[name]
        os.environ.update(before)
