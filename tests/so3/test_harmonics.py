"""Spherical harmonics against e3nn and scipy."""

import math

import numpy as np
import torch
from e3nn import o3
from scipy.special import sph_harm_y

from mace_gaunt.so3.harmonics import spherical_harmonics


def unit_vectors(n: int) -> torch.Tensor:
    vectors = torch.randn(n, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    return vectors / vectors.norm(dim=-1, keepdim=True)


def test_equals_e3nn():
    vectors = unit_vectors(50)
    expected = o3.spherical_harmonics(list(range(9)), vectors, normalize=False, normalization="component")
    torch.testing.assert_close(spherical_harmonics(vectors, 8), expected, atol=1e-11, rtol=0)


def test_equals_scipy_at_degree_20():
    vectors = unit_vectors(20)
    x, y, z = vectors.numpy().T
    theta, phi = np.arccos(y), np.arctan2(x, z)
    found = spherical_harmonics(vectors, 20).numpy() / math.sqrt(4 * math.pi)
    for m in range(-20, 21):
        complex_value = sph_harm_y(20, abs(m), theta, phi) * (-1) ** m
        expected = complex_value.real if m >= 0 else complex_value.imag
        expected = expected * (math.sqrt(2) if m else 1)
        np.testing.assert_allclose(found[:, 20 * 20 + 20 + m], expected, atol=1e-11)


def test_poles_have_finite_derivatives():
    poles = torch.tensor([[0.0, 1.0, 0.0], [0.0, -1.0, 0.0]], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(lambda v: spherical_harmonics(v, 3), poles)
