"""Both directions of a pair against what is computed for each of them."""

import torch

from mace_gaunt.so3.harmonics import spherical_harmonics
from mace_gaunt.so3.mirror import (
    harmonic_parities,
    mirror_harmonics,
    mirror_index,
    mirror_values,
    mirror_vectors,
    sum_at_receivers,
)


def test_harmonics_of_the_mirrored_vectors():
    vectors = torch.nn.functional.normalize(torch.randn(6, 3, dtype=torch.float64), dim=1)
    found = mirror_harmonics(spherical_harmonics(vectors, 5), harmonic_parities(5))
    torch.testing.assert_close(found, spherical_harmonics(mirror_vectors(vectors), 5), atol=1e-12, rtol=0)


def test_the_second_half_goes_the_other_way_round():
    pairs = torch.tensor([[0, 1, 2], [1, 2, 2]])
    assert mirror_index(pairs).tolist() == [[0, 1, 2, 1, 2, 2], [1, 2, 2, 0, 1, 2]]
    assert mirror_index(pairs[:, :0]).shape == (2, 0)


def test_sums_of_pairs_are_those_of_both_edges():
    """The last pair is an atom and its own image, which receives it twice."""
    pairs, values = torch.tensor([[0, 0, 1], [1, 2, 1]]), torch.tensor([1.0, 10.0, 100.0])
    found = sum_at_receivers(values, pairs, 4, mirrored=True)
    assert found.tolist() == [11.0, 201.0, 10.0, 0.0]
    assert torch.equal(found, sum_at_receivers(mirror_values(values), mirror_index(pairs), 4, mirrored=False))
