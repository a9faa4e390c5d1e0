"""extxyz files that are damaged: the good frames come, the others are named."""

import lzma

import ase
import pytest
from oc20_files import make_slab, write_extxyz, write_shard

from mace_gaunt.data.sources.contract import BadRecord
from mace_gaunt.data.sources.discovery import open_source

SLABS = [make_slab(i) for i in range(6)]


@pytest.fixture
def lines(tmp_path):
    """Frame -> its lines."""
    return [write_extxyz(tmp_path / "one.xyz", [slab]).read_text().splitlines(keepends=True) for slab in SLABS]


def read(path, lines):
    path.write_text("".join(line for frame in lines for line in frame))
    source = open_source(path)
    found = list(source.read())
    assert len(source) == len(found)
    return found


def split(found):
    """Energies of good frames, and position -> reason of bad ones."""
    found = list(found)
    good = [record.calc.results["energy"] for record in found if isinstance(record, ase.Atoms)]
    return good, {record.index: record.reason for record in found if isinstance(record, BadRecord)}


def energies(*left_out):
    return [slab.calc.results["energy"] for i, slab in enumerate(SLABS) if i not in left_out]


def test_a_number_of_atoms_that_is_none(tmp_path, lines):
    lines[2][0] = "x7\n"
    good, bad = split(read(tmp_path / "a.xyz", lines))
    assert good == energies(2) and list(bad) == [2] and "'x7'" in bad[2]


@pytest.mark.parametrize("change", [-3, -1, 1, 4, 1000, 99_999_999])
def test_a_wrong_number_of_atoms_costs_one_frame(tmp_path, lines, change):
    lines[2][0] = f"{len(SLABS[2]) + change}\n"
    good, bad = split(read(tmp_path / "a.xyz", lines))
    assert good == energies(2) and list(bad) == [2]


def test_a_wrong_number_in_the_last_frame(tmp_path, lines):
    lines[5][0] = f"{len(SLABS[5]) + 1}\n"
    good, bad = split(read(tmp_path / "a.xyz", lines))
    assert good == energies(5)
    assert bad == {5: f"the file ends after {len(SLABS[5])} of {len(SLABS[5]) + 1} atoms"}


@pytest.mark.parametrize(
    ("line", "old", "new", "reason"),
    [
        (3, " ", " x", "ValueError"),
        (3, "Cu", "Qq", "KeyError"),
        (1, "pos:R:3", "pos:R", "Error"),
        (1, "Properties", "Lattice=1 Properties", "Lattice= is there twice"),
    ],
)
def test_a_line_that_cannot_be_read(tmp_path, lines, line, old, new, reason):
    lines[1][line] = lines[1][line].replace(old, new, 1)
    good, bad = split(read(tmp_path / "a.xyz", lines))
    assert good == energies(1) and list(bad) == [1] and reason in bad[1]


def test_missing_lines(tmp_path, lines):
    del lines[3][4:6]
    good, bad = split(read(tmp_path / "a.xyz", lines))
    assert good == energies(3) and list(bad) == [3]


def test_blank_lines_between_frames_and_windows_ends(tmp_path, lines):
    lines = [[line.replace("\n", "\r\n") for line in frame] + ["\n", "  \n"] for frame in lines]
    good, bad = split(read(tmp_path / "a.xyz", lines))
    assert good == energies() and not bad


def test_frames_without_atoms(tmp_path, lines):
    good, bad = split(read(tmp_path / "a.xyz", [lines[0], ["0\n", "energy=1\n"], lines[1]]))
    assert len(good) == 2 and bad == {1: "it has no atoms"}


def test_cell_vectors_behind_the_atoms(tmp_path):
    (tmp_path / "a.xyz").write_text("1\n\nH 0 0 0\nVEC1 3 0 0\nVEC2 0 3 0\nVEC3 0 0 3\n1\n\nH 0 0 0\n")
    first, second = open_source(tmp_path / "a.xyz").read()
    assert first.cell.volume == pytest.approx(27) and second.cell.volume == 0


@pytest.mark.parametrize("suffix", [".xyz", ".xyz.xz"])
def test_a_file_that_is_cut_off(tmp_path, suffix):
    content = write_extxyz(tmp_path / f"a{suffix}", SLABS).read_bytes()
    for part in (0.3, 0.6, 0.95):
        path = tmp_path / f"b{suffix}"
        path.write_bytes(content[: int(part * len(content))])
        good, bad = split(open_source(path).read())
        assert good == energies()[: len(good)] and len(good) < 6
        assert list(bad) == [len(good)] and ("the file ends" in bad[len(good)] or "cut off" in bad[len(good)])


def test_a_compressed_stream_that_ends_between_frames(tmp_path):
    stream = lzma.LZMACompressor()
    text = write_extxyz(tmp_path / "a.xyz", SLABS[:3]).read_bytes()
    (tmp_path / "b.xyz.xz").write_bytes(stream.compress(text) + stream.flush()[:-20])
    good, bad = split(open_source(tmp_path / "b.xyz.xz").read())
    assert good[:2] == energies()[:2] and len(bad) == 1 and "cut off or damaged" in bad[len(good)]


def shard(folder, slabs=SLABS, lines=None):
    source = open_source(write_shard(folder, 3, slabs, lines))
    found = list(source.read())
    assert source.format == "OC20 shard" and len(source) == len(found)
    return split(found)


def test_shards_of_different_length(tmp_path):
    told = [f"random{slab.info['sid']},frame{slab.info['fid']},-101.25" for slab in SLABS]
    assert shard(tmp_path, lines=told) == (energies(), {})
    good, bad = shard(tmp_path, lines=told[:4])
    assert good == energies(4, 5)
    assert bad == dict.fromkeys((4, 5), "no line of 3.txt.xz belongs to it: it has 4 lines")
    good, bad = shard(tmp_path, SLABS[:4], told)
    assert good == energies(4, 5)
    assert bad == {4: "the file ends here, but 3.txt.xz has 2 more lines: frames are lost"}


@pytest.mark.parametrize(
    "line", ["", "random1,frame2", "random1,frame2,x", "1,2,3", "random1,frame2,-3,4", "\0", "x" * 9999]
)
def test_malformed_lines_of_a_shard(tmp_path, line):
    told = [f"random{slab.info['sid']},frame{slab.info['fid']},-101.25" for slab in SLABS]
    told[0] = line
    good, bad = shard(tmp_path, lines=told)
    assert bad[0].startswith("line 1 of 3.txt.xz is ")
    assert good == energies(0) if len(line) < 1000 else len(good) < 6


@pytest.mark.parametrize("part", [0, 0.2, 0.5, 0.9])
def test_a_damaged_text_of_a_shard(tmp_path, part):
    path = write_shard(tmp_path, 0, SLABS)
    text = tmp_path / "0.txt.xz"
    text.write_bytes(text.read_bytes()[: int(part * text.stat().st_size)])
    good, bad = split(open_source(path).read())
    assert good == energies()[: len(good)] and len(good) + len(bad) == 6 + (part == 0.9)
    assert all("0.txt.xz" in reason and "cut off" in reason for reason in bad.values())


def test_parts_of_a_shard_with_too_many_lines(tmp_path):
    told = [f"random{slab.info['sid']},frame{slab.info['fid']},-101.25" for slab in SLABS]
    source = open_source(write_shard(tmp_path, 0, SLABS[:4], told))
    every = [str(record) for record in source.read()]
    for start, stop in ((0, 4), (4, 5), (4, None), (5, None), (5, 9), (2, 5), (3, 4)):
        assert [str(record) for record in source.read(start, stop)] == every[start:stop]


def test_a_text_of_the_same_name_that_has_nothing_to_do_with_it(tmp_path):
    write_extxyz(tmp_path / "water.xyz", SLABS)
    (tmp_path / "water.txt").write_text("Made on a Monday.\n")
    assert open_source(tmp_path / "water.xyz").format == "extxyz"
