"""Records of an LMDB file, found by reading its pages, every step checked.

Others' files are not given to the lmdb library: it maps the file into memory and trusts its pages, so that a file cut
off, or one damaged page, ends the process instead of raising an error. Source: `mdb.c` of LMDB 0.9 (data version 1).
"""

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from mace_gaunt.errors import UserError

MAGIC, VERSION = 0xBEEFC0DE, 1
PAGE_HEADER = struct.Struct("<QHHHH")  # number, pad, flags, lower and upper bound of the free space
META = struct.Struct("<II8xQ 48x IHHQQQQQ QQ")  # magic, version, map size; the main tree; last page, transaction
PAGE_SIZE = struct.Struct("<I")
NODE = struct.Struct("<HHHH")  # low and high half of the size (or page), flags (or top of the page), length of the key
BRANCH, LEAF, OVERFLOW, METAPAGE = 0x01, 0x02, 0x04, 0x08
KINDS = 0x6F  # those and sub-pages; the rest of the flags are the library's notes
BIG, PLAIN = 0x01, 0x00
NO_PAGE = (1 << 64) - 1
MAX_DEPTH = 32


class DamagedPageError(ValueError):
    """A page, or a place in the file, that is not what it must be."""


class Place(NamedTuple):
    """Where a value is: `size` bytes at `offset`, behind the header of page `overflow` where that is not None."""

    offset: int
    size: int
    overflow: int | None = None


@dataclass(frozen=True)
class _Tree:
    page_size: int
    last_page: int
    root: int
    depth: int
    n_entries: int
    flags: int


class LmdbFile:
    """The main table of an LMDB file.

    Attributes:
        path: The file.
        n_entries: Number of entries that the file says it has.
    """

    def __init__(self, path: Path) -> None:
        """Read the two meta pages.

        Raises:
            UserError: If the file cannot be opened, is no LMDB file, or its meta pages are damaged.
        """
        self.path = path
        try:
            with path.open("rb") as file:
                self._tree = _read_meta(file.fileno())
        except OSError as error:
            raise UserError(f"cannot read {path}: {error.strerror}") from error
        except DamagedPageError as error:
            raise UserError(f"cannot read {path}: {error}") from error
        self.n_entries = self._tree.n_entries

    def entries(self) -> Iterator[tuple[bytes, Place] | DamagedPageError]:
        """Keys and places of values in the order of the file (lexical); damaged pages where their keys would be."""
        tree = self._tree
        if tree.root == NO_PAGE:
            return
        seen: set[int] = set()
        waiting = [(tree.root, 1)]
        with self.path.open("rb") as file:
            while waiting:
                number, level = waiting.pop()
                try:
                    if number in seen or level > tree.depth:
                        raise DamagedPageError(f"page {number}: it is reached twice")
                    seen.add(number)
                    page, flags = self._page(file.fileno(), number)
                    if bool(flags & LEAF) != (level == tree.depth):
                        raise DamagedPageError(f"page {number}: it is not at its place in the tree")
                    if flags & BRANCH:
                        waiting += [(child, level + 1) for child in reversed(_children(page, number))]
                    else:
                        yield from self._leaf(page, number)
                except DamagedPageError as error:
                    yield error

    def read(self, fd: int, place: Place) -> bytes:
        """The value at a place.

        Args:
            fd: Descriptor of the file, open for reading.
            place: One that `entries` gave.

        Raises:
            DamagedPageError: If the file ends before it, or its page is not one of large values.
        """
        if place.overflow is not None:
            header = os.pread(fd, PAGE_HEADER.size, place.offset - PAGE_HEADER.size)
            if len(header) < PAGE_HEADER.size:
                raise DamagedPageError(f"page {place.overflow} lies beyond the end of the file, which is cut off")
            number, _, flags, low, high = PAGE_HEADER.unpack(header)
            room = (low + (high << 16)) * self._tree.page_size - PAGE_HEADER.size
            if number != place.overflow or flags & KINDS != OVERFLOW or room < place.size:
                raise DamagedPageError(f"page {place.overflow}: it is not the one of a value of {place.size} bytes")
        value = os.pread(fd, place.size, place.offset)
        if len(value) < place.size:
            raise DamagedPageError(
                f"the file ends {place.size - len(value)} bytes before the end of the value: it is cut off"
            )
        return value

    def _page(self, fd: int, number: int) -> tuple[bytes, int]:
        """A branch or leaf page and its flags."""
        size = self._tree.page_size
        if number > self._tree.last_page:
            raise DamagedPageError(f"page {number}: the last one is {self._tree.last_page}")
        page = os.pread(fd, size, number * size)
        if len(page) < size:
            raise DamagedPageError(f"page {number} lies beyond the end of the file, which is cut off")
        found, _, flags, low, high = PAGE_HEADER.unpack_from(page)
        if found != number or flags & KINDS not in (BRANCH, LEAF):
            raise DamagedPageError(f"page {number}: its header is not that of a page of keys")
        if not PAGE_HEADER.size < low <= high <= size or low % 2:
            raise DamagedPageError(f"page {number}: its bounds are {low} and {high}")
        return page, flags

    def _leaf(self, page: bytes, number: int) -> Iterator[tuple[bytes, Place] | DamagedPageError]:
        size = self._tree.page_size
        for start in _nodes(page):
            try:
                low, high, flags, key_size = _node(page, start, number)
                key = page[start + NODE.size : start + NODE.size + key_size]
                data, length = start + NODE.size + key_size, low + (high << 16)
                if flags == PLAIN and data + length <= size:
                    yield key, Place(number * size + data, length)
                elif flags == BIG and data + 8 <= size:
                    target = int.from_bytes(page[data : data + 8], "little")
                    if target > self._tree.last_page:
                        raise DamagedPageError(
                            f"page {number}: the value of key {key!r} lies on page {target}, after the last"
                        )
                    yield key, Place(target * size + PAGE_HEADER.size, length, target)
                else:
                    raise DamagedPageError(
                        f"page {number}: the entry of key {key!r} has flags {flags} and {length} bytes"
                    )
            except DamagedPageError as error:
                yield error


def _nodes(page: bytes) -> tuple[int, ...]:
    """Where on a page its entries begin."""
    n_keys = (PAGE_HEADER.unpack_from(page)[3] - PAGE_HEADER.size) // 2
    return struct.unpack_from(f"<{n_keys}H", page, PAGE_HEADER.size)


def _node(page: bytes, start: int, number: int) -> tuple[int, int, int, int]:
    if start + NODE.size > len(page):
        raise DamagedPageError(f"page {number}: an entry begins at byte {start}")
    found = NODE.unpack_from(page, start)
    if start + NODE.size + found[3] > len(page):
        raise DamagedPageError(f"page {number}: the key of the entry at byte {start} has {found[3]} bytes")
    return found


def _children(page: bytes, number: int) -> list[int]:
    nodes = [_node(page, start, number) for start in _nodes(page)]
    return [low + (high << 16) + (top << 32) for low, high, top, _ in nodes]


def _read_meta(fd: int) -> _Tree:
    """The newer of the two meta pages; both must be sound, and one transaction apart."""
    head = os.pread(fd, PAGE_HEADER.size + META.size, 0)
    if len(head) < PAGE_HEADER.size + META.size or PAGE_SIZE.unpack_from(head, PAGE_HEADER.size)[0] != MAGIC:
        raise DamagedPageError("it does not begin as an LMDB file does")
    (page_size,) = PAGE_SIZE.unpack_from(head, PAGE_HEADER.size + 24)
    if page_size not in (1 << n for n in range(9, 17)):
        raise DamagedPageError(f"meta page 0: the size of a page is {page_size}")
    pages = [os.pread(fd, PAGE_HEADER.size + META.size, number * page_size) for number in (0, 1)]
    (first, tree_0), (second, tree_1) = (_meta(page, number, page_size) for number, page in enumerate(pages))
    newer = int(second > first)
    old, new = (tree_0, tree_1) if newer else (tree_1, tree_0)
    # Transaction n writes page n % 2, so that the other page holds n - 1; a new file begins with 0 in both. Files grow.
    in_turn = max(first, second) % 2 == newer and abs(first - second) == (first + second > 0)
    if not in_turn or new.last_page < old.last_page or (first == second and new != old):
        raise DamagedPageError(f"its meta pages, of transactions {first} and {second}, do not follow each other")
    return new


def _meta(page: bytes, number: int, page_size: int) -> tuple[int, _Tree]:
    """Transaction and tree of a meta page."""
    if len(page) < PAGE_HEADER.size + META.size:
        raise DamagedPageError("the file is cut off in its meta pages")
    found, _, kind, _, _ = PAGE_HEADER.unpack_from(page)
    magic, version, _, _, flags, depth, _, _, _, n_entries, root, last_page, transaction = META.unpack_from(
        page, PAGE_HEADER.size
    )
    (own_size,) = PAGE_SIZE.unpack_from(page, PAGE_HEADER.size + 24)
    if magic == MAGIC and version != VERSION:
        raise DamagedPageError(f"meta page {number}: version {version} of the format is not known, only {VERSION}")
    if magic != MAGIC or found != number or kind & KINDS != METAPAGE or own_size != page_size:
        raise DamagedPageError(f"meta page {number} is damaged")
    if flags or depth > MAX_DEPTH or (root == NO_PAGE) != (n_entries == 0) or (root != NO_PAGE and root > last_page):
        raise DamagedPageError(
            f"meta page {number}: a plain table is expected, not one of flags {flags} and depth {depth}"
        )
    return transaction, _Tree(page_size, last_page, root, depth, n_entries, flags)
