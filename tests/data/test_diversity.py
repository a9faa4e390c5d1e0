"""The Vendi score."""

import numpy as np
import pytest
from waters import make_water

from mace_gaunt.data.descriptors import RadialAngularDescriptor
from mace_gaunt.data.diversity import (
    MAX_KERNEL,
    Similarity,
    describe_orders,
    median_distance,
    parse_orders,
    vendi_score,
)
from mace_gaunt.errors import UserError

ORDERS = (0.0, 0.1, 0.5, 1.0, 2.0, 5.0, np.inf)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("kernel", ["gaussian", "cosine"])
def test_equal_frames_count_once(kernel, order):
    features = np.tile(np.random.default_rng(0).normal(size=12), (40, 1))
    assert Similarity.of(features, kernel).vendi(features, order) == pytest.approx(1.0, abs=1e-12)


@pytest.mark.parametrize("order", ORDERS)
def test_frames_that_have_nothing_in_common_count_one_by_one(order):
    features = 50.0 * np.eye(30)
    assert Similarity.of(features, bandwidth=0.05).vendi(features, order) == pytest.approx(30.0, rel=1e-10)
    assert vendi_score(np.full(30, 1 / 30), order) == pytest.approx(30.0, rel=1e-12)


def test_copies_change_nothing():
    features = np.random.default_rng(0).normal(size=(50, 8))
    similarity = Similarity.of(features)
    for order in ORDERS:
        doubled = np.concatenate([features, features])
        assert similarity.vendi(doubled, order) == pytest.approx(similarity.vendi(features, order), rel=1e-8)


def test_orders():
    values = np.array([0.5, 0.25, 0.125, 0.125])
    entropy = -(values * np.log(values)).sum()
    assert vendi_score(values, 1) == pytest.approx(np.exp(entropy), rel=1e-14)
    assert vendi_score(values, 2) == pytest.approx(1 / (values**2).sum(), rel=1e-14)
    assert vendi_score(values, 0) == pytest.approx(4, rel=1e-14)
    assert vendi_score(values, np.inf) == 2.0
    assert vendi_score(values, 0.5) == pytest.approx(np.sqrt(values).sum() ** 2, rel=1e-14)
    # The limits.
    assert vendi_score(values, 1 + 1e-7) == pytest.approx(vendi_score(values, 1), rel=1e-6)
    assert vendi_score(values, 1e-9) == pytest.approx(4, rel=1e-8)
    assert vendi_score(values, 5000) == pytest.approx(2.0, rel=1e-3)
    scores = [vendi_score(values, order) for order in ORDERS]
    assert scores == sorted(scores, reverse=True)
    assert describe_orders(values, [1.0, np.inf]) == {"1": pytest.approx(np.exp(entropy)), "inf": 2.0}


@pytest.mark.parametrize("n", [5, 40])
def test_covariance_and_kernel_have_the_same_eigenvalues(n):
    """The d x d matrix of the cosine kernel (n > d) against the n x n one, made by hand."""
    features = np.random.default_rng(n).normal(size=(n, 12)) * np.arange(1, 13)
    similarity = Similarity.of(features, "cosine")
    x = similarity.scale(features)
    squares = 12 + (x**2).sum(axis=1)
    kernel = (12 + x @ x.T) / np.sqrt(np.outer(squares, squares))
    expected = np.linalg.eigvalsh(kernel / n)[-13:]
    found = similarity.eigenvalues(features)
    assert found.sum() == pytest.approx(1.0, abs=1e-13)
    np.testing.assert_allclose(found, expected[-len(found) :], atol=1e-13)
    for order in ORDERS:
        assert vendi_score(found, order) == pytest.approx(vendi_score(expected[expected > 1e-12], order), rel=1e-10)


def test_gaussian_kernel_by_hand():
    features = np.random.default_rng(0).normal(size=(20, 5))
    x = (features - features.mean(axis=0)) / features.std(axis=0)
    squares = ((x[:, None] - x[None]) ** 2).sum(axis=-1)
    width = 0.5 * np.median(np.sqrt(squares[np.triu_indices(20, 1)]))
    expected = np.linalg.eigvalsh(np.exp(-squares / (2 * width**2)) / 20)
    np.testing.assert_allclose(Similarity.of(features, bandwidth=0.5).eigenvalues(features), expected, atol=1e-13)


def test_the_score_does_not_change_when_frames_are_moved_or_listed_anew():
    describe = RadialAngularDescriptor()
    frames = [make_water(i) for i in range(20)]
    turned = [atoms.copy() for atoms in frames[::-1]]
    for i, atoms in enumerate(turned):
        atoms.rotate(40 * i, "xyz"[i % 3])
        atoms.positions += i
    first, second = (np.array([describe(atoms) for atoms in part]) for part in (frames, turned))
    assert Similarity.of(first).vendi(first) == pytest.approx(Similarity.of(second).vendi(second), rel=1e-10)


def test_rounding_is_no_difference():
    features = np.random.default_rng(0).normal(size=12) * (1 + 1e-14 * np.random.default_rng(1).normal(size=(30, 12)))
    for kernel in ("gaussian", "cosine"):
        assert Similarity.of(features, kernel).vendi(features) == pytest.approx(1.0, abs=1e-10)


def test_a_subset_is_scored_on_the_scale_of_the_set():
    features = np.random.default_rng(0).normal(size=(200, 6))
    similarity = Similarity.of(features)
    near = np.argsort(np.linalg.norm(features, axis=1))[:50]
    far = np.argsort(np.linalg.norm(features, axis=1))[-50:]
    assert similarity.vendi(features[near]) < similarity.vendi(features[far]) < 50


def test_median_distance():
    assert median_distance(np.zeros((10, 3))) == 1.0
    assert median_distance(np.array([[0.0], [0.0], [2.0]])) == 2.0
    many = np.random.default_rng(0).normal(size=(3000, 3))
    assert median_distance(many) == median_distance(many) == pytest.approx(2.175, rel=0.05)


def test_refusals():
    features = np.random.default_rng(0).normal(size=(MAX_KERNEL + 1, 2))
    with pytest.raises(UserError, match=r"max_frames=5000.*kernel=cosine"):
        Similarity.of(features).eigenvalues(features)
    assert Similarity.of(features, "cosine").vendi(features) < 4
    with pytest.raises(UserError, match="Did you mean 'cosine'"):
        Similarity.of(features, "cosin")
    with pytest.raises(UserError, match="no frames"):
        Similarity.of(features[:0])
    with pytest.raises(UserError, match="bandwidth"):
        Similarity.of(features, bandwidth=0.0)
    with pytest.raises(UserError, match="0 or more"):
        vendi_score(np.ones(2), -1)
    assert parse_orders(["0.1", "inf"]) == [0.1, np.inf]
    for text in ("x", "-1", "nan"):
        with pytest.raises(UserError):
            parse_orders([text])
