"""LMDB files whose records have numbers as keys: the order, what is missing, what is too many."""

from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from mace_gaunt.data.sources.lmdb_pages import DamagedPageError, LmdbFile, Place

MISSING = -1
NO_PAGE = -1


@dataclass
class Slots:
    """The records of a file, by number.

    Attributes:
        numbers: Number of each, shape [n], rising.
        places: Offset, size and overflow page of each value, shape [n, 3]; offset -1 where the number is missing.
        problems: What is wrong beside missing numbers; each stands for records that may be lost.
        others: Key -> place of what has no number.
    """

    numbers: np.ndarray
    places: np.ndarray
    problems: list[str]
    others: dict[bytes, Place] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.places) + len(self.problems)

    def place(self, index: int) -> Place | None:
        """Where the value of a record is, None when it is missing."""
        offset, size, page = (int(n) for n in self.places[index])
        return None if offset == MISSING else Place(offset, size, None if page == NO_PAGE else page)

    def forget(self, deleted: Sequence[int]) -> None:
        """Take out numbers that are missing because their records were deleted."""
        kept = (self.places[:, 0] != MISSING) | ~np.isin(self.numbers, np.array(deleted, dtype=np.int64))
        self.numbers, self.places = self.numbers[kept], self.places[kept]


def find_slots(file: LmdbFile, is_side_key: Callable[[bytes], bool]) -> Slots:
    """Sort the records of a file by their numbers.

    Args:
        file: The file.
        is_side_key: Whether a key that is not a number is something else than a damaged one.

    Returns:
        The records; a number that is missing between the first and the last has a slot too.
    """
    numbers, places = array("q"), array("q")
    problems: list[str] = []
    others: dict[bytes, Place] = {}
    n_found = 0
    for entry in file.entries():
        if isinstance(entry, DamagedPageError):
            problems.append(str(entry))
            continue
        key, place = entry
        n_found += 1
        if key.isdigit() and len(key) <= 18:
            numbers.append(int(key))
            places.extend((place.offset, place.size, NO_PAGE if place.overflow is None else place.overflow))
        elif is_side_key(key):
            others[key] = place
        else:
            problems.append(f"key {key[:40]!r} is neither a number nor the name of something known")
    if n_found != file.n_entries and not problems:
        problems.append(f"{n_found} entries were found, but the file says that it has {file.n_entries}")
    return _arrange(
        np.array(numbers, dtype=np.int64), np.array(places, dtype=np.int64).reshape(-1, 3), problems, others
    )


def _arrange(numbers: np.ndarray, places: np.ndarray, problems: list[str], others: dict[bytes, Place]) -> Slots:
    if not len(numbers):
        return Slots(numbers, places, problems, others)
    order = np.argsort(numbers, kind="stable")
    numbers, places = numbers[order], places[order]
    again = np.flatnonzero(np.diff(numbers) == 0)
    problems += [f"two records have the number {numbers[i]}" for i in again]
    keep = np.setdiff1d(np.arange(len(numbers)), again + 1)
    # A damaged key can be a number far behind all others.
    far = numbers[keep] - numbers[keep[0]] >= 2 * len(numbers) + 1000
    problems += [f"key {numbers[i]}: no other number is near" for i in keep[far]]
    keep = keep[~far]
    every = np.arange(numbers[keep[0]], numbers[keep[-1]] + 1)
    slots = np.full((len(every), 3), MISSING, dtype=np.int64)
    slots[numbers[keep] - every[0]] = places[keep]
    return Slots(every, slots, problems, others)


def read_slots(file: LmdbFile, slots: Slots, start: int, stop: int) -> Iterator[tuple[int, bytes | str]]:
    """Values of records, in order.

    Args:
        file: The file.
        slots: Its records.
        start: First one.
        stop: The one after the last.

    Yields:
        Position and value of each, or the reason why it cannot be had; problems come last.
    """
    n_places = len(slots.places)
    with file.path.open("rb") as stream:
        for index in range(start, min(stop, n_places)):
            place = slots.place(index)
            if place is None:
                yield index, f"key {slots.numbers[index]} is missing"
                continue
            try:
                yield index, file.read(stream.fileno(), place)
            except DamagedPageError as error:
                yield index, f"key {slots.numbers[index]}: {error}"
    for index in range(max(start, n_places), min(stop, len(slots))):
        yield index, slots.problems[index - n_places]
