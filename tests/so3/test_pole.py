"""The rotations to the pole."""

import pytest
import torch
from rotations import wigner_d

from mace_gaunt.so3.harmonics import spherical_harmonics
from mace_gaunt.so3.layout import degree_slice
from mace_gaunt.so3.pole import PoleFrames


def directions():
    generator = torch.Generator().manual_seed(0)
    drawn = torch.nn.functional.normalize(torch.randn(30, 3, dtype=torch.float64, generator=generator), dim=1)
    axes = torch.eye(3, dtype=torch.float64)
    return torch.cat([drawn, axes, -axes])


@pytest.mark.parametrize("l_max", [0, 1, 4, 8])
def test_harmonics_go_to_the_pole(l_max):
    vectors = directions()
    matrices, sign = PoleFrames(l_max).double()(vectors)
    here = spherical_harmonics(vectors, l_max)
    there = spherical_harmonics(sign * torch.tensor([0.0, 1.0, 0.0], dtype=torch.float64), l_max)
    for degree, matrix in enumerate(matrices):
        turned = torch.einsum("nij,nj->ni", matrix, here[:, degree_slice(degree)])
        assert (turned - there[:, degree_slice(degree)]).abs().max() < 1e-11
        identity = torch.eye(2 * degree + 1, dtype=torch.float64).expand_as(matrix)
        assert (matrix @ matrix.transpose(1, 2) - identity).abs().max() < 1e-11


def test_matrices_are_those_of_the_vector_rotation():
    """Against e3nn's Wigner matrices of the rotation that degree 1 holds."""
    matrices, _ = PoleFrames(4).double()(directions())
    for edge in range(0, 36, 7):
        for degree in range(5):
            assert (matrices[degree][edge] - wigner_d(degree, matrices[1][edge])).abs().max() < 1e-9
