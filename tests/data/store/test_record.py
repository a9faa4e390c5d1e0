"""A record holds a frame bit for bit, and notices every changed byte."""

import struct
import zlib

import ase
import numpy as np
import pytest
from ase.calculators.singlepoint import SinglePointCalculator
from slabs import make_slab, same_bits
from waters import make_atom, make_water

from mace_gaunt.data.atomic_data import AtomicData
from mace_gaunt.data.labels import LabelKeys
from mace_gaunt.data.store import record
from mace_gaunt.data.store.record import pack, to_frame, unpack
from mace_gaunt.errors import UserError

ELEMENTS = [1, 8, 29, 79]


def irregular() -> ase.Atoms:
    """Skewed, periodic in two directions, atoms far outside the cell, many images, values of 53 bits."""
    rng = np.random.default_rng(3)
    cell = [[3.1, 0.0, 0.0], [2.9, 2.5, 0.0], [-1.3, 2.2, 4.0]]
    atoms = ase.Atoms("CuHO", rng.uniform(-300, 300, (3, 3)), cell=cell, pbc=[True, True, False])
    results = {"energy": -1 / 3, "forces": rng.normal(size=(3, 3)), "stress": rng.normal(size=6)}
    atoms.calc = SinglePointCalculator(atoms, **results)
    atoms.info |= {"config_type": "ünusual", "config_weight": 0.3, "config_forces_weight": 0.0, "sid": 7, "fid": 11}
    return atoms


def large() -> ase.Atoms:
    """More atoms than a byte counts."""
    grid = np.stack(np.meshgrid(*[np.arange(7.0)] * 3), axis=-1).reshape(-1, 3)
    return ase.Atoms("H343", 2 * grid)


@pytest.mark.parametrize(
    "atoms",
    [
        make_slab(2, sid=12345, fid=3),
        make_slab(0, energy=1e-9),
        irregular(),
        large(),
        make_atom("H"),
        ase.Atoms("H", cell=np.eye(3) * 2, pbc=True),
        ase.Atoms("HO", [[0, 0, 0], [0, 0, 99.0]]),
        make_water(1, energy=None, forces=False),
        make_water(1, energy=-2070.123456789012345),
    ],
    ids=["slab", "small", "irregular", "large", "atom", "own images", "far", "no labels", "water"],
)
def test_round_trip(atoms):
    frame = AtomicData.from_atoms(atoms, 3.5, ELEMENTS, LabelKeys(), frame_index=5)
    packed = pack(frame)
    same_bits(to_frame(unpack(packed), ELEMENTS), frame)
    assert pack(to_frame(unpack(packed), ELEMENTS)) == packed


def test_the_model_decides_on_node_types():
    packed = pack(AtomicData.from_atoms(make_slab(2), 3.5, ELEMENTS))
    assert to_frame(unpack(packed), [1, 6, 8, 29, 79]).node_types.tolist() == [3, 3, 4, 3, 2, 0]
    with pytest.raises(UserError, match="unknown element Au"):
        to_frame(unpack(packed), [1, 8, 29])


def test_extra_fields():
    frame = AtomicData.from_atoms(make_slab(0), 3.5, ELEMENTS)
    relaxed = np.random.default_rng(0).normal(size=(4, 3))
    packed = pack(frame, {"relaxed_energy": -1.5, "relaxed_positions": relaxed})
    read = to_frame(unpack(packed), ELEMENTS, ["relaxed_energy", "relaxed_positions", "reference_energy"])
    assert read.relaxed_energy.tolist() == [-1.5]
    assert read.relaxed_positions.numpy().tobytes() == relaxed.tobytes()
    assert read.reference_energy.isnan().tolist() == [True]
    assert "relaxed_energy" not in to_frame(unpack(packed), ELEMENTS)
    absent = to_frame(unpack(pack(frame)), ELEMENTS, ["relaxed_positions"]).relaxed_positions
    assert absent.shape == (4, 3)
    assert absent.isnan().all()


def test_frames_can_be_changed_in_place():
    frame = to_frame(unpack(pack(AtomicData.from_atoms(make_slab(1), 3.5, ELEMENTS))), ELEMENTS)
    frame.positions += 1
    frame.pair_index += 1
    frame.energy += 1


def test_equal_hashes_of_different_shifts(monkeypatch):
    monkeypatch.setattr(record, "ROW_HASH", np.zeros(3, dtype=np.int64))
    frame = AtomicData.from_atoms(irregular(), 3.5, ELEMENTS, LabelKeys())
    same_bits(to_frame(unpack(pack(frame)), ELEMENTS), frame)


def test_pairs_in_another_order_are_refused():
    frame = AtomicData.from_atoms(make_slab(0), 3.5, ELEMENTS)
    frame.pair_index, frame.shifts = frame.pair_index.flip(1), frame.shifts.flip(0)
    with pytest.raises(ValueError, match="sorted by receiver"):
        pack(frame)


def test_every_changed_byte_is_noticed():
    packed = pack(AtomicData.from_atoms(make_slab(0), 3.5, ELEMENTS, LabelKeys()))
    for position in range(len(packed)):
        changed = bytearray(packed)
        changed[position] ^= 1 << (position % 8)
        with pytest.raises(ValueError, match=r"damaged|at least|format"):
            unpack(bytes(changed))
    for size in (0, 5, 16, len(packed) - 1):
        with pytest.raises(ValueError, match=r"damaged|at least"):
            unpack(packed[:size])


def sealed(content: bytes, size: int | None = None, compressed: int = 0) -> bytes:
    """Any content with a right checksum."""
    fields = (b"MG", 1, compressed, len(content), len(content) if size is None else size)
    return record.HEADER.pack(*fields, zlib.crc32(content, zlib.crc32(record.HEADER.pack(*fields, 0)))) + content


def test_hostile_records_with_right_checksums():
    """Anybody can compute a checksum: what it covers must not lead to reads out of range or to endless memory."""
    packed = pack(AtomicData.from_atoms(make_slab(2), 3.5, ELEMENTS, LabelKeys()))
    content = record.read_content(packed)
    for position in range(len(content)):
        changed = bytearray(content)
        changed[position] ^= 0xFF
        try:
            fields = unpack(sealed(bytes(changed)))
        except ValueError:
            continue
        n_nodes = len(fields["atomic_numbers"])
        assert fields["positions"].shape == fields["forces"].shape == (n_nodes, 3)
        assert fields["pair_index"].shape[1] == len(fields["shifts"])
        assert ((fields["pair_index"] >= 0) & (fields["pair_index"] < n_nodes)).all()
    for bad, message in [
        (sealed(b""), "makes no sense"),
        (sealed(content[:-1]), "makes no sense: it ends early"),
        (sealed(content + b"x"), "makes no sense: 1 bytes are left over"),
        (sealed(struct.pack("<IIII", 2**32 - 1, 0, 0, 0) + content[16:]), "makes no sense: a record holds"),
        (sealed(struct.pack("<IIII", 1, 2**32 - 1, 0, 0) + content[16:]), "makes no sense: a record holds"),
        (sealed(b"no stream", 9, 1), "cannot be decompressed"),
        (sealed(zlib.compress(bytes(10**6)), 100, 1), "does not have the size"),
        (sealed(zlib.compress(bytes(100)), 10**6, 1), "does not have the size"),
    ]:
        with pytest.raises(ValueError, match=message):
            unpack(bad)
