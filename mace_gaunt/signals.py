"""Signals that end a process, noted and answered between two steps."""

import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any

# Of a closed terminal both kernel and shell send word, and `nohup` ignores it.
HANGUP = (signal.SIGHUP,) if hasattr(signal, "SIGHUP") else ()
ENDING = (signal.SIGTERM, signal.SIGINT, *HANGUP)
UNWINDING = (signal.SIGTERM, *HANGUP)


@contextmanager
def termination_unwinds() -> Iterator[None]:
    """Let SIGTERM and SIGHUP end the process by SystemExit, so that processes and drafts of files are cleared up.

    By default they end a process on the spot, and leave the processes it has started running. One that is answered
    otherwise, as SIGHUP is by `nohup`, stays so.
    """
    alone = threading.current_thread() is threading.main_thread()
    taken = [number for number in UNWINDING if alone and signal.getsignal(number) is signal.SIG_DFL]

    def unwind(number: int, frame: FrameType | None) -> None:
        for other in taken:
            # A second SIGTERM does not wait for the clearing up.
            signal.signal(other, after_the_first(other))
        raise SystemExit(128 + number)

    for number in taken:
        signal.signal(number, unwind)
    try:
        yield
    finally:
        for number in taken:
            signal.signal(number, signal.SIG_DFL)


def after_the_first(number: int) -> signal.Handlers:
    """What answers a signal once the process is ending: the default, but for the second word of a closed terminal."""
    return signal.SIG_IGN if number in HANGUP else signal.SIG_DFL


class StopSignals:
    """In a `with`, the first signal is noted instead of ending the process; a second one ends it, unless it is SIGHUP.

    A SIGHUP that is ignored, as under `nohup`, stays so. In threads other than the main one, where Python cannot take
    signals, nothing is changed.

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
                if number not in HANGUP or signal.getsignal(number) is not signal.SIG_IGN:
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
            signal.signal(taken, after_the_first(taken))
        self.noted()
