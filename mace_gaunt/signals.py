"""Signals that end a process, noted and answered between two steps."""

import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any

ENDING = (signal.SIGTERM, signal.SIGINT)


@contextmanager
def termination_unwinds() -> Iterator[None]:
    """Let SIGTERM end the process by SystemExit, so that other processes and drafts of files are cleared up.

    By default it ends a process on the spot, and leaves the processes it has started running.
    """

    def unwind(number: int, frame: FrameType | None) -> None:
        # A second one does not wait for the clearing up.
        signal.signal(number, signal.SIG_DFL)
        raise SystemExit(128 + number)

    alone = threading.current_thread() is threading.main_thread()
    if not alone or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, unwind)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


class StopSignals:
    """In a `with`, the first signal is noted instead of ending the process; a second one ends it.

    In threads other than the main one, where Python cannot take signals, nothing is changed.

    Args:
        numbers: The signals.
        noted: Called when one has been noted; may raise what ends the process at once.

    Attributes:
        received: The signal, or None.
    """

    def __init__(self, numbers: Sequence[signal.Signals] = ENDING, noted: Callable[[], None] = lambda: None) -> None:
        """Nothing is changed yet."""
        self.numbers, self.noted = numbers, noted
        self.received: signal.Signals | None = None
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "StopSignals":
        """Begin to take signals."""
        if threading.current_thread() is threading.main_thread():
            for number in self.numbers:
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave signals to whoever took them before."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    @property
    def name(self) -> str | None:
        """Name of the signal, or None."""
        return None if self.received is None else self.received.name

    def raise_received(self) -> None:
        """End as a process ends that is sent the signal.

        Raises:
            KeyboardInterrupt: After SIGINT.
            SystemExit: After another one, with status 128 + its number (143 for SIGTERM).
        """
        if self.received == signal.SIGINT:
            raise KeyboardInterrupt
        if self.received is not None:
            raise SystemExit(128 + self.received)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.received = signal.Signals(number)
        for taken in self._before:
            signal.signal(taken, signal.SIG_DFL)
        self.noted()
