"""A batch equals its members, and what torch_geometric makes of them."""

import ase
import pytest
import torch
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
