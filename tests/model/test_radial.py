"""Radial basis, cutoff, activations, repulsion."""

import math

import numpy as np
import pytest
import torch
from ase.data import covalent_radii
from e3nn.math import normalize2mom

from mace_gaunt.model.activations import ACTIVATIONS, activation
from mace_gaunt.model.elements import COVALENT_RADII
from mace_gaunt.model.radial import BesselBasis, ZBLRepulsion, polynomial_cutoff


def test_cutoff_vanishes_with_two_derivatives():
    x = torch.tensor([0.0, 2.5, 5.0 - 1e-9, 5.0, 6.0], dtype=torch.float64, requires_grad=True)
    value = polynomial_cutoff(x, 5.0, 5)
    first = torch.autograd.grad(value.sum(), x, create_graph=True)[0]
    second = torch.autograd.grad(first.sum(), x)[0]
    assert value[0] == 1.0
    assert value[1].item() == pytest.approx(1 - 21 * 0.5**5 + 35 * 0.5**6 - 15 * 0.5**7)
    assert value[2:].abs().max() < 1e-12
    assert first[2:].abs().max() < 1e-12
    assert second[2:].abs().max() < 1e-6


def test_bessel_basis_equals_its_formula():
    basis = BesselBasis(5.0, 4, 5).double()
    r = torch.tensor([[0.7], [2.0], [4.9]], dtype=torch.float64)
    n = torch.arange(1, 5, dtype=torch.float64)
    expected = math.sqrt(2 / 5.0) * torch.sin(n * math.pi * r / 5.0) / r * polynomial_cutoff(r, 5.0, 5)
    torch.testing.assert_close(basis(r), expected)


@pytest.mark.parametrize("name", list(ACTIVATIONS))
def test_activations_have_unit_second_moment_as_in_e3nn(name):
    # e3nn estimates the constant from a million samples.
    assert activation(name).scale == pytest.approx(normalize2mom(ACTIVATIONS[name]).cst, rel=2e-3)


def test_covalent_radii_are_cordero_s():
    np.testing.assert_allclose(COVALENT_RADII, covalent_radii[: len(COVALENT_RADII)], atol=1e-9)


def test_zbl_of_two_carbons():
    """Energy of a pair at 0.5 Å from the formula, halves on both atoms; nothing beyond the covalent radii."""
    zbl = ZBLRepulsion([6], p=5).double()
    lengths = torch.tensor([[0.5], [0.5]], dtype=torch.float64)
    types, edges = torch.tensor([0, 0]), torch.tensor([[0, 1], [1, 0]])
    x = 0.5 / (0.8854 * 0.529177210903 / (2 * 6**0.23))
    terms = zip((0.18175, 0.50986, 0.28022, 0.02817), (3.1998, 0.94229, 0.4029, 0.20162), strict=True)
    phi = sum(c * math.exp(-a * x) for c, a in terms)
    envelope = polynomial_cutoff(torch.tensor(0.5), 2 * 0.76, 5).item()
    expected = 14.399645478 * 36 / 0.5 * phi * envelope
    assert zbl(lengths, types, edges).sum().item() == pytest.approx(expected, rel=1e-6)
    assert not zbl(torch.full_like(lengths, 1.6), types, edges).any()
    torch.testing.assert_close(zbl(lengths[:1], types, edges[:, :1], mirrored=True), zbl(lengths, types, edges))


def test_zbl_takes_one_radius_for_each_element():
    with pytest.raises(ValueError, match=r"zbl.radii must be 2 finite numbers, found \[0.31, 0.28, 1.28\]"):
        ZBLRepulsion([6, 8], p=5, radii=[0.31, 0.28, 1.28])
