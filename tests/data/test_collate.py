"""A batch equals its members, and what torch_geometric makes of them."""

import ase
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch_geometric.data import Batch
from waters import make_atom, make_water

from mace_gaunt.data.atomic_data import FIELDS, AtomicData
from mace_gaunt.data.collate import collate
from mace_gaunt.data.labels import LabelKeys


@pytest.fixture
def frames():
    crystal = ase.Atoms("H", cell=[1.5, 1.6, 1.7], pbc=(True, True, False))
    structures = [make_water(0), make_atom("O"), crystal, make_water(1, forces=False, config_type="b"), make_atom("H")]
    return [
        AtomicData.from_atoms(atoms, 3.0, [1, 8], LabelKeys(), frame_index=10 + i) for i, atoms in enumerate(structures)
    ]


def same(first, second):
    if isinstance(first, torch.Tensor):
        torch.testing.assert_close(first, second, rtol=0, atol=0, equal_nan=True)
        assert first.dtype == second.dtype
    else:
        assert first == second


def test_equals_torch_geometric(frames):
    ours, theirs = collate(frames), Batch.from_data_list(frames)
    assert type(ours) is type(theirs) and set(ours.keys()) == set(theirs.keys())
    for field in theirs.keys():  # noqa: SIM118
        same(ours[field], theirs[field])
    assert ours.num_graphs == len(ours) == 5
    assert ours.num_nodes == 9
    assert ours.frame_index.tolist() == [10, 11, 12, 13, 14]


def test_members_come_back(frames):
    batch = collate(frames)
    for i, frame in enumerate(frames):
        for member in (batch[i], batch.to_data_list()[i], batch.get_example(i)):
            assert isinstance(member, AtomicData) and member.num_nodes == frame.num_nodes
            for field in FIELDS:
                same(member[field], frame[field])


def test_pairs_stay_within_their_graph_and_sorted_by_receiver(frames):
    batch = collate(frames)
    senders, receivers = batch.pair_index
    assert (batch.batch[senders] == batch.batch[receivers]).all()
    assert (receivers.diff() >= 0).all()
    edges = torch.cat([batch.pair_index, batch.pair_index.flip(0)], dim=1)
    assert torch.equal(batch.edge_index, edges) and batch.num_edges == edges.shape[1] > 0
    torch.testing.assert_close(batch.ptr, torch.tensor([0, 3, 4, 5, 8, 9]))


def test_fields_may_be_a_subset():
    frames = [AtomicData(positions=torch.zeros(n, 3), pair_index=torch.zeros(2, 0).long(), num_nodes=n) for n in (1, 2)]
    batch = collate(frames)
    assert batch.batch.tolist() == [0, 1, 1] and batch.edge_index.shape == (2, 0)


def test_a_batch_of_nothing(frames):
    empty, batch = collate([]), collate(frames)
    assert empty.num_graphs == len(empty) == empty.num_nodes == 0
    assert set(empty.keys()) == set(batch.keys())
    for field in (*FIELDS, "batch"):
        if isinstance(batch[field], torch.Tensor):
            assert empty[field].dtype == batch[field].dtype and empty[field].numel() == 0
            assert empty[field].dim() == batch[field].dim()
    assert empty.to("cpu").num_edges == 0


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 5), min_size=1, max_size=5), st.integers(0, 2**20), st.booleans())
def test_any_structures_come_back(sizes, seed, periodic):
    """Batches of any structures fall into the same frames; pairs never lead from one to another."""
    rng = np.random.default_rng(seed)
    frames = []
    for i, n_nodes in enumerate(sizes):
        atoms = ase.Atoms(rng.choice([1, 8], n_nodes), rng.uniform(0, 4, (n_nodes, 3)))
        atoms.set_cell(np.diag(rng.uniform(2, 5, 3)))
        atoms.pbc = rng.choice([True, False], 3) if periodic else False
        atoms.info |= {"energy": float(rng.normal()), "config_type": f"type {i}", "sid": i}
        frames.append(AtomicData.from_atoms(atoms, 3.0, [1, 8], LabelKeys(), frame_index=i))
    batch = collate(frames)
    assert batch.num_graphs == len(frames) and batch.num_nodes == sum(sizes)
    assert (batch.batch[batch.pair_index[0]] == batch.batch[batch.pair_index[1]]).all()
    for member, frame in zip(batch.to_data_list(), frames, strict=True):
        assert set(member.keys()) == set(frame.keys())
        for field in FIELDS:
            same(member[field], frame[field])
    again = collate(batch.to_data_list())
    for field in (*FIELDS, "batch", "ptr"):
        same(again[field], batch[field])
