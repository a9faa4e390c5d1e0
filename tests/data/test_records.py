"""Files, folders and slices as streams of records."""

import itertools

import pytest
from waters import make_water

from mace_gaunt.data.records import open_records
from mace_gaunt.errors import UserError


@pytest.fixture
def folder(write, tmp_path):
    """Three files of 3, 1 and 4 records, numbered through by `n`."""
    n = itertools.count()
    for name, length in (("a", 3), ("b", 1), ("c", 4)):
        write(f"{name}.xyz", *(make_water(i, n=next(n)) for i in range(length)))
    return tmp_path


def numbers(*paths):
    return [atoms.info["n"] for file in open_records(paths) for _, atoms in file]


def test_slices_count_through_the_files_of_a_folder(folder):
    assert numbers(folder) == list(range(8))
    starts, stops, steps = [None, 0, 1, 3, 5, -3], [None, 2, 3, 4, 7, -1], [None, 1, 2, 3, 5]
    for start, stop, step in itertools.product(starts, stops, steps):
        expected = list(range(8))[start:stop:step]
        text = ":".join("" if bound is None else str(bound) for bound in (start, stop, step))
        if expected:
            assert numbers(f"{folder}[{text}]") == expected, text
        else:
            with pytest.raises(UserError, match="selects no record"):
                open_records([f"{folder}[{text}]"])


def test_positions_are_those_of_the_file(folder):
    files = open_records([f"{folder}[2:6]"])
    assert [[index for index, _ in file] for file in files] == [[2], [0], [0, 1]]
    assert [len(file) for file in files] == [1, 1, 2]
    assert files[2].name == f"{folder / 'c.xyz'}[0:2]"
    assert len(open_records([folder / "c.xyz"])[0]) == 4
    assert numbers(f"{folder}/c.xyz[::-2]") == [5, 7]


def test_refusals(folder):
    for path, message in (("absent.xyz", "no file"), ("a.csv", "cannot tell"), ("empty", "without files")):
        if path == "a.csv":
            (folder / path).write_text("")
        if path == "empty":
            (folder / path).mkdir()
        with pytest.raises(UserError, match=message):
            open_records([folder / path])
    with pytest.raises(UserError, match="at least one"):
        open_records([])
