"""The linear map per element: values, derivatives, and a cost that does not grow with the number of elements."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from mace_gaunt.model.element_linear import TILE, ElementLinear, tiles_by_element
from mace_gaunt.so3.layout import degree_of_component

CHANNELS = 4


def case(n_nodes, num_elements, l_in=2, l_out=1, pseudo=False):
    torch.manual_seed(n_nodes)
    linear = ElementLinear(l_in, l_out, CHANNELS, num_elements, pseudo=pseudo).double()
    features = torch.randn(n_nodes, *((2,) if pseudo else ()), (l_in + 1) ** 2, CHANNELS, dtype=torch.float64)
    return linear, features, torch.randint(num_elements, (n_nodes,))


def one_by_one(linear, features, node_types, l_out):
    """Node by node and component by component: its row times the matrix of its element and degree."""
    result = features.new_zeros(*features.shape[:-2], (l_out + 1) ** 2, CHANNELS)
    degrees, weight = degree_of_component(l_out), linear.weight * (linear.weight.shape[-3] * CHANNELS) ** -0.5
    for node, element in enumerate(node_types.tolist()):
        for k in range(min(features.shape[-2], result.shape[-2])):
            if features.dim() == 3:
                result[node, k] = features[node, k] @ weight[degrees[k], element]
            else:
                for parity in (0, 1):
                    result[node, parity, k] = features[node, parity, k] @ weight[parity, degrees[k], element]
    return result


@pytest.mark.parametrize("pseudo", [False, True])
@pytest.mark.parametrize("l_out", [0, 1, 3])
@pytest.mark.parametrize(("n_nodes", "num_elements"), [(0, 3), (1, 1), (2, 55), (TILE, 1), (TILE + 1, 1), (60, 5)])
def test_values(n_nodes, num_elements, l_out, pseudo):
    linear, features, node_types = case(n_nodes, num_elements, l_out=l_out, pseudo=pseudo)
    expected = one_by_one(linear, features, node_types, l_out)
    torch.testing.assert_close(linear(features, node_types), expected, atol=1e-13, rtol=1e-13)


def test_two_derivatives():
    linear, features, node_types = case(6, 2, l_in=1)
    features.requires_grad_()

    def function(features, weight):
        return torch.func.functional_call(linear, {"weight": weight}, (features, node_types))

    assert torch.autograd.gradcheck(function, (features, linear.weight))
    assert torch.autograd.gradgradcheck(function, (features, linear.weight))


@pytest.mark.parametrize("counts", [(0, 0, 0), (1, 0, 2), (16, 0, 17), (15, 33, 1), (0, 0, 40)])
def test_tiles_hold_one_element_each(counts):
    node_types = torch.cat([torch.full((count,), element) for element, count in enumerate(counts)])
    node_types = node_types[torch.randperm(len(node_types))]
    rows, elements = tiles_by_element(node_types, len(counts))
    assert len(set(rows.tolist())) == len(node_types)
    assert elements.shape == (len(node_types) // TILE + len(counts),)
    assert torch.equal(elements[rows // TILE], node_types)


def test_arithmetic_and_memory_do_not_grow_with_the_elements():
    """1000 nodes: as many multiplications for 55 elements as for 4, but for a tile each; nothing large is kept."""
    flops, kept = {}, {}
    for num_elements in (4, 55):
        linear, features, node_types = case(1000, num_elements)
        sizes: list[int] = []
        features.requires_grad_()
        with FlopCounterMode(display=False) as counter:
            with torch.autograd.graph.saved_tensors_hooks(
                lambda t, sizes=sizes: sizes.append(t.numel()) or t, lambda t: t
            ):
                result = linear(features, node_types)
            result.square().sum().backward()
        flops[num_elements], kept[num_elements] = counter.get_total_flops(), max(sizes)
    rows = {num_elements: 1000 // TILE + num_elements for num_elements in flops}
    assert flops[55] / flops[4] == pytest.approx(rows[55] / rows[4], rel=1e-6)
    assert kept[55] <= rows[55] * TILE * 9 * CHANNELS


def test_a_single_element_is_one_matrix_product():
    torch.manual_seed(0)
    linear = ElementLinear(1, 2, 5, 1).double()
    features = torch.randn(7, 4, 5, dtype=torch.float64)
    found = linear(features, torch.zeros(7, dtype=torch.int64))
    assert found.shape == (7, 9, 5) and not found[:, 4:].any()
    for degree, rows in ((0, slice(0, 1)), (1, slice(1, 4))):
        expected = features[:, rows] @ linear.weight[degree, 0] * 5**-0.5
        torch.testing.assert_close(found[:, rows], expected, rtol=0, atol=1e-12)
