"""Arrays as few bytes as hold every bit of them."""

from typing import Any

import numpy as np

# How the numbers of an array are held. Codes are part of the format: never change the meaning of one.
CONSTANT, FLOAT32, DECIMAL, FLOAT64 = range(4)
INTEGERS = {4 + i: np.dtype(name) for i, name in enumerate(("<u1", "<i1", "<u2", "<i2", "<u4", "<i4", "<i8"))}

# Text files of structures have eight decimals. Both such a decimal as it was read and whole number / 1e8 are the float
# next to the same real number, so the whole number gives back every bit.
DECIMAL_SCALE = 1e8


def pack_floats(values: np.ndarray) -> bytes:
    """A float64 array in the first of these forms that gives back every bit, the sign of zeros included.

    One value for all; float32; whole numbers of 1e-8 in 32 bits above the smallest; float64.

    Args:
        values: Any shape, which is not kept.

    Returns:
        Code and content.
    """
    flat = np.ascontiguousarray(values, dtype="<f8").ravel()
    bits = flat.view("<i8")
    if not flat.size or (bits == bits[0]).all():
        return bytes([CONSTANT]) + flat[:1].tobytes()
    with np.errstate(over="ignore", invalid="ignore"):
        single = flat.astype("<f4")
    if (single.astype("<f8").view("<i8") == bits).all():
        return bytes([FLOAT32]) + single.tobytes()
    # 9e7 * 1e8 is below 2^53: the whole numbers are exact. A NaN fails the comparison.
    if np.abs(flat).max() < 9e7:
        whole = np.rint(flat * DECIMAL_SCALE).astype("<i8")
        least = whole.min()
        if whole.max() - least < 2**32 and ((whole / DECIMAL_SCALE).view("<i8") == bits).all():
            return bytes([DECIMAL]) + least.tobytes() + (whole - least).astype("<u4").tobytes()
    return bytes([FLOAT64]) + flat.tobytes()


def pack_integers(values: np.ndarray) -> bytes:
    """An integer or bool array with the smallest type that holds it.

    Args:
        values: Any shape, which is not kept.

    Returns:
        Code and content.
    """
    flat = np.asarray(values).astype("<i8").ravel()
    least, most = (int(flat.min()), int(flat.max())) if flat.size else (0, 0)
    if least == most:
        return bytes([CONSTANT]) + flat[:1].tobytes()
    for code, dtype in INTEGERS.items():
        if np.iinfo(dtype).min <= least and most <= np.iinfo(dtype).max:
            return bytes([code]) + flat.astype(dtype).tobytes()
    raise AssertionError("int64 holds every int64")


class Unpacker:
    """Takes arrays from a buffer, one after the other.

    Attributes:
        buffer: What is read.
        position: How many bytes have been taken.
    """

    def __init__(self, buffer: bytes, position: int = 0) -> None:
        """Begin at a position of the buffer."""
        self.buffer, self.position = buffer, position

    def floats(self, count: int) -> np.ndarray:
        """What `pack_floats` was given.

        Args:
            count: How many numbers.

        Returns:
            Shape [count], float64, a copy of its own.

        Raises:
            ValueError: If the bytes do not hold such an array.
        """
        code = self._code()
        if code == DECIMAL:
            least = self._take("<i8", 1)[0]
            return (self._take("<u4", count).astype("<i8") + least) / DECIMAL_SCALE
        if code not in (CONSTANT, FLOAT32, FLOAT64):
            raise ValueError(f"no form of floats has the code {code}")
        return self._expanded("<f4" if code == FLOAT32 else "<f8", count, code, np.float64)

    def integers(self, count: int) -> np.ndarray:
        """What `pack_integers` was given.

        Args:
            count: How many numbers.

        Returns:
            Shape [count], int64, a copy of its own.

        Raises:
            ValueError: If the bytes do not hold such an array.
        """
        code = self._code()
        if code != CONSTANT and code not in INTEGERS:
            raise ValueError(f"no form of integers has the code {code}")
        return self._expanded("<i8" if code == CONSTANT else INTEGERS[code], count, code, np.int64)

    def text(self, count: int) -> str:
        """The next bytes as UTF-8."""
        return self._take("<u1", count).tobytes().decode()

    def finish(self) -> None:
        """Check that nothing is left.

        Raises:
            ValueError: If something is.
        """
        if self.position != len(self.buffer):
            raise ValueError(f"{len(self.buffer) - self.position} bytes are left over")

    def _expanded(self, dtype: Any, count: int, code: int, as_type: Any) -> np.ndarray:
        if code == CONSTANT:
            return np.full(count, self._take(dtype, 1)[0] if count else 0, dtype=as_type)
        return self._take(dtype, count).astype(as_type)

    def _code(self) -> int:
        return int(self._take("<u1", 1)[0])

    def _take(self, dtype: Any, count: int) -> np.ndarray:
        # frombuffer reads everything when it is asked for -1, and refuses an empty remainder.
        if count < 0 or self.position + count * np.dtype(dtype).itemsize > len(self.buffer):
            raise ValueError("it ends early")
        if not count:
            return np.zeros(0, dtype=dtype)
        taken = np.frombuffer(self.buffer, dtype, count, self.position)
        self.position += taken.nbytes
        return taken
