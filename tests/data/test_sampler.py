"""Batches are a pure function of seed and epoch, and bounded by edges."""

import tracemalloc

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mace_gaunt.data.sampler import EpochBatchSampler
from mace_gaunt.errors import UserError

EDGES = np.random.default_rng(0).integers(0, 400, 137)


def test_order_depends_on_seed_and_epoch_only():
    first, second = (EpochBatchSampler(EDGES, 5, seed=3) for _ in range(2))
    torch.manual_seed(0)
    np.random.seed(0)
    history = []
    for epoch in range(4):
        first.set_epoch(epoch)
        history.append(list(first))
    torch.manual_seed(99)
    second.set_epoch(3)
    assert list(second) == history[3] == list(second)
    assert history[0] != history[1] != history[2]
    assert list(EpochBatchSampler(EDGES, 5, seed=4)) != history[0]


def test_asking_leaves_global_random_states_alone():
    torch.manual_seed(5)
    before = torch.random.get_rng_state(), np.random.get_state()[1].copy()
    list(EpochBatchSampler(EDGES, 5))
    assert torch.equal(before[0], torch.random.get_rng_state())
    np.testing.assert_array_equal(before[1], np.random.get_state()[1])


def test_lightning_finds_set_epoch():
    sampler = EpochBatchSampler(EDGES, 5)
    sampler.sampler.set_epoch(2)
    assert list(sampler) == list(sampler.batches(2))


@pytest.mark.parametrize("bound", [None, 400, 1000, 100_000])
def test_every_frame_once_in_as_many_batches_in_each_epoch(bound):
    sampler = EpochBatchSampler(EDGES, 5, bound, seed=1)
    for epoch in (0, 1, 17, 40, 99):
        batches = list(sampler.batches(epoch))
        assert sorted(i for batch in batches for i in batch) == list(range(len(EDGES)))
        assert len(batches) == len(sampler) and all(batches)
        if bound is not None:
            assert max(EDGES[batch].sum() for batch in batches) <= bound


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 50), min_size=1, max_size=30), st.integers(50, 200), st.integers(0, 1000))
def test_any_sizes_fit(n_edges, bound, epoch):
    sampler = EpochBatchSampler(n_edges, 1, bound)
    batches = list(sampler.batches(epoch))
    assert sorted(i for batch in batches for i in batch) == list(range(len(n_edges)))
    assert len(batches) == len(sampler)
    assert all(sum(max(1, n_edges[i]) for i in batch) <= bound for batch in batches)


def test_without_shuffling_the_order_stays():
    sampler = EpochBatchSampler(EDGES, 10, shuffle=False)
    assert [i for batch in sampler.batches(3) for i in batch] == list(range(137))
    assert len(sampler) == 14


def test_frames_without_edges_do_not_pile_up():
    assert max(map(len, EpochBatchSampler([0] * 100, 1, 10).batches(0))) == 10


def shares(monkeypatch, sampler, world):
    """The batches of each rank."""
    parts = []
    for rank in range(world):
        monkeypatch.setattr("mace_gaunt.data.sampler._rank_and_world", lambda rank=rank: (rank, world))
        parts.append(list(sampler))
        assert len(parts[-1]) == len(sampler)
    return parts


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize(("batch_size", "world"), [(5, 3), (5, 4), (137, 2), (100, 5), (1, 1)])
def test_ranks_share_the_batches(monkeypatch, shuffle, batch_size, world):
    sampler = EpochBatchSampler(EDGES, batch_size, seed=1, shuffle=shuffle)
    everything = list(sampler.batches(0))
    parts = shares(monkeypatch, sampler, world)
    # Steps are taken together: all ranks have as many, the last may be empty, and every frame is seen once.
    assert len(set(map(len, parts))) == 1 and all(all(part[:-1]) for part in parts)
    assert [batch for step in zip(*parts, strict=True) for batch in step if batch] == everything


@settings(max_examples=60, deadline=None)
@given(
    n_edges=st.lists(st.integers(0, 50), min_size=1, max_size=40),
    batch_size=st.integers(1, 12),
    bound=st.none() | st.integers(50, 200),
    world=st.integers(1, 9),
    epoch=st.integers(0, 1000),
    shuffle=st.booleans(),
)
def test_any_number_of_ranks_sees_every_frame_once(n_edges, batch_size, bound, world, epoch, shuffle):
    """And takes as many steps as every other rank, as many as its length says."""
    sampler = EpochBatchSampler(n_edges, batch_size, bound, seed=3, shuffle=shuffle)
    sampler.set_epoch(epoch)
    with pytest.MonkeyPatch.context() as patch:
        parts = shares(patch, sampler, world)
    assert len({len(part) for part in parts}) == 1
    assert sorted(i for part in parts for batch in part for i in batch) == list(range(len(n_edges)))
    for batch in (batch for part in parts for batch in part):
        assert len(batch) <= batch_size if bound is None else sum(max(1, n_edges[i]) for i in batch) <= bound


@pytest.mark.parametrize("bound", [None, 1000])
@pytest.mark.parametrize("shuffle", [True, False])
def test_large_sets_are_drawn_in_windows(monkeypatch, bound, shuffle):
    monkeypatch.setattr("mace_gaunt.data.sampler.WINDOW", 64)
    monkeypatch.setattr("mace_gaunt.data.sampler.BLOCK", 8)
    n_edges = np.random.default_rng(1).integers(0, 400, 1003)
    sampler = EpochBatchSampler(n_edges, 5, bound, seed=2, shuffle=shuffle)
    orders = []
    for epoch in (0, 1, 7, 50):
        batches = list(sampler.batches(epoch))
        orders.append([i for batch in batches for i in batch])
        assert sorted(orders[-1]) == list(range(1003))
        assert len(batches) == len(sampler) and all(batches)
        assert bound is None or max(n_edges[batch].sum() for batch in batches) <= bound
    if not shuffle:
        assert orders[0] == orders[1] == list(range(1003))
        return
    assert orders[0] != orders[1]
    # Frames that are far apart come together, and neighbours are seldom neighbours.
    reach = [max(order[i : i + 64]) - min(order[i : i + 64]) for order in orders for i in range(0, 900, 64)]
    assert min(reach) > 400
    assert np.mean(np.abs(np.diff(orders[0])) == 1) < 0.1


def test_memory_does_not_grow_with_the_set():
    tracemalloc.start()
    peaks = []
    for n_frames in (1 << 19, 1 << 21):
        sampler = EpochBatchSampler(np.broadcast_to(np.int32(7), n_frames), 64, seed=1)
        tracemalloc.reset_peak()
        assert sum(1 for _ in sampler) == len(sampler) == n_frames // 64
        peaks.append(tracemalloc.get_traced_memory()[1])
    tracemalloc.stop()
    assert peaks[1] < 1.1 * peaks[0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(([3], 0), "batch_size is at least 1"), (([3, 90], 1, 50), "one frame has 90 edges"), (([], 1, 0), "at least 1")],
)
def test_refusals(arguments, message):
    with pytest.raises(UserError, match=message):
        EpochBatchSampler(*arguments)


def test_no_frames():
    assert list(EpochBatchSampler([], 5)) == [] and len(EpochBatchSampler([], 5, 100)) == 0
