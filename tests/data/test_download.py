"""Fetching from a folder that stands for the public address."""

import gzip
import hashlib
import http.client
import io
import lzma
from pathlib import Path

import pytest
from waters import make_water

from mace_gaunt.data import download as module
from mace_gaunt.data.download import SETS, PublicFile, PublicSet, count_frames, download
from mace_gaunt.errors import UserError


@pytest.fixture
def mirror(write, tmp_path, monkeypatch):
    """An address with two files, and the set that expects them."""
    content = Path(write("first.xyz", *(make_water(i) for i in range(3)))).read_bytes()
    Path(write("second.xyz", make_water(1)))
    files = {"first": PublicFile(3, sha256=hashlib.sha256(content).hexdigest()), "second": PublicFile(1)}
    address = tmp_path.as_uri()
    monkeypatch.setitem(SETS, "waters", PublicSet(address, "copy them", files))
    return address


def test_fetches_checks_and_keeps(mirror, tmp_path):
    folder = tmp_path / "data"
    assert download("waters", folder) == {"first": "fetched", "second": "fetched"}
    assert sorted(path.name for path in folder.iterdir()) == ["first.xyz", "second.xyz"]
    assert (folder / "first.xyz").read_bytes() == (tmp_path / "first.xyz").read_bytes()
    (folder / "second.xyz").unlink()
    assert download("waters", folder, address=mirror + "/") == {"first": "already there", "second": "fetched"}


def test_wrong_content_is_not_kept(mirror, tmp_path):
    (tmp_path / "first.xyz").write_text("1\n\nH 0 0 0\n")
    with pytest.raises(UserError, match="is not the file expected: sha256"):
        download("waters", tmp_path / "data")
    assert not (tmp_path / "data").exists()


def test_wrong_file_that_is_there_is_not_touched(mirror, tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "second.xyz").write_text("1\n\nH 0 0 0\n1\n\nH 0 0 0\n")
    with pytest.raises(UserError, match=r"2 frames, expected 1. Move it away"):
        download("waters", folder)
    assert (folder / "first.xyz").exists() and count_frames((folder / "second.xyz").read_bytes()) == 2


def test_without_network_says_what_to_do(tmp_path):
    with pytest.raises(UserError, match=r"cannot fetch .*Without a network here: .*git clone .* to .*3bpa"):
        download("3bpa", tmp_path / "3bpa", address=(tmp_path / "absent").as_uri())
    assert not (tmp_path / "3bpa").exists()


def test_an_address_that_is_none(tmp_path):
    with pytest.raises(UserError, match=r"address=mirror.local/dataset: unknown url type.* begins with https://"):
        download("3bpa", tmp_path / "3bpa", address="mirror.local/dataset")


def test_an_answer_that_breaks_off(mirror, tmp_path, monkeypatch):
    class Answer(io.BytesIO):
        def read(self, *_: object) -> bytes:
            raise http.client.IncompleteRead(b"1\n", 100)

    monkeypatch.setattr(module.urllib.request, "urlopen", lambda *_, **__: Answer())
    with pytest.raises(UserError, match=r"cannot fetch .*IncompleteRead\(2 bytes read, 100 more expected"):
        download("waters", tmp_path / "data")
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("compress", [gzip.compress, lzma.compress])
def test_a_cut_file_that_is_there(mirror, tmp_path, compress):
    folder = tmp_path / "data"
    folder.mkdir()
    packed = compress((tmp_path / "first.xyz").read_bytes())
    path = folder / f"first.xyz.{'gz' if compress is gzip.compress else 'xz'}"
    for content in (packed[:-20], b"no archive"):
        path.write_bytes(content)
        with pytest.raises(UserError, match=r"first.xyz.* cannot be read: .* Move it away"):
            download("waters", folder)


def test_unknown_set():
    with pytest.raises(UserError, match="Did you mean '3bpa'"):
        download("3bpaa")


def test_git_blob_ids(shared_data):
    content = gzip.decompress((shared_data / "3bpa" / "train_300K.xyz.gz").read_bytes())
    for name, expected in SETS["3bpa"].files.items():
        path = shared_data / "3bpa" / f"{name}.xyz.gz"
        if path.exists():
            module._check(gzip.decompress(path.read_bytes()), expected, name, "")
    module._check(content, PublicFile(500, git_blob="93cdf96b"), "train_300K", "")
    with pytest.raises(UserError, match="git blob"):
        module._check(content, PublicFile(git_blob="6ea840df"), "train_300K", "")


@pytest.mark.parametrize(
    ("content", "n_frames"), [(b"", 0), (b"1\n\nH 0 0 0\n" * 3, 3), (b"<html>", 0), (b"2\n\nH 0 0 0\n", 0)]
)
def test_count_frames(content, n_frames):
    assert count_frames(content) == n_frames


def test_the_files_of_acac(shared_data):
    for name, expected in SETS["acac"].files.items():
        for path in (shared_data / "acac" / f"{name}.xyz", shared_data / "acac" / f"{name}.xyz.gz"):
            if path.exists():
                content = path.read_bytes()
                module._check(gzip.decompress(content) if path.suffix == ".gz" else content, expected, name, "")


def test_where_sets_lie(monkeypatch):
    monkeypatch.setenv("MACE_GAUNT_DATA", "/sets")
    assert [str(module.place_of("acac", root)) for root in (None, "here")] == ["/sets/acac", "here"]
