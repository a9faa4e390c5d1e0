"""Damaged files of structures: a sound structure, a record with a reason, or a refusal."""

import gzip
import lzma
from collections.abc import Callable
from pathlib import Path

import ase
import ase.io
import numpy as np
import pytest
from mutations import COUNTS, survive
from oc20_files import (
    graph_fields,
    make_slab,
    pickle_graph,
    write_aselmdb,
    write_batch,
    write_extxyz,
    write_ocp_lmdb,
)
from waters import make_water

from mace_gaunt.data.atomic_data import AtomicData
from mace_gaunt.data.labels import LabelKeys
from mace_gaunt.data.readers import read_frames
from mace_gaunt.data.sources.contract import BadRecord
from mace_gaunt.data.sources.discovery import open_source
from mace_gaunt.data.sources.graph_records import fields_of, structure
from mace_gaunt.data.sources.lmdb_pages import LmdbFile
from mace_gaunt.data.sources.pickle_names import DATA_NAMES
from mace_gaunt.data.sources.unpickle import load_plain
from mace_gaunt.data.sources.usable import checked
from mace_gaunt.errors import UserError

SLABS = [make_slab(i) for i in range(3)]
R_MAX = 3.0


def water_text(folder: Path) -> bytes:
    """Frames with what extxyz files hold: stress, text, flags, arrays, a weight, no cell."""
    frames = [
        make_water(0, config_type="gas phase", config_weight=2.0, sid=12345, fid=7, relaxed_energy=-2.5),
        make_water(1, note='a "quoted" word', flag=True, counts=np.arange(3)),
        make_water(2, REF_stress=np.eye(3) * 0.01),
    ]
    frames[2].set_cell([[4, 0, 0], [1, 5, 0], [0, -1, 6]])
    frames[2].pbc = (True, True, False)
    ase.io.write(folder / "water.xyz", frames, format="extxyz")
    return (folder / "water.xyz").read_bytes()


def check_frame(atoms: ase.Atoms) -> None:
    """Fail unless the graph of a frame is refused or sound."""
    try:
        graph = AtomicData.from_atoms(atoms, R_MAX, sorted(set(atoms.numbers.tolist())), LabelKeys())
    except UserError:
        return
    n_nodes = len(atoms)
    assert n_nodes > 0 and np.isfinite(graph.positions.numpy()).all()
    senders, receivers = graph.pair_index.numpy()
    vectors = graph.positions.numpy()[receivers] - graph.positions.numpy()[senders] + graph.shifts.numpy()
    assert (np.linalg.norm(vectors, axis=1) < R_MAX * (1 + 1e-6)).all()
    assert graph.forces.shape == (n_nodes, 3) and graph.tags.shape == graph.fixed.shape == (n_nodes,)
    assert float(graph.weight) >= 0


def check_file(path: Path) -> str:
    """Fail unless every record is sound or bad, and a reader of all frames agrees."""
    source = open_source(path)
    records = [record for _, record in checked(source)]
    assert len(source) == len(records)
    for record in records:
        if isinstance(record, BadRecord):
            assert record.path == path and record.reason
        else:
            check_frame(record)
    try:
        assert len(read_frames(path)) == len(records)
    except UserError:
        return "bad records"
    return "sound"


def same(atoms: ase.Atoms, original: ase.Atoms) -> bool:
    """Whether two structures and their labels are the same to the last bit."""
    results, expected = atoms.calc.results, original.calc.results
    return (
        np.array_equal(atoms.numbers, original.numbers)
        and np.array_equal(atoms.positions, original.positions)
        and np.array_equal(atoms.cell.array, original.cell.array)
        and np.array_equal(results["forces"], expected["forces"])
        and results["energy"] == expected["energy"]
    )


def of_file(path: Path, check: Callable[[Path], str] = check_file) -> Callable[[bytes], str]:
    """Writes damaged content where a file was and checks it."""

    def read(content: bytes) -> str:
        path.write_bytes(content)
        return check(path)

    return read


def only_originals(originals: list[ase.Atoms]) -> Callable[[Path], str]:
    """A check of formats with checksums: whatever is read without a complaint is what was written."""

    def check(path: Path) -> str:
        frames = read_frames(path)
        assert len(frames) >= len(originals)
        assert all(any(same(atoms, original) for original in originals) for atoms in frames.atoms)
        return "sound"

    return check


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("kind", ["water", "slab"])
def test_extxyz(tmp_path, kind, count):
    content = water_text(tmp_path) if kind == "water" else write_extxyz(tmp_path / "slab.xyz", SLABS).read_bytes()
    outcomes = survive(content, of_file(tmp_path / "a.xyz"), count)
    assert outcomes["refused"] + outcomes["bad records"] > count // 3
    assert outcomes["sound"]


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("suffix", ["gz", "xz"])
def test_compressed_extxyz(tmp_path, suffix, count):
    text = write_extxyz(tmp_path / "slab.xyz", SLABS).read_bytes()
    originals = read_frames(tmp_path / "slab.xyz").atoms
    content = gzip.compress(text, mtime=0) if suffix == "gz" else lzma.compress(text)
    path = tmp_path / f"a.extxyz.{suffix}"
    outcomes = survive(content, of_file(path, only_originals(originals)), count)
    assert outcomes["refused"] > count // 2


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("kind", ["lmdb 1", "lmdb 2.3", "aselmdb"])
def test_pages_of_lmdb_files(tmp_path, kind, count):
    """The rows of an aselmdb have checksums, graphs have none."""
    path = tmp_path / f"a.{kind.split()[0]}"
    check = check_file
    if kind == "aselmdb":
        check = only_originals(read_frames(write_aselmdb(path, SLABS)).atoms)
    else:
        write_ocp_lmdb(path, SLABS, kind.split()[1], len(SLABS))
    outcomes = survive(path.read_bytes(), of_file(path, check), count)
    assert outcomes["refused"] + outcomes["bad records"] > count // 10


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("generation", ["1", "2.0", "2.3"])
def test_records_of_graphs(generation, count):
    def read(content: bytes) -> str:
        atoms = structure(fields_of(load_plain(content, DATA_NAMES)))
        check_frame(atoms)
        return "sound"

    content = pickle_graph(graph_fields(SLABS[0], generation == "1"), generation)
    outcomes = survive(content, read, count, refusal=ValueError)
    assert outcomes["refused"] > count // 3


@pytest.mark.parametrize("count", COUNTS)
def test_records_of_rows(tmp_path, monkeypatch, count):
    """Of a compressed row a checksum is kept: what is read is what was written."""
    path = write_aselmdb(tmp_path / "a.aselmdb", SLABS)
    originals = read_frames(path).atoms
    whole = LmdbFile.read
    with path.open("rb") as stream:
        file = LmdbFile(path)
        _, place = next(entry for entry in file.entries() if entry[0] == b"2")
        value = whole(file, stream.fileno(), place)

    def read(content: bytes) -> str:
        monkeypatch.setattr(LmdbFile, "read", lambda *at: content if whole(*at) == value else whole(*at))
        return only_originals(originals)(path)

    outcomes = survive(value, read, count)
    assert outcomes["refused"] > count // 2


@pytest.mark.parametrize("count", COUNTS)
def test_archives_of_torch(tmp_path, count):
    path = write_batch(tmp_path / "a.pt", SLABS)
    originals = read_frames(path).atoms
    outcomes = survive(path.read_bytes(), of_file(path, only_originals(originals)), count)
    assert outcomes["refused"] > count // 2


@pytest.mark.parametrize("suffix", ["gz", "xz"])
def test_a_wrong_checksum_casts_doubt_on_the_frames_before(tmp_path, suffix):
    text = write_extxyz(tmp_path / "slab.xyz", SLABS).read_bytes()
    content = bytearray(gzip.compress(text) if suffix == "gz" else lzma.compress(text, check=lzma.CHECK_CRC64))
    # The checksum of the content: of gzip before its size, of xz before its index, whose size the footer has.
    index = 4 * int.from_bytes(content[-8:-4], "little") + 4
    content[-8 if suffix == "gz" else -12 - index - 8] ^= 1
    path = tmp_path / f"a.extxyz.{suffix}"
    path.write_bytes(bytes(content))
    last = list(open_source(path).read())[-1]
    assert isinstance(last, BadRecord) and "frames before this may be altered" in last.reason
