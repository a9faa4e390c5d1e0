"""Batches are a pure function of seed and epoch, and bounded by edges."""

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
    assert list(sampler) == sampler.batches(2)


@pytest.mark.parametrize("bound", [None, 400, 1000, 100_000])
def test_every_frame_once_in_as_many_batches_in_each_epoch(bound):
    sampler = EpochBatchSampler(EDGES, 5, bound, seed=1)
    for epoch in (0, 1, 17, 40, 99):
        batches = sampler.batches(epoch)
        assert sorted(i for batch in batches for i in batch) == list(range(len(EDGES)))
        assert len(batches) == len(sampler) and all(batches)
        if bound is not None:
            assert max(EDGES[batch].sum() for batch in batches) <= bound


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 50), min_size=1, max_size=30), st.integers(50, 200), st.integers(0, 1000))
def test_any_sizes_fit(n_edges, bound, epoch):
    sampler = EpochBatchSampler(n_edges, 1, bound)
    batches = sampler.batches(epoch)
    assert sorted(i for batch in batches for i in batch) == list(range(len(n_edges)))
    assert len(batches) == len(sampler)
    assert all(sum(max(1, n_edges[i]) for i in batch) <= bound for batch in batches)


def test_without_shuffling_the_order_stays():
    sampler = EpochBatchSampler(EDGES, 10, shuffle=False)
    assert [i for batch in sampler.batches(3) for i in batch] == list(range(137))
    assert len(sampler) == 14


def test_frames_without_edges_do_not_pile_up():
    assert max(map(len, EpochBatchSampler([0] * 100, 1, 10).batches(0))) == 10


@pytest.mark.parametrize(("shuffle", "seen"), [(True, 28), (False, 28)])
def test_ranks_share_the_batches(monkeypatch, shuffle, seen):
    sampler = EpochBatchSampler(EDGES, 5, seed=1, shuffle=shuffle)
    everything = sampler.batches(0)
    parts = []
    for rank in range(3):
        monkeypatch.setattr("mace_gaunt.data.sampler._rank_and_world", lambda rank=rank: (rank, 3))
        parts.append(list(sampler))
        assert len(parts[-1]) == len(sampler)
    assert len(everything) == seen
    flat = [tuple(batch) for part in parts for batch in part]
    assert set(flat) == set(map(tuple, everything))
    # Training repeats the first batches so that ranks step together; validation repeats nothing.
    assert len(flat) == (30 if shuffle else 28)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(([3], 0), "batch_size is at least 1"), (([3, 90], 1, 50), "one frame has 90 edges"), (([], 1, 0), "at least 1")],
)
def test_refusals(arguments, message):
    with pytest.raises(UserError, match=message):
        EpochBatchSampler(*arguments)


def test_no_frames():
    assert list(EpochBatchSampler([], 5)) == [] and len(EpochBatchSampler([], 5, 100)) == 0
