"""Which files are data, which are not, and files that are not what their names say."""

import gzip
import hashlib
import logging
import pickle
import shutil

import ase.db
import ase.io
import pytest
from oc20_files import make_slab, write_aselmdb, write_extxyz, write_list, write_lmdb, write_ocp_lmdb, write_shard

from mace_gaunt.data.readers import read_frames
from mace_gaunt.data.sources.contract import BadRecord
from mace_gaunt.data.sources.discovery import find_sources, is_side_file, open_source
from mace_gaunt.errors import UserError

SLABS = [make_slab(i) for i in range(12)]


@pytest.fixture
def folder(tmp_path):
    """Shards 0 to 11 of the raw release, with what lies beside them."""
    for number in range(12):
        write_shard(tmp_path, number, SLABS[number : number + 1])
    for name in ("data_log.0000.txt", "summary.json", "linref.npz", "data.lmdb-lock", ".hidden.xyz"):
        (tmp_path / name).write_bytes(b"x")
    return tmp_path


def energies(frames):
    return [atoms.calc.results["energy"] for atoms in frames]


def test_a_folder_of_shards_in_numeric_order(folder):
    sources = find_sources(folder)
    assert [source.path.name for source in sources] == [f"{n}.extxyz.xz" for n in range(12)]
    assert [source.files[1].name for source in sources] == [f"{n}.txt.xz" for n in range(12)]
    assert {source.format for source in sources} == {"OC20 shard"}


def test_folders_inside_of_folders_and_mixed_formats(tmp_path):
    (tmp_path / "b" / "c").mkdir(parents=True)
    write_ocp_lmdb(tmp_path / "b" / "data.0000.lmdb", SLABS[:2])
    write_aselmdb(tmp_path / "b" / "c" / "data.0001.aselmdb", SLABS[2:4])
    write_extxyz(tmp_path / "a.xyz", SLABS[4:5])
    found = find_sources(tmp_path)
    assert [source.format for source in found] == ["extxyz", "aselmdb", "OCP LMDB"]


def test_a_file_that_is_there_twice_is_read_once(tmp_path):
    plain = write_extxyz(tmp_path / "a.xyz", SLABS)
    (tmp_path / "a.xyz.gz").write_bytes(gzip.compress(plain.read_bytes()))
    assert [source.path for source in find_sources(tmp_path)] == [plain]


def test_unknown_files_are_left_out_with_a_warning(folder, caplog):
    (folder / "notes.docx").write_bytes(b"x")
    with caplog.at_level(logging.WARNING):
        assert len(find_sources(folder)) == 12
    assert "1 files of unknown kinds are left out: notes.docx" in caplog.text


def test_a_file_of_a_folder_that_cannot_be_opened_is_one_bad_record(folder):
    (folder / "12.lmdb").write_bytes(b"nothing")
    refused = find_sources(folder)[-1]
    assert (refused.format, len(refused)) == ("refused", 1)
    (record,) = refused.read()
    assert isinstance(record, BadRecord) and "it does not begin as an LMDB file does" in str(record)
    assert not list(refused.read(1)) and not list(refused.read(0, 0))


def test_a_folder_without_data(tmp_path):
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(UserError, match=r"is a folder without files of structures; known are .xyz, .*lmdb"):
        find_sources(tmp_path)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("a.xyz", "it is an LMDB file, not text as its name says"),
        ("a.xyz.gz", "it is an LMDB file, not compressed by gzip"),
        ("a.db", "it is an LMDB file, not an SQLite database"),
        ("a.traj", "it is an LMDB file, not an ASE trajectory"),
        ("a.pt", "it is an LMDB file, not a pickle or a zip archive"),
        ("a.json", "cannot tell what .*a.json is: JSON is not read"),
        ("a.txt", "is a side file, which holds no structures"),
        ("a.npz", "is a side file"),
        ("a.lmdb.xz", "cannot tell what"),
        ("a", "cannot tell what"),
    ],
)
def test_files_that_are_not_what_their_names_say(tmp_path, name, message):
    shutil.copy(write_ocp_lmdb(tmp_path / "data.lmdb", SLABS[:1]), tmp_path / name)
    with pytest.raises(UserError, match=message):
        open_source(tmp_path / name)


@pytest.mark.parametrize("name", ["a.lmdb", "a.aselmdb", "a.traj", "a.db", "a.pt", "a.pkl"])
def test_text_under_other_names(tmp_path, name):
    write_extxyz(tmp_path / name, SLABS)
    with pytest.raises(UserError, match=f"cannot read .*{name}: "):
        open_source(tmp_path / name)


def test_graphs_and_rows_are_told_apart_by_content(tmp_path):
    assert open_source(write_ocp_lmdb(tmp_path / "a.aselmdb", SLABS)).format == "OCP LMDB"
    assert open_source(write_aselmdb(tmp_path / "b.lmdb", SLABS)).format == "aselmdb"


def test_missing_files(tmp_path):
    with pytest.raises(UserError, match=r"cannot read .*a.lmdb: No such file"):
        open_source(tmp_path / "a.lmdb")


@pytest.mark.parametrize("name", ["a.txt", "a.txt.xz", "a.json", "a.npz", "data.lmdb-lock", "lock.mdb", ".x.xyz"])
def test_side_files(tmp_path, name):
    assert is_side_file(tmp_path / name)
    assert not is_side_file(tmp_path / "a.xyz")


def test_read_frames_of_a_folder(folder):
    frames = read_frames(folder)
    assert energies(frames.atoms) == energies(SLABS) and frames.indices == list(range(12))
    assert frames.path == folder
    part = read_frames(f"{folder}[3:8:2]")
    assert energies(part.atoms) == energies(SLABS[3:8:2]) and part.indices == [3, 5, 7]
    assert part.sha256 == frames.sha256
    (folder / "4.txt.xz").write_bytes((folder / "5.txt.xz").read_bytes())
    assert read_frames(f"{folder}[:3]").sha256 != frames.sha256


@pytest.mark.parametrize("slice_", ["[2:5]", "[-3:]", "[7]", "[::4]", "[:]", "[10:40]"])
def test_read_frames_of_an_lmdb(tmp_path, slice_):
    path = write_ocp_lmdb(tmp_path / "a.lmdb", SLABS, length=12)
    frames = read_frames(f"{path}{slice_}")
    expected = eval(f"list(range(12)){slice_}")
    assert frames.indices == (expected if isinstance(expected, list) else [expected])
    assert [atoms.info["sid"] - 100 for atoms in frames.atoms] == frames.indices
    assert frames.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_read_frames_stops_at_a_bad_record_of_the_slice(tmp_path):
    path = write_list(tmp_path / "a.pkl", [*SLABS[:2], SLABS[2]])
    lines = write_extxyz(tmp_path / "a.xyz", SLABS[:3]).read_text().replace("Cu", "Qq", 1)
    (tmp_path / "a.xyz").write_text(lines)
    assert len(read_frames(path)) == 3 and len(read_frames(tmp_path / "a.xyz[1:]")) == 2
    with pytest.raises(UserError, match=r"cannot read .*a.xyz, record 0: KeyError: 'Qq' \(0 good frames before it\)"):
        read_frames(tmp_path / "a.xyz")


def test_files_without_records(tmp_path):
    write_lmdb(tmp_path / "a.lmdb", {})
    (tmp_path / "a.pkl").write_bytes(pickle.dumps([]))
    ase.io.write(tmp_path / "a.traj", [])
    with ase.db.connect(tmp_path / "a.db") as database:
        database.write(SLABS[0])
        database.delete([1])
    for name in ("a.xyz", "a.xyz.xz", "b.lmdb"):
        (tmp_path / name).write_bytes(b"")
    for name in ("a.lmdb", "a.pkl", "a.traj", "a.db", "a.xyz", "a.xyz.xz", "b.lmdb"):
        with pytest.raises(UserError, match=f"no structures in .*{name}"):
            open_source(tmp_path / name)
