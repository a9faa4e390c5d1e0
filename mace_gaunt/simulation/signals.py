"""SIGTERM and SIGINT, noted and answered between two steps."""

import signal
import threading
from types import FrameType, TracebackType
from typing import Any


class StopSignals:
    """In a `with`, the first SIGTERM or SIGINT is noted instead of ending the process; a second one ends it.

    In threads other than the main one, where Python cannot take signals, nothing is changed.

    Attributes:
        received: The signal, or None.
    """

    def __init__(self) -> None:
        """Nothing is changed yet."""
        self.received: signal.Signals | None = None
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "StopSignals":
        """Begin to take signals."""
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave signals to whoever took them before."""
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @property
    def name(self) -> str | None:
        """Name of the signal, or None."""
        return None if self.received is None else self.received.name

    def raise_received(self) -> None:
        """End as a process ends that is sent the signal.

        Raises:
            KeyboardInterrupt: After SIGINT.
            SystemExit: After SIGTERM, with status 143.
        """
        if self.received == signal.SIGINT:
            raise KeyboardInterrupt
        if self.received is not None:
            raise SystemExit(128 + self.received)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.received = signal.Signals(number)
        for taken in self._before:
            signal.signal(taken, signal.SIG_DFL)
