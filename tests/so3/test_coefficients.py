"""Wigner 3j against e3nn, Gaunt coefficients against sympy, and Wigner-Eckart between them."""

import itertools

import numpy as np
import pytest
import torch
from e3nn import o3
from sympy.physics.wigner import real_gaunt

from mace_gaunt.so3.coefficients import gaunt, gaunt_amplitude, wigner_3j

TRIANGLES = [t for t in itertools.product(range(5), repeat=3) if abs(t[0] - t[1]) <= t[2] <= t[0] + t[1]]


def test_wigner_3j_equals_e3nn():
    for degrees in TRIANGLES:
        expected = o3.wigner_3j(*degrees, dtype=torch.float64).numpy()
        np.testing.assert_allclose(wigner_3j(*degrees), expected, atol=1e-12, err_msg=str(degrees))


def test_wigner_3j_is_accurate_at_high_degree():
    tensor = wigner_3j(8, 7, 9)
    overlap = np.einsum("abc,abd->cd", tensor, tensor)
    np.testing.assert_allclose(overlap, np.eye(19) / 19, atol=1e-12)


def test_wigner_3j_refuses_no_triangle():
    with pytest.raises(ValueError, match="1, 1, 3 form no triangle"):
        wigner_3j(1, 1, 3)


@pytest.mark.parametrize("degrees", [(0, 0, 0), (1, 1, 0), (1, 1, 2), (2, 2, 2), (1, 2, 3), (2, 3, 3)])
def test_gaunt_equals_sympy(degrees):
    expected = np.zeros([2 * degree + 1 for degree in degrees])
    for index in np.ndindex(*expected.shape):
        orders = [position - degree for position, degree in zip(index, degrees, strict=True)]
        expected[index] = float(real_gaunt(*degrees, *orders))
    # sympy's real harmonics carry the Condon-Shortley sign (-1)^m, ours do not.
    for axis, degree in enumerate(degrees):
        signs = (-1.0) ** np.abs(np.arange(-degree, degree + 1))
        expected = np.moveaxis(np.moveaxis(expected, axis, -1) * signs, -1, axis)
    np.testing.assert_allclose(gaunt(*degrees), expected, atol=1e-12)


def test_gaunt_is_a_multiple_of_wigner_3j():
    for degrees in TRIANGLES:
        np.testing.assert_allclose(gaunt(*degrees), gaunt_amplitude(*degrees) * wigner_3j(*degrees), atol=1e-12)


def test_odd_sums_do_not_couple():
    assert gaunt_amplitude(1, 1, 1) == 0.0
    assert np.abs(gaunt(1, 2, 2)).max() < 1e-12
