"""Packed arrays give back every bit, in few bytes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays as any_array

from mace_gaunt.data.store.arrays import Unpacker, pack_floats, pack_integers

RNG = np.random.default_rng(0)
DECIMALS = RNG.uniform(-20, 20, 50).round(8)


@pytest.mark.parametrize(
    ("values", "n_bytes"),
    [
        (np.full(50, np.nan), 9),
        (np.zeros((3, 3)), 9),
        (RNG.normal(size=50).astype(np.float32), 1 + 4 * 50),
        (np.array([0.5, np.inf, -np.inf, np.nan]), 1 + 4 * 4),
        (DECIMALS, 1 + 8 + 4 * 50),
        (np.array([float(f"{x:.8f}") for x in DECIMALS + 60]), 1 + 8 + 4 * 50),
        (RNG.normal(size=50), 1 + 8 * 50),
        (np.array([0.1, 1e300]), 1 + 8 * 2),
        (np.array([12345.1, 54321.00000001]), 1 + 8 * 2),
        (np.array([0.1, -0.0]), 1 + 8 * 2),
        (np.zeros(0), 1),
    ],
    ids=["nan", "zeros", "single", "infinite", "decimal", "far", "double", "huge", "wide", "minus zero", "empty"],
)
def test_form_of_floats(values, n_bytes):
    packed = pack_floats(values)
    assert len(packed) == n_bytes
    source = Unpacker(packed)
    assert source.floats(values.size).tobytes() == values.astype(np.float64).tobytes()
    source.finish()


@given(any_array(np.float64, st.integers(0, 6)))
def test_any_floats(values):
    assert Unpacker(pack_floats(values)).floats(values.size).tobytes() == values.tobytes()


@given(any_array(np.int64, st.integers(0, 6)))
def test_any_integers(values):
    found = Unpacker(pack_integers(values)).integers(values.size)
    assert found.dtype == np.int64
    assert found.tolist() == values.tolist()


@pytest.mark.parametrize(
    ("values", "n_bytes"), [([3, 3, 3], 9), ([0, 255], 3), ([-1, 127], 3), ([0, 256], 5), ([-(2**40), 1], 17), ([], 1)]
)
def test_size_of_integers(values, n_bytes):
    assert len(pack_integers(np.array(values, dtype=np.int64))) == n_bytes


@pytest.mark.parametrize("read", [Unpacker.floats, Unpacker.integers])
@pytest.mark.parametrize("content", [b"", b"\xff\0\0", b"\0", b"\4", bytes([3]) + bytes(15)])
def test_nonsense_is_refused(read, content):
    with pytest.raises(ValueError, match=r"ends early|no form of"):
        read(Unpacker(content), 2)


def test_what_is_left_over_is_noticed():
    with pytest.raises(ValueError, match="1 bytes are left over"):
        Unpacker(b"x").finish()
