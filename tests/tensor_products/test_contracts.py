"""Contract tests that every family and kernel passes."""

import itertools

import pytest
import torch
from rotations import random_rotation, rotate

from mace_gaunt.so3.harmonics import spherical_harmonics
from mace_gaunt.tensor_products.clebsch_gordan import ClebschGordanEdgeProduct, ClebschGordanNodeProduct
from mace_gaunt.tensor_products.gaunt import GauntEdgeProduct, GauntNodeProduct

CHANNELS = 3
EDGE = [(family, kernel) for family in (GauntEdgeProduct, ClebschGordanEdgeProduct) for kernel in family.KERNELS]
NODE = [(family, kernel) for family in (GauntNodeProduct, ClebschGordanNodeProduct) for kernel in family.KERNELS]
DEGREES = [(0, 0, 0), (0, 3, 3), (1, 3, 3), (2, 3, 3), (2, 2, 4), (1, 2, 0)]


def edge_inputs(l_in, l_edge, numel, n_nodes=4, n_edges=9, seed=0):
    generator = torch.Generator().manual_seed(seed)
    draw = {"dtype": torch.float64, "generator": generator}
    feats = torch.randn(n_nodes, (l_in + 1) ** 2, CHANNELS, **draw)
    directions = torch.nn.functional.normalize(torch.randn(n_edges, 3, **draw), dim=-1)
    weights = torch.randn(n_edges, numel, CHANNELS, **draw)
    edge_index = torch.randint(n_nodes, (2, n_edges), generator=generator)
    return feats, directions, weights, edge_index


def node_product(family, kernel, l_in, l_out, correlation):
    torch.manual_seed(1)
    return family(l_in, l_out, correlation, num_elements=2, num_channels=CHANNELS, kernel=kernel).double()


@pytest.mark.parametrize("inversion", [False, True])
@pytest.mark.parametrize("degrees", DEGREES)
@pytest.mark.parametrize(("family", "kernel"), EDGE)
def test_edge_product_is_equivariant(family, kernel, degrees, inversion):
    product = family(*degrees, kernel=kernel).double()
    feats, directions, weights, edge_index = edge_inputs(degrees[0], degrees[1], product.weight_numel)
    matrix = random_rotation(inversion=inversion)
    result = product(feats, spherical_harmonics(directions, degrees[1]), weights, edge_index)
    turned_attrs = spherical_harmonics(directions @ matrix.T, degrees[1])
    turned = product(rotate(feats, matrix), turned_attrs, weights, edge_index)
    assert result.shape[1] == product.num_rows_out
    assert (rotate(result, matrix, product.num_paths_out) - turned).abs().max() < 1e-10


@pytest.mark.parametrize("degrees", DEGREES)
@pytest.mark.parametrize(("family", "kernel"), EDGE)
def test_edge_forward_is_gather_couple_scatter(family, kernel, degrees):
    product = family(*degrees, kernel=kernel).double()
    feats, directions, weights, edge_index = edge_inputs(degrees[0], degrees[1], product.weight_numel)
    attrs = spherical_harmonics(directions, degrees[1])
    result = product(feats, attrs, weights, edge_index)
    coupled = product.couple(feats[edge_index[0]], attrs, weights)
    expected = torch.zeros_like(result).index_add(0, edge_index[1], coupled)
    torch.testing.assert_close(result, expected, atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize(("family", "kernel"), EDGE)
def test_edge_product_without_edges_and_with_one_atom(family, kernel):
    product = family(1, 2, 2, kernel=kernel).double()
    feats = torch.randn(1, 4, CHANNELS, dtype=torch.float64)
    none = torch.zeros(0, dtype=torch.float64)
    attrs, weights = none.reshape(0, 9), none.reshape(0, product.weight_numel, CHANNELS)
    result = product(feats, attrs, weights, torch.zeros(2, 0, dtype=torch.int64))
    assert result.shape == (1, product.num_rows_out, CHANNELS)
    assert not result.any()


@pytest.mark.parametrize(("family", "kernel"), EDGE)
def test_edge_product_second_derivatives(family, kernel):
    product = family(1, 2, 1, kernel=kernel).double()
    feats, directions, weights, edge_index = edge_inputs(1, 2, product.weight_numel, n_nodes=2, n_edges=2)

    def function(feats, directions, weights):
        return product(feats[..., :1], spherical_harmonics(directions, 2), weights[..., :1], edge_index).sum(0)

    inputs = [value.requires_grad_() for value in (feats, directions, weights)]
    assert torch.autograd.gradgradcheck(function, inputs, gen_non_contig_grad_outputs=False)


@pytest.mark.parametrize(("family", "kernel"), EDGE)
def test_edge_variances_are_one(family, kernel):
    """Unit-variance features, harmonics and weights give messages of unit variance, for each degree."""
    product = family(2, 3, 3, kernel=kernel).double()
    generator = torch.Generator().manual_seed(0)
    draw = {"dtype": torch.float64, "generator": generator}
    args = (torch.randn(4000, 9, 8, **draw), torch.randn(4000, 16, **draw))
    result = product.couple(*args, torch.randn(4000, product.weight_numel, 8, **draw))
    sizes = [(2 * degree + 1) * paths for degree, paths in enumerate(product.num_paths_out)]
    variances = [block.var().item() for block in result.split(sizes, dim=1)]
    assert variances == pytest.approx([1.0] * 4, abs=0.06)


@pytest.mark.parametrize("inversion", [False, True])
@pytest.mark.parametrize("degrees", [(3, 0, 3), (3, 1, 3), (3, 2, 3), (2, 2, 4), (1, 1, 1), (0, 0, 2)])
@pytest.mark.parametrize(("family", "kernel"), NODE)
def test_node_product_is_equivariant(family, kernel, degrees, inversion):
    product = node_product(family, kernel, *degrees)
    feats = torch.randn(5, (degrees[0] + 1) ** 2, CHANNELS, dtype=torch.float64)
    types = torch.tensor([0, 1, 1, 0, 1])
    matrix = random_rotation(inversion=inversion)
    difference = rotate(product(feats, types), matrix) - product(rotate(feats, matrix), types)
    assert difference.abs().max() < 1e-10


@pytest.mark.parametrize(("family", "kernel"), NODE)
def test_node_product_has_every_order_up_to_correlation(family, kernel):
    """Along a ray t*A the product is a polynomial of exactly degree `correlation` without constant term."""
    product = node_product(family, kernel, 2, 1, 3)
    feats = torch.randn(1, 9, CHANNELS, dtype=torch.float64)
    types = torch.zeros(1, dtype=torch.int64)
    values = torch.stack([product(t * feats, types) for t in torch.arange(5.0, dtype=torch.float64)]).flatten(1)
    assert not values[0].any()
    differences = values
    for _ in range(3):
        differences = differences.diff(dim=0)
    assert differences[0].abs().max() > 1e-3
    assert differences.diff(dim=0).abs().max() < 1e-9


@pytest.mark.parametrize(("family", "kernel"), NODE)
def test_node_product_second_derivatives(family, kernel):
    product = family(1, 1, 3, num_elements=1, num_channels=1, kernel=kernel).double()
    feats = torch.randn(2, 4, 1, dtype=torch.float64, requires_grad=True)
    types = torch.zeros(2, dtype=torch.int64)
    assert torch.autograd.gradgradcheck(lambda x: product(x, types), feats, gen_non_contig_grad_outputs=False)


@pytest.mark.parametrize(("family", "kernel"), NODE)
def test_no_atoms(family, kernel):
    product = node_product(family, kernel, 2, 1, 3)
    empty = torch.zeros(0, 9, CHANNELS, dtype=torch.float64)
    assert product(empty, torch.zeros(0, dtype=torch.int64)).shape == (0, 4, CHANNELS)


@pytest.mark.parametrize(("family", "kernel"), [*EDGE, *NODE])
def test_tables_survive_a_change_of_precision(family, kernel):
    arguments = (1, 2, 2) if (family, kernel) in EDGE else (2, 1, 3, 2, CHANNELS)
    exact = family(*arguments, kernel=kernel).double()
    back = family(*arguments, kernel=kernel).float().double()
    tables = {name: table for name, table in back.named_buffers() if table.is_floating_point()}
    assert tables
    for name, table in tables.items():
        assert torch.equal(table, exact.get_buffer(name)), name


@pytest.mark.parametrize(("family", "kernel"), EDGE)
def test_impossible_degrees_are_refused_by_name(family, kernel):
    with pytest.raises(ValueError, match="l_out=4 was asked for"):
        family(1, 2, 4, kernel=kernel)
    with pytest.raises(ValueError, match="l_edge is a degree"):
        family(1, -1, 0, kernel=kernel)


@pytest.mark.parametrize(("family", "kernel"), NODE)
def test_impossible_node_products_are_refused(family, kernel):
    with pytest.raises(ValueError, match="correlation"):
        family(1, 1, 0, 1, 1, kernel=kernel)
    with pytest.raises(ValueError, match="reaches degree 3"):
        family(1, 3, 2, 1, 1, kernel=kernel)


def test_unknown_kernel_names_the_nearest():
    with pytest.raises(ValueError, match=r"no kernel 'gird'. Did you mean 'grid'"):
        GauntEdgeProduct(1, 1, 1, kernel="gird")


def test_gaunt_edge_product_is_clebsch_gordan_with_factorised_weights():
    """Path weights kappa(l1,l2,l3) w(l2), path copies summed: the Gaunt product, to 1e-10."""
    from mace_gaunt.so3.coefficients import gaunt_amplitude
    from mace_gaunt.tensor_products.gaunt import normalizers

    for l_in, l_edge, l_out in itertools.product((1, 2), (2, 3), (1, 3)):
        gaunt, full = GauntEdgeProduct(l_in, l_edge, l_out).double(), ClebschGordanEdgeProduct(l_in, l_edge, l_out)
        feats, directions, weights, edge_index = edge_inputs(l_in, l_edge, gaunt.weight_numel)
        attrs = spherical_harmonics(directions, l_edge)
        norm = normalizers(range(l_in + 1), range(l_edge + 1), range(l_out + 1))
        amplitude = [gaunt_amplitude(*path) / (2 * path[2] + 1) ** 0.5 * norm[path[2]] for path in full.paths]
        path_weights = torch.stack([a * weights[:, p[1]] for a, p in zip(amplitude, full.paths, strict=True)], dim=1)
        result = full.double()(feats, attrs, path_weights, edge_index)
        sizes = [(2 * degree + 1) * paths for degree, paths in enumerate(full.num_paths_out)]
        blocks = result.split(sizes, dim=1)
        summed = [b.unflatten(1, (2 * d + 1, full.num_paths_out[d])).sum(2) for d, b in enumerate(blocks)]
        assert (torch.cat(summed, dim=1) - gaunt(feats, attrs, weights, edge_index)).abs().max() < 1e-10


def test_clebsch_gordan_edge_product_equals_e3nn():
    """Against e3nn's channel-wise "uvu" tensor product, component-normalised, path by path."""
    from e3nn import o3

    from mace_gaunt.so3.layout import to_mul_ir

    product = ClebschGordanEdgeProduct(2, 3, 3).double()
    feats, directions, weights, _ = edge_inputs(2, 3, product.weight_numel, n_nodes=9)
    attrs = spherical_harmonics(directions, 3)
    irreps_in = o3.Irreps(f"{CHANNELS}x0e + {CHANNELS}x1o + {CHANNELS}x2e")
    irreps_out = o3.Irreps([(CHANNELS, (l3, (-1) ** l3)) for _, _, l3 in product.paths])
    instructions = [(l1, l2, index, "uvu", True) for index, (l1, l2, _) in enumerate(product.paths)]
    reference = o3.TensorProduct(
        irreps_in, "0e + 1o + 2e + 3o", irreps_out, instructions, internal_weights=False, shared_weights=False
    ).double()
    # e3nn keeps its 3j tensors in float32: compare at that precision, the coefficients themselves are tested to 1e-12.
    expected = reference(to_mul_ir(feats), attrs, weights.flatten(1))
    result = product.couple(feats, attrs, weights)
    sizes = [(2 * degree + 1) * paths for degree, paths in enumerate(product.num_paths_out)]
    columns = []
    for degree, block in enumerate(result.split(sizes, dim=1)):
        rows = block.unflatten(1, (2 * degree + 1, product.num_paths_out[degree]))
        columns += [rows[:, :, path].transpose(1, 2).flatten(1) for path in range(product.num_paths_out[degree])]
    torch.testing.assert_close(torch.cat(columns, dim=1), expected, atol=1e-5, rtol=1e-5)
