"""kernel=auto measures on a part of a large batch: how much, and that it is a batch like the whole."""

import itertools
import math

import pytest
import torch

from mace_gaunt.tensor_products import edge_product, feature_product, node_product, sample, selection

CPU = torch.device("cpu")


@pytest.mark.parametrize("channels", [16, 256])
@pytest.mark.parametrize("degree", [1, 6])
def test_large_batches_are_cut_to_the_same_amount_of_work(channels, degree):
    edges = edge_product("gaunt", degree, degree, degree, num_channels=channels)
    nodes = node_product("gaunt", degree, degree, 2, 1, channels)
    numbers = sample.NUMBERS_PER_THREAD * max(sample.FEWEST_THREADS, torch.get_num_threads())
    for product, weight in ((edges, 1), (nodes, sample.EDGES_PER_NODE)):
        rows = sample.enough_rows(product, channels, CPU)
        row = weight * (degree + 1) ** 2 * channels
        assert rows * row <= numbers < (rows + 1) * row


def test_on_a_gpu_and_of_feature_products_all_rows_are_measured():
    features = feature_product("gaunt", 1, 1, 1)
    assert sample.enough_rows(features, 64, CPU) is None
    assert sample.enough_rows(edge_product("gaunt", 1, 1, 1), 64, torch.device("cuda")) is None
    x = torch.zeros(10**5, 4, 1)
    assert sample.first_rows(features, (x, x))[0] is x


def test_example_inputs_of_a_huge_batch_are_small():
    product = edge_product("gaunt", 1, 1, 1, num_channels=64)
    features, vectors, weights, edge_index = selection.example_inputs(product, 10**8, 2 * 10**9)
    rows = sample.enough_rows(product, 64, CPU)
    assert vectors.shape[0] == weights.shape[0] == edge_index.shape[1] == rows
    assert features.shape[0] == round(rows / 20) > int(edge_index.max())
    nodes = node_product("gaunt", 1, 1, 2, 3, 64)
    assert selection.example_inputs(nodes, 10**9, 10**9)[0].shape[0] == sample.enough_rows(nodes, 64, CPU)


def test_a_part_of_a_batch_is_a_batch(monkeypatch):
    monkeypatch.setattr(sample, "enough_rows", lambda *arguments: 30)
    product = edge_product("gaunt", 1, 2, 2, num_channels=3)
    index = torch.stack([torch.randint(20, (200,)), torch.arange(200) // 10])
    inputs = (torch.randn(20, 4, 3), torch.randn(200, 3), torch.randn(200, product.weight_numel, 3), index)
    features, vectors, weights, part = sample.first_rows(product, inputs)
    assert (features.shape[0], vectors.shape[0], weights.shape[0], part.shape[1]) == (3, 30, 30, 30)
    assert int(part.max()) < 3 and part[1].equal(part[1].sort().values)
    assert selection.call(product, (features, vectors, weights, part)).isfinite().all()
    nodes = node_product("gaunt", 1, 1, 2, 3, 4)
    kept = sample.first_rows(nodes, (torch.randn(50, 4, 4), torch.zeros(50, dtype=torch.long)))
    assert [value.shape[0] for value in kept] == [30, 30]


def test_the_choice_is_measured_on_the_part(monkeypatch):
    seen = []

    def measure(product, inputs, names, order):
        seen.append(inputs[1].shape[0])
        return {name: float(position) for position, name in enumerate(names)}

    monkeypatch.setattr(sample, "enough_rows", lambda *arguments: 30)
    monkeypatch.setattr(selection, "measure", measure)
    product = edge_product("gaunt", 1, 2, 2, num_channels=3)
    index = torch.zeros(2, 200, dtype=torch.long)
    inputs = (torch.randn(20, 4, 3), torch.randn(200, 3), torch.randn(200, product.weight_numel, 3), index)
    choice = selection.select_kernel(product, inputs, training=True, cache=False)
    assert seen == [30] and choice.kernel == "grid"


def test_a_kernel_is_not_lost_by_one_disturbance(monkeypatch):
    """Three rounds come first; whatever is far behind in all of them is dropped."""
    times = {"good": itertools.chain([9.0], itertools.repeat(1.0)), "other": itertools.repeat(1.5)}
    times["far"] = itertools.repeat(5.0)
    monkeypatch.setattr(selection, "timed", lambda run, device: next(times[run]))
    monkeypatch.setattr(selection, "MOST_ROUNDS", 12)
    monkeypatch.setattr(selection, "ENOUGH_SECONDS", math.inf)
    found = selection.timed_in_turns({name: name for name in times}, CPU)
    assert found == {"good": 1e3, "other": 1.5e3, "far": 5e3}
    assert next(times["far"]) == 5.0
