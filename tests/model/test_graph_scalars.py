"""Scalars of whole structures: invariant, odd ones negated in a mirror, and refused where no path leads to them."""

import functools

import pytest
import torch
from rotations import random_rotation
from small_models import CHOICES

from mace_gaunt.model.graph_scalars import GraphScalars, count_scalars

EDGES_WITH_ODD_PATHS = ("vector_gaunt", "matrix", "vector_gaunt_edge_gaunt_node", "cg_pseudo_edge_cg_node")
WITHOUT = tuple(name for name in CHOICES if name not in EDGES_WITH_ODD_PATHS)


def build(choice, outputs="3x0e + 2x0o", **changes):
    torch.manual_seed(0)
    edge_product, node_product = (functools.partial(factory) for factory in CHOICES[choice])
    settings = {
        "r_max": 4.0,
        "max_ell": 2,
        "num_channels": 3,
        "radial_MLP": [4],
        "num_elements": 2,
        "avg_num_neighbors": 4.0,
        "edge_product": edge_product,
        "node_product": node_product,
    }
    return GraphScalars(outputs=outputs, **(settings | changes)).double()


def evaluate(model, structures):
    """The scalars of structures of five atoms each, every atom a neighbour of the others of its structure."""
    number = len(structures)
    node_types = torch.tensor([0, 1, 1, 0, 1]).repeat(number)
    graph_index = torch.arange(number).repeat_interleave(5)
    same = (graph_index[:, None] == graph_index) & ~torch.eye(5 * number, dtype=torch.bool)
    edge_index = torch.nonzero(same).T
    positions = torch.cat(structures)
    vectors = positions[edge_index[1]] - positions[edge_index[0]]
    with torch.no_grad():
        return model(vectors, node_types, edge_index, graph_index, number)


def structure(seed=0):
    """Five atoms close together, so that products of several neighbours are not small."""
    return 0.5 * torch.randn(5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("choice", EDGES_WITH_ODD_PATHS)
def test_rotations_change_nothing_and_the_inversion_negates_the_odd_scalars(choice):
    model, points = build(choice), structure()
    even, odd = evaluate(model, [points])
    assert (even.shape, odd.shape) == ((1, 3), (1, 2))
    assert even.abs().min() > 1e-4
    assert odd.abs().min() > 1e-6
    for inversion in (False, True):
        turned_even, turned_odd = evaluate(model, [points @ random_rotation(inversion=inversion).T])
        assert (turned_even - even).abs().max() < 1e-10
        assert (turned_odd - (-odd if inversion else odd)).abs().max() < 1e-10


@pytest.mark.parametrize("choice", WITHOUT)
def test_without_odd_paths_0o_is_refused_and_0e_are_equal_for_mirror_images(choice):
    with pytest.raises(ValueError, match=r"0o cannot be reached.*1o x 1o -> 1e.*1e x 1o -> 0o.*vector_gaunt") as error:
        build(choice)
    for product in CHOICES[choice]:
        assert f"family '{product.family}'" in str(error.value)
    model, points = build(choice, "4x0e"), structure()
    (even, odd), (mirrored, _) = evaluate(model, [points]), evaluate(model, [-points])
    assert odd.shape == (1, 0)
    assert even.abs().min() > 1e-4
    assert (mirrored - even).abs().max() < 1e-10


def test_too_few_products_are_refused_naming_the_settings():
    # A pseudovector takes one product and 0o the next: without powers of one layer that is two layers after the first.
    with pytest.raises(ValueError, match="max_L=1, correlation=1, num_interactions=2"):
        build("vector_gaunt", correlation=1)
    assert build("vector_gaunt", correlation=1, num_interactions=3).num_odd == 2
    with pytest.raises(ValueError, match="max_L=0"):
        build("cg_pseudo_edge_cg_node", max_L=0)


def test_small_numbers_do_not_make_0o_unreachable():
    assert build("vector_gaunt", avg_num_neighbors=1e6, num_polynomial_cutoff=50, r_max=100.0).num_odd == 2


def test_asking_changes_neither_weights_nor_random_numbers():
    model = build("matrix")
    after = torch.rand(1)
    plain = build("matrix", "3x0e")
    odd_weight = torch.randn(3, 2)
    assert torch.equal(torch.rand(1), after)
    assert odd_weight.dtype == torch.float32
    assert torch.equal(plain.even_weight, model.even_weight)


def test_a_batch_equals_its_structures():
    model = build("vector_gaunt")
    one, two = structure(1), structure(2)
    together = evaluate(model, [one, two])
    for both, first, second in zip(together, evaluate(model, [one]), evaluate(model, [two]), strict=True):
        assert (both - torch.cat([first, second])).abs().max() < 1e-12


@pytest.mark.parametrize(
    ("outputs", "counts"),
    [("7x0e + 1x0o", (7, 1)), ("8x0e", (8, 0)), ("0o+0e", (1, 1)), ("2 x 0e+3x0e", (5, 0)), ("12x0o", (0, 12))],
)
def test_outputs_are_read(outputs, counts):
    assert count_scalars(outputs) == counts


@pytest.mark.parametrize("outputs", ["", "7x0e +", "1x1o", "7x0e + 1x1e", "0x0e", "8", "7x0", "-1x0e", "7x0e, 1x0o"])
def test_outputs_that_are_no_scalars_are_refused(outputs):
    with pytest.raises(ValueError, match=r"outputs holds scalars only.*7x0e \+ 1x0o"):
        build("matrix", outputs)
