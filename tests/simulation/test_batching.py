"""Streams of structures: how they are cut, and that nothing piles up."""

import functools
import gc
import weakref
from itertools import pairwise

import numpy as np
import pytest
import torch
from ase import Atoms

from mace_gaunt.data.atomic_data import AtomicData
from mace_gaunt.model.gradients import edge_gradient, predict
from mace_gaunt.simulation.batching import in_batches, predict_batches


def graph(atoms, model):
    return AtomicData.from_atoms(atoms, model.r_max, model.atomic_numbers)


def cost(frame):
    return frame.num_edges + frame.num_nodes


@pytest.fixture
def frames(toy, molecule, crystal):
    """Without neighbours, finite, periodic, and one that is larger than the bounds below."""
    structures = [Atoms("H"), molecule, crystal, Atoms("CO", [[0, 0, 0], [9.0, 0, 0]]), crystal.repeat(3), molecule]
    return [graph(atoms, toy) for atoms in structures]


@pytest.mark.parametrize("bound", [1, 40, 200])
def test_batches_keep_to_the_bound(frames, bound):
    batches = list(in_batches(iter(frames), bound))
    assert [frame for batch in batches for frame in batch] == frames
    assert all(len(batch) == 1 or sum(map(cost, batch)) <= bound for batch in batches)
    assert all(sum(map(cost, one)) + cost(other[0]) > bound for one, other in pairwise(batches))
    assert any(cost(batch[0]) > bound for batch in batches)


@pytest.mark.parametrize("bound", [1, 200, 100_000])
def test_batches_are_predicted_as_their_members(toy, frames, bound):
    found = list(predict_batches(toy, frames, bound, stress=True))
    parts = [predict(toy, frame, stress=True) for frame in frames]
    for name in ("energy", "node_energy", "forces", "stress"):
        together = torch.cat([prediction[name] for _, prediction in found])
        torch.testing.assert_close(
            together, torch.cat([part[name] for part in parts]), atol=1e-10, rtol=0, equal_nan=True
        )
    assert sum(batch.num_graphs for batch, _ in found) == len(frames)


def test_every_batch_is_shown_before_it_is_predicted(toy, frames):
    shown = []

    def gradient_of(batch):
        shown.append(batch.num_graphs)
        return functools.partial(edge_gradient, toy)

    found = list(predict_batches(toy, frames, 200, gradient_of=gradient_of))
    assert shown == [batch.num_graphs for batch, _ in found] and len(shown) > 1


@pytest.fixture
def quick_collection():
    """What lives already is left out of the collections, which take a second each at the end of a long session."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


def test_a_stream_is_read_as_it_goes_and_let_go(toy, molecule, quick_collection):
    frames = []
    most = 0

    def stream():
        nonlocal most
        for _ in range(30):
            frame = graph(molecule, toy)
            frames.append(weakref.ref(frame))
            gc.collect()
            most = max(most, sum(known() is not None for known in frames))
            yield frame

    batches = predict_batches(toy, stream(), 3 * cost(graph(molecule, toy)))
    first, _ = next(batches)
    assert (first.num_graphs, len(frames)) == (3, 4)
    assert sum(batch.num_graphs for batch, _ in batches) == 27
    assert len(frames) == 30 and most <= 8


def test_the_calculator_reads_a_generator(calculator, molecule):
    one = calculator.evaluate([molecule])[0]
    many = calculator.evaluate((molecule.copy() for _ in range(5)), max_edges_per_batch=1)
    assert len(many) == 5
    for result in many:
        np.testing.assert_allclose(result["forces"], one["forces"], atol=1e-12)
