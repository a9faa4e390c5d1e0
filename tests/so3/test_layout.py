"""Borders between the dense layout and e3nn's."""

import pytest
import torch
from e3nn import o3

from mace_gaunt.so3.layout import degree_of_component, from_mul_ir, l_max_of, to_mul_ir
from mace_gaunt.so3.scatter import rows_of, scatter_sum


def test_mul_ir_round_trip_and_meaning():
    features = torch.randn(5, 9, 4, dtype=torch.float64)
    flat = to_mul_ir(features)
    torch.testing.assert_close(from_mul_ir(flat, 2), features)
    linear = o3.Irreps("4x0e + 4x1o + 4x2e")
    assert flat.shape[1] == linear.dim
    torch.testing.assert_close(flat[:, linear.slices()[1]].reshape(5, 4, 3)[:, 2], features[:, 1:4, 2])


def test_degrees():
    assert degree_of_component(2).tolist() == [0, 1, 1, 1, 2, 2, 2, 2, 2]


def test_wrong_sizes_are_refused():
    with pytest.raises(ValueError, match="found 8"):
        l_max_of(8)
    with pytest.raises(ValueError, match="no multiple"):
        from_mul_ir(torch.zeros(1, 10), 2)


def test_scatter_sum_without_edges():
    assert scatter_sum(torch.zeros(0, 2), torch.zeros(0, dtype=torch.int64), 3).tolist() == [[0, 0]] * 3


def test_chosen_degrees_go_to_e3nn_and_back():
    features = torch.randn(5, 3 + 7, 4, dtype=torch.float64)
    flat = to_mul_ir(features, (1, 3))
    # e3nn's 4x1o + 4x3o: channel 2 of degree 3 begins after 4 * 3 + 2 * 7 numbers.
    torch.testing.assert_close(flat[:, 26:33], features[:, 3:, 2])
    torch.testing.assert_close(from_mul_ir(flat, (1, 3)), features)


def test_rows_of_a_table_with_one_row():
    index = torch.zeros(4, dtype=torch.int64)
    for table in (torch.randn(1, 3, 2, requires_grad=True), torch.randn(5, 3, 2, requires_grad=True)):
        weights = torch.randn(4, 3, 2)
        found, expected = rows_of(table, index), table[index]
        assert torch.equal(found, expected)
        pair = [torch.autograd.grad((rows * weights).sum(), table)[0] for rows in (found, expected)]
        torch.testing.assert_close(*pair)
