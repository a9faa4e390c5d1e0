"""One frame as a checked record of bytes, without pickle."""

import struct
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from mace_gaunt.data.atomic_data import AtomicData, node_types
from mace_gaunt.data.store.arrays import Unpacker, pack_floats, pack_integers

# Field -> shape and unit of what a record holds beside the fields of AtomicData; NaN when absent.
EXTRA_FIELDS = {
    "reference_energy": "[n_graphs], eV: total energy minus it is the adsorption energy",
    "relaxed_energy": "[n_graphs], eV, in the same reference as energy",
    "relaxed_positions": "[n_nodes, 3], Å",
}

MAGIC, VERSION = b"MG", 1
# Magic, version, whether the content is compressed, bytes of the content as stored and as it is, crc32 of the rest.
HEADER = struct.Struct("<2sBBIII")
# Numbers of nodes, pairs and different shifts, bytes of the config_type, the single numbers, pbc.
HEAD = struct.Struct("<IIII7d3q3?")
SINGLE_FLOATS = (
    "energy", "weight", "energy_weight", "forces_weight", "stress_weight", "reference_energy", "relaxed_energy",
)  # fmt: skip
SINGLE_INTEGERS = ("frame_index", "sid", "fid")
# Larger numbers in a record would be taken for granted when arrays of one value are made.
MAX_NODES, MAX_PAIRS = 2**22, 2**26
# Level 1 takes 3 % of the time of making a record and halves it; level 6 takes 5 % and saves 6 % more (docs/data.md).
COMPRESSION_LEVEL = 1
# Odd numbers without a pattern; equal hashes of different rows are noticed.
ROW_HASH = np.array([0x1E3779B97F4A7C15, 0x42B2AE3D27D4EB4F, 0x165667B19E3779F9])


def pack(frame: AtomicData, extra: Mapping[str, Any] | None = None) -> bytes:
    """A frame as a record.

    Args:
        frame: One structure, its pairs in the order of `neighbor_pairs`; node_types are left out.
        extra: Values of EXTRA_FIELDS; those left out are NaN.

    Returns:
        Header and content; `unpack` gives back every bit.

    Raises:
        ValueError: If the pairs are in another order, or too many.
    """
    sections = _sections(frame, extra or {})
    content, packed = b"".join(sections), _compress(sections)
    compressed = len(packed) < len(content)
    stored = packed if compressed else content
    fields = (MAGIC, VERSION, int(compressed), len(stored), len(content))
    return HEADER.pack(*fields, _checksum(fields, stored)) + stored


def unpack(record: bytes) -> dict[str, Any]:
    """The arrays of a record.

    Args:
        record: What `pack` gave.

    Returns:
        Field of AtomicData or EXTRA_FIELDS (without node_types) -> array of its shape, or text.

    Raises:
        ValueError: If a byte of it has changed, or it was never such a record.
    """
    content = read_content(record)
    try:
        return _fields(content)
    except (ValueError, struct.error, IndexError, UnicodeDecodeError) as error:
        raise ValueError(f"the record makes no sense: {error}") from error


def read_content(record: bytes) -> bytes:
    """The content of a record after its checks.

    Raises:
        ValueError: If a byte of it has changed, or it was never such a record.
    """
    if len(record) < HEADER.size:
        raise ValueError(f"a record has at least {HEADER.size} bytes, this one {len(record)}")
    *fields, checksum = HEADER.unpack_from(record)
    magic, version, compressed, stored_size, size = fields
    stored = record[HEADER.size :]
    if magic != MAGIC or stored_size != len(stored) or _checksum(fields, stored) != checksum:
        raise ValueError("the record is damaged: its checksum is not that of its bytes")
    if version != VERSION:
        raise ValueError(f"the record has format {version}; this program reads {VERSION}")
    if not compressed:
        return stored
    inflater = zlib.decompressobj()
    try:
        content = inflater.decompress(stored, size)
    except zlib.error as error:
        raise ValueError(f"the record cannot be decompressed: {error}") from error
    if len(content) != size or not inflater.eof:
        raise ValueError("the record does not have the size that it tells")
    return content


def to_frame(fields: Mapping[str, Any], atomic_numbers: Sequence[int], extra: Sequence[str] = ()) -> AtomicData:
    """The frame of a record.

    Args:
        fields: What `unpack` gave.
        atomic_numbers: The elements of the model, sorted.
        extra: Which of EXTRA_FIELDS the frame has beside its own.

    Returns:
        What `AtomicData.from_atoms` gave when the record was made, with these node_types.

    Raises:
        UserError: If an element is not in atomic_numbers.
    """
    numbers = fields["atomic_numbers"]
    tensors = {
        name: value if isinstance(value, str) else torch.from_numpy(value)
        for name, value in fields.items()
        if name not in EXTRA_FIELDS or name in extra
    }
    return AtomicData(node_types=node_types(numbers, atomic_numbers), num_nodes=len(numbers), **tensors)


def _checksum(fields: Sequence[Any], stored: bytes) -> int:
    return zlib.crc32(stored, zlib.crc32(HEADER.pack(*fields, 0)))


def _compress(sections: Sequence[bytes]) -> bytes:
    """One stream, with code tables of its own for each section: 4 % smaller than with common ones."""
    deflater = zlib.compressobj(COMPRESSION_LEVEL)
    parts = [deflater.compress(section) + deflater.flush(zlib.Z_PARTIAL_FLUSH) for section in sections]
    return b"".join(parts) + deflater.flush()


def _sections(frame: AtomicData, extra: Mapping[str, Any]) -> list[bytes]:
    """The content: single numbers and small arrays; floats; pairs."""
    singles = {name: extra.get(name, np.nan) for name in EXTRA_FIELDS} | {
        name: frame[name].item() for name in (*SINGLE_FLOATS, *SINGLE_INTEGERS) if name not in EXTRA_FIELDS
    }
    senders, receivers = frame.pair_index.numpy()
    _check_size(frame.num_nodes, len(senders))
    shifts, codes = _different_rows(frame.shifts.numpy())
    counts = np.bincount(receivers, minlength=frame.num_nodes)
    text = frame.config_type.encode()
    head = HEAD.pack(
        *(frame.num_nodes, len(senders), len(shifts), len(text)),
        *(float(singles[name]) for name in SINGLE_FLOATS),
        *(int(singles[name]) for name in SINGLE_INTEGERS),
        *frame.pbc[0].tolist(),
    )
    small = [pack_integers(frame[name].numpy()) for name in ("atomic_numbers", "tags", "fixed")]
    floats = [frame[name].numpy() for name in ("cell", "positions", "forces", "stress")]
    floats.append(np.asarray(singles["relaxed_positions"], dtype=np.float64))
    pairs = [pack_integers(counts), pack_integers(_steps(senders, receivers, counts)), pack_integers(codes)]
    return [
        b"".join([head, text, *small]),
        b"".join([*map(pack_floats, floats), pack_floats(shifts)]),
        b"".join(pairs),
    ]


def _fields(content: bytes) -> dict[str, Any]:
    n_nodes, n_pairs, n_shifts, n_text, *singles = HEAD.unpack_from(content)
    _check_size(n_nodes, max(n_pairs, n_shifts))
    source = Unpacker(content, HEAD.size)
    names = (*SINGLE_FLOATS, *SINGLE_INTEGERS)
    fields: dict[str, Any] = {name: np.array([value]) for name, value in zip(names, singles[: len(names)], strict=True)}
    fields["pbc"] = np.array([singles[len(names) :]])
    fields["config_type"] = source.text(n_text)
    fields["atomic_numbers"], fields["tags"] = source.integers(n_nodes), source.integers(n_nodes)
    fields["fixed"] = source.integers(n_nodes).astype(bool)
    fields["cell"] = source.floats(9).reshape(1, 3, 3)
    fields["positions"] = source.floats(3 * n_nodes).reshape(n_nodes, 3)
    fields["forces"] = source.floats(3 * n_nodes).reshape(n_nodes, 3)
    fields["stress"] = source.floats(9).reshape(1, 3, 3)
    fields["relaxed_positions"] = source.floats(3 * n_nodes).reshape(n_nodes, 3)
    shifts = source.floats(3 * n_shifts).reshape(n_shifts, 3)
    counts = source.integers(n_nodes)
    fields["pair_index"] = _pairs(counts, source.integers(n_pairs))
    fields["shifts"] = shifts[_below(source.integers(n_pairs), n_shifts, "a shift")]
    source.finish()
    return fields


def _check_size(n_nodes: int, n_pairs: int) -> None:
    if n_nodes > MAX_NODES or n_pairs > MAX_PAIRS:
        raise ValueError(f"a record holds {MAX_NODES} atoms and {MAX_PAIRS} pairs at most, not {n_nodes} and {n_pairs}")


def _different_rows(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The rows that differ in a bit, and which of them each row is.

    Few shifts occur in a frame (eight on average in OC20 at 6 Å). Kept as they are, they are the same on every machine;
    whole numbers times the cell would depend on how its matrix product rounds.
    """
    bits = np.ascontiguousarray(rows).view(np.int64).reshape(-1, 3)
    # Sorting rows takes ten times as long as sorting a number for each. The shift brings the sign to further digits:
    # opposite shifts have opposite signs only.
    hashes = ((bits ^ (bits >> 29)) * ROW_HASH).sum(axis=1)
    known = np.unique(hashes)
    codes = np.searchsorted(known, hashes)
    different = np.zeros((len(known), 3), dtype=np.int64)
    different[codes] = bits
    if not np.array_equal(different[codes], bits):
        different, codes = np.unique(bits, axis=0, return_inverse=True)
    return different.view(np.float64), codes.ravel()


def _steps(senders: np.ndarray, receivers: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """From each sender to the next of the same receiver: small numbers, that repeat."""
    steps = np.diff(senders, prepend=0)
    starts = _starts(counts)
    steps[starts] = senders[starts]
    if (np.diff(receivers) < 0).any() or (steps < 0).any():
        raise ValueError("pairs are stored sorted by receiver, then sender, as neighbor_pairs gives them")
    return steps


def _pairs(counts: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """Undo `_steps`: pair_index, shape [2, n_pairs]."""
    if (counts < 0).any() or counts.sum() != len(steps):
        raise ValueError("numbers of neighbours and pairs do not fit each other")
    starts = _starts(counts)
    sums = np.cumsum(steps)
    senders = sums - np.repeat(sums[starts] - steps[starts], counts[counts > 0])
    return np.stack([_below(senders, len(counts), "a sender"), np.repeat(np.arange(len(counts)), counts)])


def _starts(counts: np.ndarray) -> np.ndarray:
    """Where the pairs of each receiver that has some begin."""
    return (np.cumsum(counts) - counts)[counts > 0]


def _below(values: np.ndarray, bound: int, what: str) -> np.ndarray:
    # An index out of range would be read past an array by compiled code.
    if len(values) and not 0 <= values.min() <= values.max() < bound:
        raise ValueError(f"{what} is out of range")
    return values
