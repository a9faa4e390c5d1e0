"""Batches made here and in other processes."""

import pickle
import warnings

import pytest
import torch
from waters import make_atom, make_water

from mace_gaunt.data.atomic_data import FIELDS, AtomicData
from mace_gaunt.data.collate import collate
from mace_gaunt.data.loader import batch_loader, collate_to_bytes
from mace_gaunt.data.sampler import EpochBatchSampler


@pytest.fixture
def frames():
    structures = [make_water(0), make_atom("O"), make_water(1, config_type="b"), make_water(2), make_atom("H")]
    return [AtomicData.from_atoms(atoms, 3.0, [1, 8], frame_index=i) for i, atoms in enumerate(structures)]


def in_pairs(frames):
    return EpochBatchSampler([1] * len(frames), 2, shuffle=False)


def assert_same(found, expected):
    assert set(found.keys()) == set(expected.keys()) and found.num_graphs == expected.num_graphs
    for one, other in zip([found, *found.to_data_list()], [expected, *expected.to_data_list()], strict=True):
        for field in FIELDS:
            if isinstance(other[field], torch.Tensor):
                torch.testing.assert_close(one[field], other[field], rtol=0, atol=0, equal_nan=True)
                assert one[field].dtype == other[field].dtype
            else:
                assert one[field] == other[field]


def test_bytes_are_the_batch(frames):
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # torch warns of memory that may not be written to
        batch = pickle.loads(collate_to_bytes(frames))
    assert_same(batch, collate(frames))
    batch.positions += 1.0
    assert not torch.equal(batch[0].positions, frames[0].positions)
    assert pickle.loads(collate_to_bytes([])).num_graphs == 0


@pytest.mark.parametrize("num_workers", [0, 2])
def test_processes_give_the_same_batches_in_every_epoch(frames, num_workers):
    loader = batch_loader(frames, in_pairs(frames), num_workers)
    for _ in range(2):
        batches = list(loader)
        assert len(batches) == len(loader) == 3
        for found, members in zip(batches, (frames[:2], frames[2:4], frames[4:]), strict=True):
            assert_same(found, collate(members))


class Broken(list):
    """Frames of which one cannot be read."""

    def __getitem__(self, index):
        if index == 3:
            raise ValueError("frame 3 cannot be read")
        return super().__getitem__(index)


@pytest.mark.parametrize("num_workers", [0, 1])
def test_errors_arrive_with_their_batch(frames, num_workers):
    batches = iter(batch_loader(Broken(frames), in_pairs(frames), num_workers))
    assert next(batches).num_graphs == 2
    with pytest.raises(ValueError, match="frame 3 cannot be read"):
        next(batches)


@pytest.mark.parametrize("num_workers", [0, 1])
def test_continues_in_the_middle(frames, num_workers):
    loader, other = (batch_loader(frames, in_pairs(frames), num_workers) for _ in range(2))
    batches = list(loader)
    before = torch.get_rng_state()
    begun = iter(loader)
    next(begun)
    other.load_state_dict(loader.state_dict())
    rest = iter(other)
    for expected in batches[1:]:
        assert_same(next(rest), expected)
    assert next(rest, None) is None and other.state_dict() == {"batches": 3}
    assert len(list(other)) == 3
    assert torch.equal(torch.get_rng_state(), before)
