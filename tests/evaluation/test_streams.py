"""Arrays on disk, and .npz files of them."""

import numpy as np
import pytest

from mace_gaunt.evaluation.streams import Spool, nearest_folder, write_npz


@pytest.mark.parametrize("buffer", [1, 100, 2**22])
def test_rows_come_back_in_order_whatever_is_buffered(tmp_path, monkeypatch, buffer):
    monkeypatch.setattr(Spool, "BUFFER", buffer)
    rng, spool, parts = np.random.default_rng(0), Spool(tmp_path, np.float32, (3,)), []
    for size in (4, 0, 1, 30):
        parts.append(rng.normal(size=(size, 3)))
        spool.append(parts[-1])
    expected = np.concatenate(parts).astype(np.float32)
    assert spool.length == 35 and np.array_equal(spool.read(3, 20), expected[3:20])
    spool.append(parts[0])
    chunks = list(spool.chunks())
    assert np.array_equal(np.concatenate(chunks), np.concatenate([expected, expected[:4]]))
    assert max(chunk.nbytes for chunk in chunks) <= max(buffer, 12)
    # The file has no name: nothing is left behind.
    assert not list(tmp_path.iterdir())


def test_files_are_numpy_s(tmp_path):
    spool, flags, none = Spool(tmp_path, np.int64), Spool(tmp_path, np.bool_), Spool(tmp_path, np.float64, (3,))
    spool.append(np.arange(5))
    flags.append(np.array([True, False]))
    arrays = {"a": spool.streamed(), "b": flags.streamed(), "none": none.streamed(), "ids": np.array(["1_2", "3"])}
    content = np.load(write_npz(tmp_path / "file.npz", arrays), allow_pickle=False)
    assert content["a"].tolist() == [0, 1, 2, 3, 4] and content["b"].tolist() == [True, False]
    assert content["none"].shape == (0, 3) and content["none"].dtype == np.float64
    assert content["ids"].tolist() == ["1_2", "3"]


def test_a_file_that_fails_half_way_is_not_there(tmp_path):
    spool = Spool(tmp_path, np.int64)
    spool.append(np.arange(5))

    def failing():
        yield spool.read(0, 2)
        raise OSError("no space left")

    broken = spool.streamed()
    object.__setattr__(broken, "chunks", failing())
    with pytest.raises(OSError, match="no space"):
        write_npz(tmp_path / "file.npz", {"a": broken})
    assert not list(tmp_path.iterdir())


def test_the_folder_that_is_there(tmp_path):
    assert nearest_folder(tmp_path / "new" / "report") == tmp_path
    assert nearest_folder(tmp_path) == tmp_path
