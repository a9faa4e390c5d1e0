"""Kernels of nonzero coefficients (`sparse`, `direct`) and e3nn's: their tables, their operations, their recipes."""

import copy
import itertools

import e3nn
import numpy as np
import pytest
import torch
from e3nn import o3
from families import features
from tensor_products.test_values import gaunt_block
from torch.fx.experimental.proxy_tensor import make_fx

from mace_gaunt.so3.harmonics import spherical_harmonics
from mace_gaunt.so3.layout import degree_slice
from mace_gaunt.so3.symmetric import symmetric_bases
from mace_gaunt.tensor_products.clebsch_gordan import (
    ClebschGordanEdgeProduct,
    ClebschGordanFeatureProduct,
    ClebschGordanNodeProduct,
)
from mace_gaunt.tensor_products.contracts import coupled_paths
from mace_gaunt.tensor_products.gaunt import GauntEdgeProduct, GauntFeatureProduct, GauntNodeProduct
from mace_gaunt.tensor_products.kernels import sparse
from mace_gaunt.tensor_products.kernels.cg_sparse import clebsch_gordan_couplings
from mace_gaunt.tensor_products.kernels.e3nn_product import natural
from mace_gaunt.tensor_products.kernels.gaunt_direct import gaunt_couplings
from mace_gaunt.tensor_products.kernels.sparse_matmul import sparse_matmul, swapped
from mace_gaunt.tensor_products.selection import candidates

PATHS = coupled_paths(range(5), range(5), range(5)) + coupled_paths(range(5), range(5), range(5), odd=True)


def w3j(path):
    return o3.wigner_3j(*path, dtype=torch.float64)


@pytest.mark.parametrize("path", PATHS, ids=str)
def test_stored_coefficients_are_the_nonzero_ones(path):
    """As many as e3nn's 3j tensor has, at most four m3 for each (m1, m2), all of them +-m1 +- m2."""
    l1, l2, l3 = path
    couplings = clebsch_gordan_couplings([l1], [l2], [path])
    assert len(couplings.values) == int((w3j(path).abs() > 1e-9).sum())
    m1, m2, m3 = couplings.in_x - l1, couplings.in_y - l2, couplings.rows - l3
    assert ((m3.abs() == m1.abs() + m2.abs()) | (m3.abs() == (m1.abs() - m2.abs()).abs())).all()
    _, counts = torch.unique(torch.stack([m1, m2]), dim=1, return_counts=True)
    assert counts.max() <= 4


def test_couplings_of_all_paths_lie_where_e3nn_has_them():
    degrees_x, degrees_y = (0, 2, 3), (1, 2)
    paths = coupled_paths(degrees_x, degrees_y, range(5))
    found = clebsch_gordan_couplings(degrees_x, degrees_y, paths).dense()
    start_x, start_y, row = {0: 0, 2: 1, 3: 6}, {1: 0, 2: 3}, 0
    for l3 in range(5):
        members = [path for path in paths if path[2] == l3]
        block = found[row : row + (2 * l3 + 1) * len(members)].unflatten(0, (2 * l3 + 1, -1))
        row += block.shape[0] * block.shape[1]
        for position, path in enumerate(members):
            x = slice(start_x[path[0]], start_x[path[0]] + 2 * path[0] + 1)
            y = slice(start_y[path[1]], start_y[path[1]] + 2 * path[1] + 1)
            expected = w3j(path) * (2 * l3 + 1) ** 0.5
            torch.testing.assert_close(block[:, position, x, y], expected.permute(2, 0, 1), atol=1e-12, rtol=0)
            block[:, position, x, y] = 0.0
    assert row == found.shape[0]
    assert not found.any()


def test_stored_gaunt_coefficients_are_those_of_scipys_harmonics():
    factors = [1.0, 2.0, 0.5, 1.5, 3.0]
    found = gaunt_couplings(range(4), range(4), range(5), factors)
    expected = torch.zeros(found.shape, dtype=torch.float64)
    for l1, l2, l3 in itertools.product(range(4), range(4), range(5)):
        block = torch.from_numpy(gaunt_block(l1, l2, l3)).permute(2, 0, 1) * factors[l3]
        expected[degree_slice(l3), degree_slice(l1), degree_slice(l2)] = block
    torch.testing.assert_close(found.dense(), expected, atol=1e-12, rtol=0)
    assert len(found.values) == int((expected.abs() > 1e-9).sum())


@pytest.mark.parametrize("case", [(2, 1, 3), (3, 2, 3), (1, 1, 4)], ids=str)
def test_node_kernel_stores_the_nonzero_coefficients_of_the_basis(case):
    kernel = ClebschGordanNodeProduct(*case, 1, 1, kernel="sparse").kernel
    blocks = [block for basis in symmetric_bases(*case) for block in basis.coefficients]
    assert len(kernel.matrix.values) == sum(int((np.abs(block) > 1e-9).sum()) for block in blocks)


@pytest.mark.parametrize("case", [(2, 1, 3), (3, 2, 3), (1, 1, 4)], ids=str)
def test_recipes_reproduce_the_basis(case):
    """Couplings of numbers with e3nn's 3j tensors, combined as the recipes say, are the polynomials' values."""
    feats = np.random.default_rng(0).normal(size=(20, (case[0] + 1) ** 2))
    values = {(l, l % 2): feats[:, None, degree_slice(l)] for l in range(case[0] + 1)}
    for basis in symmetric_bases(*case):
        below = values
        if basis.order > 1:
            values = {key: recipe_values(recipe, below, feats, key[0]) for key, recipe in basis.recipes.items()}
        monomials = feats[:, basis.monomials].prod(axis=-1)
        for degree, block in enumerate(basis.coefficients):
            expected = np.einsum("kmt,nt->nkm", block, monomials)
            np.testing.assert_allclose(values[degree, degree % 2], expected, atol=1e-9)


def recipe_values(recipe, below, feats, degree):
    couplings = [
        np.einsum("abc,na,nb->nc", w3j((key[0], l2, degree)).numpy(), below[key][:, k], feats[:, degree_slice(l2)])
        for key, k, l2 in recipe.sources
    ]
    return np.einsum("kj,njc->nkc", recipe.combination, np.stack(couplings, axis=1))


def small_matrix():
    rows, columns = torch.tensor([0, 2, 2, 3]), torch.tensor([1, 4, 0, 1])
    return sparse.SparseMatrix(
        rows, columns, torch.tensor([1.5, -2.0, 0.25, 3.0], dtype=torch.float64), (5, 6)
    ).double()


def test_sparse_product_is_the_dense_one_with_all_derivatives():
    matrix, dense = small_matrix(), torch.randn(6, 3, dtype=torch.float64, requires_grad=True)
    full = torch.zeros(5, 6, dtype=torch.float64)
    full[[0, 2, 2, 3], [1, 4, 0, 1]] = torch.tensor([1.5, -2.0, 0.25, 3.0], dtype=torch.float64)
    torch.testing.assert_close(matrix(dense), full @ dense)
    assert matrix(dense[:, :0]).shape == (5, 0)
    assert torch.autograd.gradgradcheck(lambda x: matrix(x).sin(), dense)


def test_operations_are_well_registered():
    matrix = small_matrix()
    tables = [*matrix.table(), *matrix.table("_transposed")]
    checks = ("test_schema", "test_autograd_registration", "test_faketensor")
    torch.library.opcheck(sparse_matmul, (*tables, torch.randn(6, 3, dtype=torch.float64)), test_utils=checks)
    values = torch.randn(2, 3, 4, requires_grad=True)
    torch.library.opcheck(swapped, (values,), test_utils=checks)
    assert torch.equal(swapped(values), values.transpose(0, 1))


@pytest.mark.parametrize(
    "product",
    [
        ClebschGordanFeatureProduct(2, 2, 3, kernel="sparse"),
        GauntFeatureProduct(2, 2, 3, kernel="direct"),
        # Few of all pairs of components occur.
        ClebschGordanFeatureProduct(3, 3, 0, kernel="sparse"),
        GauntFeatureProduct((3,), (3,), (0,), kernel="direct"),
    ],
    ids=lambda product: f"{product.kernel_name}-{product.degrees_out}",
)
def test_slices_for_the_cache_change_nothing(product, monkeypatch):
    inputs = [features(11, degrees, 2, seed=k) for k, degrees in enumerate((product.degrees_x, product.degrees_y))]
    product, results = product.double(), []
    for floats in (10**9, 300):
        monkeypatch.setattr(sparse, "FLOATS_IN_CACHE", floats)
        leaves = [value.clone().requires_grad_() for value in inputs]
        value = product(*leaves)
        results.append([value, *torch.autograd.grad(value.sin().sum(), leaves)])
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, atol=1e-13, rtol=1e-13)


def edge_inputs(n_nodes, n_edges, l_in, l_edge, numel):
    draw = {"dtype": torch.float64, "generator": torch.Generator().manual_seed(n_nodes)}
    directions = torch.nn.functional.normalize(torch.randn(n_edges, 3, **draw), dim=-1)
    weights = torch.randn(n_edges, numel, 4, **draw)
    index = torch.randint(n_nodes, (2, n_edges), generator=draw["generator"])
    return features(n_nodes, l_in, 4), spherical_harmonics(directions, l_edge), weights, index


@pytest.mark.slow
@pytest.mark.parametrize("l_out", [0, 1])
@pytest.mark.parametrize("product", [ClebschGordanEdgeProduct, GauntEdgeProduct])
def test_edge_kernels_are_traced_and_compiled(product, l_out):
    kernel = {"clebsch_gordan": "sparse", "gaunt": "direct"}[product.family]
    product = product(2, 2, l_out, kernel=kernel).double()
    check_compiled(product, *(edge_inputs(*sizes, 2, 2, product.weight_numel) for sizes in ((7, 23), (11, 31))))


@pytest.mark.slow
@pytest.mark.parametrize("l_out", [0, 1])
@pytest.mark.parametrize("product", [ClebschGordanNodeProduct, GauntNodeProduct])
def test_node_kernels_are_traced_and_compiled(product, l_out):
    kernel = {"clebsch_gordan": "sparse", "gaunt": "direct"}[product.family]
    product = product(2, l_out, 3, 2, 4, kernel=kernel).double()
    check_compiled(product, *((features(n, 2, 4, seed=n), torch.arange(n) % 2) for n in (7, 11)))


def check_compiled(product, example, inputs):
    """The gradient as one graph, as in the model's compiled path, with a compiler's decompositions."""

    def gradient(first, *others):
        with torch.enable_grad():
            first = first.detach().requires_grad_()
            value = product(first, *others)
            return value, *torch.autograd.grad(value.sin().sum(), first, create_graph=True)

    traced = make_fx(gradient, tracing_mode="symbolic", _allow_non_fake_inputs=True)(*example)
    compiled = torch.compile(traced, dynamic=True, backend="aot_eager_decomp_partition")
    for found, expected in zip(compiled(*inputs), gradient(*inputs), strict=True):
        torch.testing.assert_close(found, expected, atol=1e-12, rtol=1e-12)


def e3nn_products():
    edge = ClebschGordanEdgeProduct(1, 2, 2, kernel="e3nn", pseudo=True).double()
    edge_arguments = edge_inputs(4, 9, 1, 2, edge.weight_numel)
    edge(*edge_arguments)
    node = ClebschGordanNodeProduct(2, 1, 3, 2, 4, kernel="e3nn").double()
    return [(edge, edge_arguments), (node, (features(5, 2, 4), torch.tensor([0, 1, 1, 0, 1])))]


@pytest.mark.parametrize("optimize", [False, True])
def test_e3nn_products_are_copied_and_change_precision(optimize):
    """Their constants stay exact and out of the state dict, whatever e3nn does to speed them up."""
    e3nn.set_optimization_defaults(optimize_einsums=optimize)
    for product, arguments in e3nn_products():
        expected, weights = product(*arguments), set(product.state_dict())
        assert weights == {name for name, _ in product.named_parameters()}
        other = copy.deepcopy(product)
        other.load_state_dict(product.state_dict())
        torch.testing.assert_close(other(*arguments), expected, atol=1e-12, rtol=1e-12)
        assert set(other.state_dict()) == weights
        constants = dict(other.named_buffers())
        for name, constant in other.float().double().named_buffers():
            assert torch.equal(constant, constants[name]), name


def test_no_default_precision_is_touched():
    before = torch.get_default_dtype()
    for product, arguments in e3nn_products():
        assert product(*arguments).dtype == torch.float64
    assert torch.get_default_dtype() == before


def test_degrees_beyond_e3nn_are_refused():
    assert natural(3) == (3, -1)
    with pytest.raises(ValueError, match="kernel 'e3nn' computes degrees up to 11, degree 12 is needed here"):
        ClebschGordanFeatureProduct((12,), (12,), (0,), kernel="e3nn")
    with pytest.raises(ValueError, match="degree 12 is needed"):
        ClebschGordanEdgeProduct(1, 12, 11, kernel="e3nn")


def test_e3nn_is_never_chosen_by_itself():
    edge, node = ClebschGordanEdgeProduct(1, 2, 2), ClebschGordanNodeProduct(2, 1, 2, 1, 4)
    for product in (ClebschGordanFeatureProduct(1, 1, 1), edge, node):
        found = candidates(product)
        assert "sparse" in found
        assert "e3nn" not in found
