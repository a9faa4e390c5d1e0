"""Files appear whole or not at all."""

import os
from pathlib import Path

import pytest

from mace_gaunt.files import new_folder, open_npz, write_csv, write_whole


def test_content(tmp_path: Path) -> None:
    write_whole(tmp_path / "text", "Å\n")
    write_whole(tmp_path / "bytes", b"\x00\xff")
    assert (tmp_path / "text").read_bytes() == "Å\n".encode()
    assert (tmp_path / "bytes").read_bytes() == b"\x00\xff"


@pytest.mark.parametrize("fails", ["fsync", "replace"])
def test_what_was_there_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: str) -> None:
    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    path = tmp_path / "file"
    write_whole(path, "old")
    with monkeypatch.context() as patch:
        patch.setattr(*((os, "fsync") if fails == "fsync" else (Path, "replace")), full)
        with pytest.raises(OSError, match=r"No space left on device: .*file"):
            write_whole(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_what_cannot_be_read_again_gets_no_name(tmp_path: Path) -> None:
    def check(path: Path) -> None:
        if path.read_text() != "whole":
            raise ValueError("cut off")

    path = tmp_path / "file"
    write_whole(path, "whole", check)
    with pytest.raises(ValueError, match="cut off"):
        write_whole(path, "wh", check)
    assert path.read_text() == "whole" and list(tmp_path.iterdir()) == [path]


def test_table(tmp_path: Path) -> None:
    rows = [{"a": 1.23456789, "b": None}, {"c": "x,y", "a": 2}]
    assert write_csv(tmp_path / "all.csv", rows).read_bytes() == b'a,b,c\n1.23457,,\n2,,"x,y"\n'
    assert write_csv(tmp_path / "some.csv", rows, ["c", "a"], floats="").read_bytes() == b'c,a\n,1.23456789\n"x,y",2\n'
    assert write_csv(tmp_path / "none.csv", [], ["a"]).read_bytes() == b"a\n"


def test_a_new_folder_goes_again_when_nothing_came_of_it(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="full"), new_folder(tmp_path / "a" / "b"):
        raise OSError("full")
    assert not (tmp_path / "a").exists()
    with pytest.raises(OSError, match="full"), new_folder(tmp_path / "a" / "b"):
        (tmp_path / "a" / "b" / "kept").touch()
        raise OSError("full")
    assert (tmp_path / "a" / "b" / "kept").is_file()


def test_what_is_no_archive_of_arrays_is_not_called_a_pickle(tmp_path: Path) -> None:
    (tmp_path / "a.npz").write_bytes(b"cut off")
    with pytest.raises(ValueError, match=r"no \.npz archive, or was cut off"):
        open_npz(tmp_path / "a.npz")
