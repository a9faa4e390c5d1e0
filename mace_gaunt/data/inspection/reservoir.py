"""A random sample and the extremes of a stream of any length, in bounded memory."""

import heapq
from typing import Generic, TypeVar

import numpy as np

T = TypeVar("T")


class Reservoir(Generic[T]):
    """A uniform random sample of what was added: all of it, in order, while it fits.

    Source: Vitter, ACM Trans. Math. Softw. 11, 37 (1985), algorithm R. Seeded, so that a repetition gives the same.
    """

    def __init__(self, capacity: int, seed: int = 0) -> None:
        """Start empty.

        Args:
            capacity: Largest number of items kept.
            seed: Of the sampling.
        """
        self.capacity = capacity
        self.items: list[T] = []
        self.seen = 0
        self._random = np.random.default_rng(seed)

    def add(self, item: T) -> None:
        """Take an item, maybe in the place of another."""
        self.seen += 1
        if len(self.items) < self.capacity:
            self.items.append(item)
        elif (place := int(self._random.integers(self.seen))) < self.capacity:
            self.items[place] = item

    @property
    def is_complete(self) -> bool:
        """Whether it holds everything that was added."""
        return self.seen == len(self.items)


class Largest(Generic[T]):
    """The largest values of a stream, each with something about it; of equal values the first."""

    def __init__(self, capacity: int) -> None:
        """Start empty.

        Args:
            capacity: Number of values kept.
        """
        self.capacity = capacity
        self._seen = 0
        self._heap: list[tuple[float, int, T]] = []

    def add(self, value: float, item: T) -> None:
        """Take a value and what belongs to it; one that is no number is passed over."""
        if value != value:
            return
        self._seen += 1
        entry = (value, -self._seen, item)
        if len(self._heap) < self.capacity:
            heapq.heappush(self._heap, entry)
        else:
            heapq.heappushpop(self._heap, entry)

    def items(self) -> list[tuple[float, T]]:
        """(value, what belongs to it), the largest first."""
        return [(value, item) for value, _, item in sorted(self._heap, reverse=True, key=lambda entry: entry[:2])]
