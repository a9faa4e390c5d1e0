"""Quadrature rules: exact at their degree, not beyond, and the smallest is chosen."""

import numpy as np
import pytest
import torch

from mace_gaunt.so3.quadrature import (
    analysis_matrix,
    gauss_legendre,
    icosahedral,
    lebedev,
    smallest_rule,
    synthesis_matrix,
)


def worst_integral(rule, degree):
    """Largest error of the integrals of all harmonics up to a degree."""
    integrals = torch.from_numpy(rule.weights) @ synthesis_matrix(rule, degree)
    integrals[0] -= np.sqrt(4 * np.pi)
    return integrals.abs().max().item()


@pytest.mark.parametrize("degree", range(16))
def test_smallest_rule_is_exact_and_gauss_legendre_of_a_degree_less_is_not(degree):
    rule = smallest_rule(degree)
    assert rule.degree >= degree
    assert worst_integral(rule, degree) < 1e-12
    if degree:
        assert worst_integral(gauss_legendre(degree - 1), degree) > 1e-3


@pytest.mark.parametrize("rule", [lebedev(11), lebedev(13), gauss_legendre(10), icosahedral()])
def test_rules_are_exact_to_their_degree_only(rule):
    assert worst_integral(rule, rule.degree) < 1e-12
    assert worst_integral(rule, rule.degree + 1) > 1e-6 or worst_integral(rule, rule.degree + 2) > 1e-6
    np.testing.assert_allclose(np.linalg.norm(rule.points, axis=1), 1, atol=1e-14)


def test_sizes_of_the_rules_in_use():
    assert {degree: smallest_rule(degree).num_points for degree in (7, 8, 9, 11, 13)} == {
        7: 26,
        8: 32,
        9: 32,
        11: 50,
        13: 74,
    }


def test_analysis_inverts_synthesis():
    rule = smallest_rule(8)
    product = analysis_matrix(rule, 4) @ synthesis_matrix(rule, 4)
    torch.testing.assert_close(product, torch.eye(25, dtype=torch.float64), atol=1e-12, rtol=0)


def test_negative_degree_is_refused():
    with pytest.raises(ValueError, match="found -1"):
        smallest_rule(-1)
