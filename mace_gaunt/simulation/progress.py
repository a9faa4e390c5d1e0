"""One line that tells how far a long job is."""

import sys
import time
from typing import TextIO


class ProgressLine:
    """A line on stderr: redrawn on a terminal, printed now and then into a file.

    Attributes:
        done: Units of work finished.
    """

    # Seconds between two lines: a terminal can redraw often, a log file should stay short.
    TERMINAL_INTERVAL = 0.2
    FILE_INTERVAL = 30.0

    def __init__(self, total: int, name: str, unit: str, enabled: bool = True, stream: TextIO | None = None) -> None:
        """Start the clock.

        Args:
            total: Units of work in all.
            name: First word of the line.
            unit: What is counted, such as "steps".
            enabled: False prints nothing.
            stream: Where to; stderr by default.
        """
        self.total, self.name, self.unit, self.enabled = total, name, unit, enabled
        self.done = self._skipped = 0
        self._stream = stream or sys.stderr
        self._terminal = self._stream.isatty()
        self._start = self._last = time.perf_counter()

    @property
    def rate(self) -> float:
        """Units per second since the start, 0 before the first."""
        elapsed = time.perf_counter() - self._start
        return (self.done - self._skipped) / elapsed if elapsed > 0 else 0.0

    def skip(self, done: int) -> None:
        """Start the clock anew with work that was done before.

        Args:
            done: Units of work finished earlier.
        """
        self.done = self._skipped = done
        self._start = self._last = time.perf_counter()

    def update(self, done: int, note: str = "") -> None:
        """Tell how far it is; draws only when enough time has passed.

        Args:
            done: Units of work finished.
            note: Further words for the line.
        """
        self.done = done
        now = time.perf_counter()
        interval = self.TERMINAL_INTERVAL if self._terminal else self.FILE_INTERVAL
        if self.enabled and now - self._last >= interval:
            self._last = now
            self._draw(note)

    def close(self, note: str = "") -> None:
        """Draw a last time and end the line; into a file only when something was done.

        Args:
            note: Further words for the line.
        """
        if self.enabled and (self._terminal or self.done > self._skipped):
            self._draw(note)
            if self._terminal:
                print(file=self._stream)

    def _draw(self, note: str) -> None:
        rate = self.rate
        left = (self.total - self.done) / rate if rate > 0 else float("inf")
        words = [f"{self.name} {self.done}/{self.total} {self.unit}", f"{rate:.3g} {self.unit}/s"]
        words += [note] if note else []
        words += [f"{_clock(left)} left"] if self.done < self.total else []
        line = ", ".join(words)
        # \x1b[2K clears what a longer line before it left behind.
        print(f"\r\x1b[2K{line}" if self._terminal else line, end="" if self._terminal else "\n", file=self._stream)
        self._stream.flush()


def _clock(seconds: float) -> str:
    if seconds == float("inf"):
        return "?"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}"
