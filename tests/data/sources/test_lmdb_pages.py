"""The reader of LMDB pages finds what the lmdb library finds, and survives what ends a process that uses that."""

import lmdb
import pytest
from oc20_files import make_slab, write_lmdb, write_ocp_lmdb

from mace_gaunt.data.sources.contract import BadRecord
from mace_gaunt.data.sources.discovery import open_source
from mace_gaunt.data.sources.lmdb_pages import DamagedPageError, LmdbFile
from mace_gaunt.errors import UserError

PAGE = 4096


def contents(path):
    file = LmdbFile(path)
    with path.open("rb") as stream:
        return [(key, file.read(stream.fileno(), place)) for key, place in file.entries()]


@pytest.mark.parametrize("n_entries", [0, 1, 2, 50, 700, 5000])
def test_same_entries_as_the_library(tmp_path, n_entries):
    sizes = [0, 1, 100, 2000, 2040, 5000, 40_000]
    entries = {b"%d" % i: bytes([i % 251]) * sizes[i % (3 if n_entries > 700 else 7)] for i in range(n_entries)}
    path = write_lmdb(tmp_path / "a.lmdb", entries)
    assert contents(path) == sorted(entries.items())
    assert LmdbFile(path).n_entries == n_entries


def test_a_file_with_a_history(tmp_path):
    path = str(tmp_path / "a.lmdb")
    with lmdb.open(path, subdir=False, map_size=1 << 22, lock=False) as environment:
        for turn in range(5):
            with environment.begin(write=True) as transaction:
                for i in range(turn * 40, turn * 40 + 80):
                    transaction.put(b"%d" % i, b"%d" % turn * 300)
                transaction.delete(b"%d" % (turn * 40 + 7))
        with environment.begin() as transaction:
            expected = list(transaction.cursor())
    assert contents(tmp_path / "a.lmdb") == expected


@pytest.fixture
def path(tmp_path):
    return write_ocp_lmdb(tmp_path / "a.lmdb", [make_slab(i) for i in range(8)], length=8)


def read(path):
    records = list(open_source(path).read())
    return [isinstance(record, BadRecord) for record in records], [str(r) for r in records if isinstance(r, BadRecord)]


def test_a_file_that_is_cut_off_gives_what_is_left(path):
    content = path.read_bytes()
    n_good = []
    for n_pages in range(len(content) // PAGE - 1, 2, -1):
        path.write_bytes(content[: n_pages * PAGE - 100])
        try:
            bad, reasons = read(path)
        except UserError as error:
            assert "cannot read" in str(error)
            continue
        n_good.append(bad.count(False))
        assert any(bad) and all("cut off" in reason for reason in reasons)
    assert n_good[0] == 7 and n_good == sorted(n_good, reverse=True)


@pytest.mark.parametrize("size", [0, 1, 100, PAGE, PAGE + 10, 2 * PAGE])
def test_a_file_without_its_first_pages(path, size):
    path.write_bytes(path.read_bytes()[:size])
    try:
        bad, reasons = read(path)
    except UserError as error:
        assert str(path) in str(error)
    else:
        assert all(bad) and "cut off" in reasons[0]


def change(path, position, value):
    content = bytearray(path.read_bytes())
    content[position : position + len(value)] = value
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("position", "value"),
    [
        (16, b"\0"),  # magic of the first meta page
        (PAGE + 16, b"\0"),
        (PAGE + 20, b"\7"),  # version
        (PAGE + 10, b"\2\0"),  # flags
        (40, b"\0\1"),  # size of a page
        (PAGE + 94, b"\xff"),  # depth of the tree
        (PAGE + 144, b"\0"),  # transaction: an older state would be read
        (PAGE + 144, b"\6"),
        (144, b"\2"),  # the empty state of the beginning would be read
    ],
)
def test_damaged_meta_pages_are_refused(path, position, value):
    change(path, position, value)
    with pytest.raises(UserError, match=r"meta page|LMDB file"):
        open_source(path)


def test_fewer_entries_than_the_file_says(path):
    change(path, PAGE + 120, b"\x0c")
    bad, reasons = read(path)
    assert bad == [False] * 8 + [True] and "9 entries were found, but the file says that it has 12" in reasons[0]


def test_a_tree_that_runs_in_a_circle(tmp_path):
    path = write_lmdb(tmp_path / "a.lmdb", {b"%d" % i: b"x" * 100 for i in range(200)})
    file = LmdbFile(path)
    root = file._tree.root * PAGE
    first = int.from_bytes(path.read_bytes()[root + 16 : root + 18], "little")
    change(path, root + first, (file._tree.root).to_bytes(4, "little"))
    found = list(LmdbFile(path).entries())
    assert any(isinstance(entry, DamagedPageError) for entry in found) and len(found) < 200


@pytest.mark.parametrize("position", range(16, 34, 2))
def test_damaged_places_of_keys_are_named(path, position):
    file = LmdbFile(path)
    change(path, file._tree.root * PAGE + position, b"\xff\xff")
    bad, _ = read(path)
    assert any(bad) and len(bad) >= 8
