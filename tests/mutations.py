"""Damage at random, and a driver that gives it to a reader: the same seed, the same damage."""

import random
import re
import resource
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mace_gaunt.errors import UserError

# Mutations of each kind in the usual suite, and in the slow one.
COUNTS = (150, pytest.param(10_000, marks=pytest.mark.slow))
# Where reading takes tens of milliseconds.
FEWER = (25, pytest.param(2000, marks=pytest.mark.slow))
SECONDS = 10
"""Of the processor, for one mutation; a reader takes milliseconds."""
MEGABYTES = 512
"""Of address space that reading one may take beyond what the process has."""

NUMBER = re.compile(rb"[-+]?\d+(?:\.\d*)?(?:[eE][-+]?\d+)?")
NUMBERS = (
    *(b"nan", b"-inf", b"inf", b"1e400", b"-1e400", b"-0", b"-0.0", b"0", b"1", b"-1", b"2", b"1e19"),
    *(b"1e-320", b"1e308", b"1e", b".", b"-"),
    *(b"9" * 8, b"9" * 20, b"9" * 400, b"9" * 5000, b"0x_", b"0b2", b"1_000", b"1.2.3", b"1:60:60"),
    *(b"4294967296", b"-9223372036854775809", b"true", b"null", b'""', b"[]", b"{}", "٣".encode(), "½".encode()),
)  # fmt: skip
PIECES = (
    *("é", "\u2028", "\u202e", "\ufeff", "💧", "\ud800", "\x00", "\x1b[31m", "\t", "\r", "\r\n", "\n\n", " " * 300),
    *("'", '"', "\\", "\\u0000", "\\ud800", "#", "&a ", "*a ", "!!python/object:os.system ", "!!binary ", "<<: ", "? "),
    *("{", "}", "[", "]", ",", ": ", "- ", "=", "${", "${seed}", "${oc.env:HOME}", "%", "~", "|\n", ">\n", "---\n"),
)  # fmt: skip
NESTS = (b"[", b"{", b'{"a":', b"- ", b"{a: ", b"'", b'"', b"(", b"]", b"!!set {", b"? ")


class Mutator:
    """Damages content, in one to three places.

    Args:
        seed: Of the damage.
    """

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.kinds: tuple[Callable[[bytearray], None], ...] = (
            *(self.flip, self.overwrite, self.delete, self.insert, self.duplicate, self.truncate, self.swap),
            *(self.blank, self.edit_number, self.edit_number, self.edit_text, self.drop_line, self.nest),
        )  # fmt: skip

    def __call__(self, content: bytes) -> bytes:
        """Damaged content, never the same."""
        while True:
            data = bytearray(content)
            for _ in range(self.random.choice((1, 1, 1, 2, 3))):
                self.random.choice(self.kinds)(data)
            if data != content:
                return bytes(data)

    def flip(self, data: bytearray) -> None:
        """Single bits."""
        for _ in range(self.random.randint(1, 4) if data else 0):
            data[self.random.randrange(len(data))] ^= 1 << self.random.randrange(8)

    def overwrite(self, data: bytearray) -> None:
        """A few bytes with random or extreme ones."""
        start, end = self._part(data, 8)
        data[start:end] = self.random.choice((self.random.randbytes(end - start), b"\xff" * (end - start)))

    def delete(self, data: bytearray) -> None:
        """A part."""
        start, end = self._part(data)
        del data[start:end]

    def insert(self, data: bytearray) -> None:
        """Random bytes."""
        start, _ = self._part(data)
        data[start:start] = self.random.randbytes(self.random.choice((1, 2, 4, 100)))

    def duplicate(self, data: bytearray) -> None:
        """A part, right behind itself."""
        start, end = self._part(data)
        data[start:start] = data[start:end] * self.random.choice((1, 1, 20))

    def truncate(self, data: bytearray) -> None:
        """The end."""
        del data[self._part(data)[0] :]

    def swap(self, data: bytearray) -> None:
        """Two parts."""
        (a, b), (c, d) = sorted((self._part(data), self._part(data)))
        if b <= c:
            data[a:d] = data[c:d] + data[b:c] + data[a:b]

    def blank(self, data: bytearray) -> None:
        """A part becomes zeros."""
        start, end = self._part(data)
        data[start:end] = bytes(end - start)

    def edit_number(self, data: bytearray) -> None:
        """A number that is written in digits, or one digit of it."""
        start, _ = self._part(data)
        found = NUMBER.search(data, start) or NUMBER.search(data)
        if found is None:
            return
        digits = [k for k in range(found.start(), found.end()) if 48 <= data[k] < 58]
        if self.random.random() < 0.5:
            data[self.random.choice(digits)] = self.random.randrange(48, 58)
        else:
            data[found.start() : found.end()] = self.random.choice(NUMBERS)

    def edit_text(self, data: bytearray) -> None:
        """Signs that mean something in a format or in Unicode."""
        start, end = self._part(data, 3)
        piece = self.random.choice(PIECES).encode("utf-8", "surrogatepass")
        data[start : self.random.choice((start, end))] = piece

    def drop_line(self, data: bytearray) -> None:
        """A line, or its place among the lines."""
        lines = data.splitlines(keepends=True)
        if lines:
            line = lines.pop(self.random.randrange(len(lines)))
            if self.random.random() < 0.5:
                lines.insert(self.random.randint(0, len(lines)), line)
            data[:] = b"".join(lines)

    def nest(self, data: bytearray) -> None:
        """Brackets in brackets."""
        start, _ = self._part(data)
        data[start:start] = self.random.choice(NESTS) * self.random.choice((1, 3, 50, 3000))

    def _part(self, data: bytearray, longest: int = 4096) -> tuple[int, int]:
        start = self.random.randrange(len(data)) if data else 0
        sizes = [size for size in (1, 2, 8, 64, 512, 4096) if size <= longest]
        return start, min(start + self.random.choice(sizes), len(data))


class HangError(BaseException):
    """A mutation took too long; no `except Exception` swallows it."""


@contextmanager
def bounded() -> Iterator[None]:
    """Bounds on processor time and memory."""

    def stop(*_: object) -> None:
        raise HangError(f"more than {SECONDS} s of the processor")

    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    before = signal.signal(signal.SIGVTALRM, stop)
    resource.setrlimit(resource.RLIMIT_AS, (used + (MEGABYTES << 20), hard))
    # Time of this process, not of the clock: other work on the machine does not count.
    signal.setitimer(signal.ITIMER_VIRTUAL, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
        signal.signal(signal.SIGVTALRM, before)


def survive(
    content: bytes,
    read: Callable[[bytes], str],
    count: int,
    seed: int = 0,
    refusal: type[Exception] = UserError,
) -> Counter[str]:
    """Damage content again and again and read it.

    Args:
        content: What is damaged; as it is, it must be "sound".
        read: Reads content, checks what it gives, and says in a word what came of it.
        count: How often.
        seed: Of the damage.
        refusal: What the reader may raise, which is counted as "refused"; anything else, a hang and a need of much
            memory fail the test, with the number of the mutation.

    Returns:
        How often what came of it.
    """
    # Outside of the bounds: what a reader imports, it has imported then.
    assert read(content) == "sound", "what is not damaged is not read"
    mutate = Mutator(seed)
    outcomes: Counter[str] = Counter()
    for turn in range(count):
        damaged = mutate(content)
        try:
            with bounded():
                outcome = read(damaged)
        except refusal as error:
            assert str(error), f"mutation {turn} of seed {seed} is refused without a word"
            outcome = "refused"
        except (Exception, HangError) as error:
            raise AssertionError(
                f"mutation {turn} of seed {seed}: {type(error).__name__}: {str(error)[:500]}"
            ) from error
        outcomes[outcome] += 1
    return outcomes
