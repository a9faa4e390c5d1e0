"""Interactability and expressivity against what can be counted by hand."""

import itertools

import numpy as np
import pytest
import torch
from families import MISSING

from mace_gaunt.tensor_products.clebsch_gordan import ClebschGordanFeatureProduct
from mace_gaunt.tensor_products.contracts import coupled_paths
from mace_gaunt.tensor_products.expressivity import expressivity, interactability
from mace_gaunt.tensor_products.gaunt import GauntFeatureProduct
from mace_gaunt.tensor_products.gaunt_mix import GauntMixFeatureProduct
from mace_gaunt.tensor_products.matrix import MatrixFeatureProduct
from mace_gaunt.tensor_products.vector_gaunt import VectorGauntFeatureProduct

MIMO = [((0, 1), (0, 1), (0, 1)), ((0, 1), (0, 1), (0, 1, 2)), ((0, 1, 2),) * 3]
# Degree 2 is reached by odd sums only.
NEEDS_ODD = ((1, 3), (0, 2), (1, 2, 3))


def incidence_rank(degrees_x, degrees_y, degrees_out, *, odd=False):
    """Dimension of {a(l1) b(l2) c(l3) per coupled triple}: rank of d log w / d (log a, log b, log c)."""
    triples = [(*path, 0) for path in coupled_paths(degrees_x, degrees_y, degrees_out)]
    if odd:
        triples += [(*path, 1) for path in coupled_paths(degrees_x, degrees_y, degrees_out, odd=True)]
    columns = [("x", l) for l in degrees_x] + [("y", l) for l in degrees_y]
    columns += [("z", l, parity) for l in degrees_out for parity in (0, 1)]
    matrix = np.zeros((len(triples), len(columns)))
    for row, (l1, l2, l3, parity) in enumerate(triples):
        for key in (("x", l1), ("y", l2), ("z", l3, parity)):
            matrix[row, columns.index(key)] = 1.0
    return int(np.linalg.matrix_rank(matrix))


@pytest.mark.parametrize(
    ("degrees", "pseudo"), [*((degrees, pseudo) for degrees in MIMO for pseudo in (False, True)), (NEEDS_ODD, True)]
)
def test_clebsch_gordan_reaches_every_map(degrees, pseudo):
    paths = coupled_paths(*degrees) + (coupled_paths(*degrees, odd=True) if pseudo else [])
    found = expressivity(ClebschGordanFeatureProduct(*degrees, pseudo=pseudo))
    assert found.dimension == found.available == len(paths)
    assert found.gap > 1e6


def test_gaunt_0_1_reaches_all_four_paths_and_0_2_seven_of_eleven():
    assert expressivity(GauntFeatureProduct(1, 1, 1)).dimension == 4
    found = expressivity(GauntFeatureProduct(2, 2, 2))
    assert (found.dimension, found.available, found.free_weights) == (7, 11, 9)


@pytest.mark.parametrize("degrees", MIMO)
def test_factorised_families_have_the_rank_of_their_factors(degrees):
    assert expressivity(GauntFeatureProduct(*degrees)).dimension == incidence_rank(*degrees)
    for found in (VectorGauntFeatureProduct, MatrixFeatureProduct):
        assert expressivity(found(*degrees)).dimension == incidence_rank(*degrees, odd=True)


def test_more_products_reach_more():
    single, double = (expressivity(GauntMixFeatureProduct(2, 2, 2, num_products=r)).dimension for r in (1, 2))
    assert single == expressivity(GauntFeatureProduct(2, 2, 2)).dimension == 7
    assert double == 11


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_one_irrep_by_one_to_one_is_a_number(degree):
    degrees = ((degree,),) * 3
    for found in (VectorGauntFeatureProduct, MatrixFeatureProduct):
        assert expressivity(found(*degrees)).dimension == 1
    assert expressivity(ClebschGordanFeatureProduct(*degrees, pseudo=True)).dimension == 1
    if degree % 2 == 0:
        assert expressivity(GauntFeatureProduct(*degrees)).dimension == 1


@pytest.mark.parametrize("kernel", [name for name in ClebschGordanFeatureProduct.KERNELS if name not in MISSING])
def test_odd_couplings_alone(kernel):
    """Vectors to vectors: the cross product over sqrt(2), which gives it unit variance."""
    product = ClebschGordanFeatureProduct((1,), (1,), (1,), kernel=kernel, pseudo=True).double()
    x, y = torch.randn(2, 5, 3, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    natural, pseudo = product(x, y).unbind(1)
    assert not natural.any()
    torch.testing.assert_close(pseudo.abs(), (torch.linalg.cross(x, y, dim=1) * 0.5**0.5).abs())


def test_multiplicities():
    """A scalar product of M copies: all M^3 maps need M^2 channels, and channels are rank-one terms."""
    product = GauntFeatureProduct((0,), (0,), (0,))
    # Tensors of M x M x M of rank one form a set of dimension 3 M - 2.
    assert expressivity(product, multiplicity=3, channels=1).dimension == 3 * 3 - 2
    full = expressivity(product, multiplicity=2, channels=4)
    assert full.dimension == full.available == 8


def test_the_random_point_does_not_matter():
    found = {
        expressivity(GauntFeatureProduct(2, 2, 2), generator=torch.Generator().manual_seed(seed)).dimension
        for seed in range(5)
    }
    assert found == {7}


@pytest.mark.parametrize("found", [GauntFeatureProduct, GauntMixFeatureProduct, ClebschGordanFeatureProduct])
def test_families_without_odd_couplings(found):
    couplings = interactability(found(2, 2, 2))
    triangles = [c for c in itertools.product(range(3), repeat=3) if abs(c[0] - c[1]) <= c[2] <= c[0] + c[1]]
    assert {(c.l1, c.l2, c.l3) for c in couplings} == set(triangles)
    for c in couplings:
        assert c.interacts == ((c.l1 + c.l2 + c.l3) % 2 == 0)
        assert c.pseudo == (not c.interacts)


@pytest.mark.parametrize("found", [VectorGauntFeatureProduct, MatrixFeatureProduct])
def test_families_with_odd_couplings(found):
    couplings = interactability(found(2, 2, 2))
    assert all(c.interacts for c in couplings)
    assert {(c.l1, c.l2, c.l3) for c in couplings if c.pseudo} == {(1, 1, 1), (2, 2, 1), (1, 2, 2), (2, 1, 2)}


def test_the_bracket_alone_is_reached_by_odd_triangles_only():
    """Vectors of degree 1 and 2 to degree 2: no even triangle ends there."""
    (coupling,) = interactability(VectorGauntFeatureProduct((1,), (2,), (2,)))
    assert coupling.pseudo
    assert coupling.strength == pytest.approx(1.0)


def test_strengths_share_the_unit_variance():
    product = GauntFeatureProduct(2, 2, 3)
    couplings = interactability(product)
    for degree in product.degrees_out:
        assert sum(c.strength**2 for c in couplings if c.l3 == degree) == pytest.approx(1.0)
        assert sum(c.relative**2 for c in couplings if c.l3 == degree) == pytest.approx(1.0)
    dense = interactability(ClebschGordanFeatureProduct(2, 2, 2))
    assert all(c.strength == pytest.approx(1.0) for c in dense if c.interacts)


def test_a_product_is_left_as_it_was():
    product = GauntMixFeatureProduct(1, 1, 1)
    before = {name: value.clone() for name, value in product.state_dict().items()}
    expressivity(product)
    interactability(product)
    for name, value in product.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)
    assert product.where.dtype == torch.float32
