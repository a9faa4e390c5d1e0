"""Contract tests that every family, kernel and operation passes."""

import itertools

import pytest
import torch
from families import EDGE, FEATURE, NODE, features, name, with_options
from rotations import random_rotation, rotate

from mace_gaunt.so3.harmonics import spherical_harmonics
from mace_gaunt.tensor_products.clebsch_gordan import ClebschGordanEdgeProduct
from mace_gaunt.tensor_products.gaunt import GauntEdgeProduct

CHANNELS = 3
DEGREES = [(0, 0, 0), (0, 3, 3), (1, 3, 3), (2, 3, 3), (2, 2, 4), (1, 2, 0), (2, 0, 2), (4, 4, 4)]
SUBSETS = [(0, 0, 0), (2, 3, 4), ((1,), (1,), (0, 2)), ((1, 3), (2,), (1, 3, 5)), ((0, 2), 2, (2, 4)), (4, 4, 4)]
FEATURE_CASES, EDGE_CASES = with_options(FEATURE), with_options(EDGE)


def edge_inputs(product, n_nodes=4, n_edges=9, seed=0, channels=CHANNELS):
    feats = features(n_nodes, product.l_in, channels, parity=product.pseudo_in, seed=seed)
    generator = torch.Generator().manual_seed(seed + 1)
    draw = {"dtype": torch.float64, "generator": generator}
    directions = torch.nn.functional.normalize(torch.randn(n_edges, 3, **draw), dim=-1)
    weights = torch.randn(n_edges, product.weight_numel, channels, **draw)
    edge_index = torch.randint(n_nodes, (2, n_edges), generator=generator)
    return feats, directions, weights, edge_index


def node_product(family, kernel, l_in, l_out, correlation, **options):
    torch.manual_seed(1)
    return family(l_in, l_out, correlation, num_elements=2, num_channels=CHANNELS, kernel=kernel, **options).double()


@pytest.mark.parametrize("inversion", [False, True])
@pytest.mark.parametrize("parity", [(False, False), (True, True), (True, False)])
@pytest.mark.parametrize("degrees", SUBSETS, ids=str)
@pytest.mark.parametrize(("family", "kernel", "options"), FEATURE_CASES, ids=name)
def test_feature_product_is_equivariant(family, kernel, options, degrees, parity, inversion):
    product = family(*degrees, kernel=kernel, **options).double()
    x = features(5, product.degrees_x, CHANNELS, parity=parity[0])
    y = features(5, product.degrees_y, CHANNELS, parity=parity[1], seed=1)
    matrix = random_rotation(inversion=inversion)
    result = product(x, y)
    turned = product(rotate(x, matrix, degrees=product.degrees_x), rotate(y, matrix, degrees=product.degrees_y))
    paths = product.num_paths_parity if any(parity) else product.num_paths_out
    assert (result.dim() == 4) == (any(parity) or product.pseudo_out)
    assert (rotate(result, matrix, paths, product.degrees_out) - turned).abs().max() < 1e-10


@pytest.mark.parametrize("parity", [False, True])
@pytest.mark.parametrize(("family", "kernel", "options"), FEATURE_CASES, ids=name)
def test_feature_variances_are_one(family, kernel, options, parity):
    """Unit-variance features give unit variance in every copy, degree and parity, or nothing at all."""
    product = family(2, 2, 3, kernel=kernel, **options).double()
    with torch.no_grad():
        for weight in product.parameters():
            # One product with all weights one: with few random weights only the mean over many draws is one.
            weight.copy_((torch.arange(weight.shape[1]) == 0) * weight.shape[1] ** (1 / 6))
    x, y = features(3000, 2, 8, parity=parity), features(3000, 2, 8, parity=parity, seed=1)
    result = product(x, y)
    paths = product.num_paths_parity if parity else product.num_paths_out
    sizes = [(2 * degree + 1) * count for degree, count in enumerate(paths)]
    halves = [result] if result.dim() == 3 else result.unbind(1)
    for half in halves:
        for degree, block in enumerate(half.split(sizes, dim=1)):
            for copy in block.unflatten(1, (2 * degree + 1, -1)).unbind(2):
                assert copy.var().item() == pytest.approx(1.0, abs=0.08) or not copy.any()


@pytest.mark.parametrize(("family", "kernel"), FEATURE, ids=name)
def test_feature_product_second_derivatives(family, kernel):
    product = family(1, 2, 2, kernel=kernel).double()
    inputs = [features(2, 1, 1).requires_grad_(), features(2, 2, 1, seed=1).requires_grad_()]
    assert torch.autograd.gradgradcheck(product, inputs, gen_non_contig_grad_outputs=False)


@pytest.mark.parametrize(("family", "kernel"), FEATURE, ids=name)
def test_feature_product_without_rows(family, kernel):
    product = family(1, 2, 2, kernel=kernel).double()
    result = product(features(0, 1, CHANNELS), features(0, 2, CHANNELS))
    assert result.shape[0] == 0
    assert result.shape[-2:] == (product.num_rows_out, CHANNELS)


@pytest.mark.parametrize("inversion", [False, True])
@pytest.mark.parametrize("pseudo_in", [False, True])
@pytest.mark.parametrize("degrees", DEGREES, ids=str)
@pytest.mark.parametrize(("family", "kernel", "options"), EDGE_CASES, ids=name)
def test_edge_product_is_equivariant(family, kernel, options, degrees, pseudo_in, inversion):
    product = family(*degrees, kernel=kernel, num_channels=CHANNELS, pseudo_in=pseudo_in, **options).double()
    feats, directions, weights, edge_index = edge_inputs(product)
    matrix = random_rotation(inversion=inversion)
    result = product(feats, spherical_harmonics(directions, degrees[1]), weights, edge_index)
    turned_attrs = spherical_harmonics(directions @ matrix.T, degrees[1])
    turned = product(rotate(feats, matrix), turned_attrs, weights, edge_index)
    assert result.shape[-2] == product.num_rows_out
    assert (result.dim() == 4) == product.pseudo_out
    assert (rotate(result, matrix, product.num_paths_out) - turned).abs().max() < 1e-10


@pytest.mark.parametrize("pseudo_in", [False, True])
@pytest.mark.parametrize("degrees", DEGREES, ids=str)
@pytest.mark.parametrize(("family", "kernel", "options"), EDGE_CASES, ids=name)
def test_edge_forward_is_gather_couple_scatter(family, kernel, options, degrees, pseudo_in):
    product = family(*degrees, kernel=kernel, num_channels=CHANNELS, pseudo_in=pseudo_in, **options).double()
    feats, directions, weights, edge_index = edge_inputs(product)
    attrs = spherical_harmonics(directions, degrees[1])
    result = product(feats, attrs, weights, edge_index)
    coupled = product.couple(feats[edge_index[0]], attrs, weights)
    expected = torch.zeros_like(result).index_add(0, edge_index[1], coupled)
    torch.testing.assert_close(result, expected, atol=1e-11, rtol=1e-11)


@pytest.mark.parametrize(("family", "kernel"), EDGE, ids=name)
def test_edge_product_without_edges_and_with_one_atom(family, kernel):
    product = family(1, 2, 2, kernel=kernel, num_channels=CHANNELS).double()
    feats = torch.randn(1, 4, CHANNELS, dtype=torch.float64)
    none = torch.zeros(0, dtype=torch.float64)
    attrs, weights = none.reshape(0, 9), none.reshape(0, product.weight_numel, CHANNELS)
    result = product(feats, attrs, weights, torch.zeros(2, 0, dtype=torch.int64))
    assert result.shape[0] == 1
    assert result.shape[-2:] == (product.num_rows_out, CHANNELS)
    assert not result.any()
    one = product(feats, *edge_arguments(product, n_edges=1), torch.zeros(2, 1, dtype=torch.int64))
    assert one.shape == result.shape
    assert one.any()


def edge_arguments(product, n_edges):
    _, directions, weights, _ = edge_inputs(product, n_edges=n_edges)
    return spherical_harmonics(directions, product.l_edge), weights


@pytest.mark.parametrize(("family", "kernel"), EDGE, ids=name)
def test_edge_product_second_derivatives(family, kernel):
    product = family(1, 2, 1, kernel=kernel, num_channels=1).double()
    feats, directions, weights, edge_index = edge_inputs(product, n_nodes=2, n_edges=2, channels=1)

    def function(feats, vectors, weights):
        attrs = spherical_harmonics(torch.nn.functional.normalize(vectors, dim=-1), 2)
        return product(feats, attrs, weights, edge_index).sum(0)

    inputs = [value.requires_grad_() for value in (feats, directions, weights)]
    assert torch.autograd.gradgradcheck(function, inputs, gen_non_contig_grad_outputs=False)


@pytest.mark.parametrize(("family", "kernel"), EDGE, ids=name)
def test_edge_variances_are_one(family, kernel):
    """Unit-variance features, harmonics and weights give messages of unit variance, for each degree and copy."""
    torch.manual_seed(0)
    product = family(2, 3, 3, kernel=kernel, num_channels=32).double()
    feats, directions, weights, _ = edge_inputs(product, n_nodes=1000, n_edges=1000, channels=32)
    result = product.couple(feats, spherical_harmonics(directions, 3), weights)
    sizes = [(2 * degree + 1) * paths for degree, paths in enumerate(product.num_paths_out)]
    halves = [result] if result.dim() == 3 else result.unbind(1)
    for half in halves:
        for degree, block in enumerate(half.split(sizes, dim=1)):
            for copy in block.unflatten(1, (2 * degree + 1, -1)).unbind(2):
                assert copy.var().item() == pytest.approx(1.0, abs=0.1) or not copy.any()


@pytest.mark.parametrize("inversion", [False, True])
@pytest.mark.parametrize("pseudo_in", [False, True])
@pytest.mark.parametrize("degrees", [(3, 0, 3), (3, 1, 3), (3, 2, 3), (2, 2, 4), (1, 1, 1), (0, 0, 2)], ids=str)
@pytest.mark.parametrize(("family", "kernel"), NODE, ids=name)
def test_node_product_is_equivariant(family, kernel, degrees, pseudo_in, inversion):
    product = node_product(family, kernel, *degrees, pseudo_in=pseudo_in)
    feats = features(5, degrees[0], CHANNELS, parity=pseudo_in)
    types = torch.tensor([0, 1, 1, 0, 1])
    matrix = random_rotation(inversion=inversion)
    assert (product(feats, types).dim() == 4) == product.pseudo_out
    difference = rotate(product(feats, types), matrix) - product(rotate(feats, matrix), types)
    assert difference.abs().max() < 1e-10


@pytest.mark.parametrize(("family", "kernel"), NODE, ids=name)
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


@pytest.mark.parametrize("pseudo_in", [False, True])
@pytest.mark.parametrize(("family", "kernel"), NODE, ids=name)
def test_node_mean_squares_are_one(family, kernel, pseudo_in):
    """Unit-variance features give unit mean square in every degree and parity that is reached."""
    torch.manual_seed(0)
    product = family(2, 2, 3, 1, 64, kernel=kernel, pseudo_in=pseudo_in).double()
    result = product(features(300, 2, 64, parity=pseudo_in), torch.zeros(300, dtype=torch.int64))
    halves = [result] if result.dim() == 3 else result.unbind(1)
    for half in halves:
        for degree, block in enumerate(half.split([1, 3, 5], dim=1)):
            assert (block**2).mean().item() == pytest.approx(1.0, abs=0.35), degree


@pytest.mark.parametrize(("family", "kernel"), NODE, ids=name)
def test_node_product_second_derivatives(family, kernel):
    product = family(1, 1, 3, num_elements=1, num_channels=2, kernel=kernel).double()
    feats = torch.randn(2, 4, 2, dtype=torch.float64, requires_grad=True)
    types = torch.zeros(2, dtype=torch.int64)
    assert torch.autograd.gradgradcheck(lambda x: product(x, types), feats, gen_non_contig_grad_outputs=False)


@pytest.mark.parametrize(("family", "kernel"), NODE, ids=name)
def test_no_atoms(family, kernel):
    product = node_product(family, kernel, 2, 1, 3)
    empty = torch.zeros(0, 9, CHANNELS, dtype=torch.float64)
    result = product(empty, torch.zeros(0, dtype=torch.int64))
    assert result.shape[0] == 0
    assert result.shape[-2:] == (4, CHANNELS)


@pytest.mark.parametrize(("family", "kernel"), [*FEATURE, *EDGE, *NODE], ids=name)
def test_tables_survive_a_change_of_precision(family, kernel):
    arguments = (2, 1, 3, 2, CHANNELS) if (family, kernel) in NODE else (1, 2, 2)
    options = {"num_channels": CHANNELS} if (family, kernel) in EDGE else {}
    exact = family(*arguments, kernel=kernel, **options).double()
    back = family(*arguments, kernel=kernel, **options).float().double()
    tables = {key: table for key, table in back.named_buffers() if table.is_floating_point()}
    assert tables
    for table_name, table in tables.items():
        assert torch.equal(table, exact.get_buffer(table_name)), table_name


@pytest.mark.parametrize(("family", "kernel"), EDGE, ids=name)
def test_impossible_degrees_are_refused_by_name(family, kernel):
    with pytest.raises(ValueError, match="l_out=4 was asked for"):
        family(1, 2, 4, kernel=kernel, num_channels=CHANNELS)
    with pytest.raises(ValueError, match="l_edge is a degree"):
        family(1, -1, 0, kernel=kernel, num_channels=CHANNELS)


@pytest.mark.parametrize(("family", "kernel"), NODE, ids=name)
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
        feats, directions, weights, edge_index = edge_inputs(gaunt)
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
    feats, directions, weights, _ = edge_inputs(product, n_nodes=9)
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
