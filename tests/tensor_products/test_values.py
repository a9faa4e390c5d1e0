"""Values of every family against oracles that share no code with it, and all kernels of a family against each other."""

import functools

import numpy as np
import pytest
import torch
from e3nn import o3
from families import EDGE, FEATURE, NODE, features, name
from scipy.special import sph_harm_y

from mace_gaunt.so3.harmonics import spherical_harmonics
from mace_gaunt.tensor_products.gaunt import GauntFeatureProduct
from mace_gaunt.tensor_products.kernels import gaunt_grid

PRECISION = {torch.float32: 2e-4, torch.float64: 1e-10}
GRID = [(degree, channels, dtype) for degree in range(5) for channels in (1, 8) for dtype in PRECISION]


@functools.lru_cache
def sphere():
    """Points and weights of a product rule exact far beyond need: polar angle, azimuth, weight."""
    cosines, weights = np.polynomial.legendre.leggauss(24)
    azimuth = 2 * np.pi * np.arange(48) / 48
    theta, phi = (grid.ravel() for grid in np.meshgrid(np.arccos(cosines), azimuth, indexing="ij"))
    return theta, phi, np.repeat(weights, 48) * 2 * np.pi / 48


@functools.lru_cache
def scipy_harmonics(l):
    """Real orthonormal harmonics in e3nn's order and sign, with derivatives by theta and by phi / sin(theta)."""
    theta, phi, _ = sphere()
    rows = []
    for m in range(-l, l + 1):
        value, slopes = sph_harm_y(l, abs(m), theta, phi, diff_n=1)
        complex_parts = np.stack([value, slopes[..., 0], slopes[..., 1] / np.sin(theta)])
        part = complex_parts.real if m >= 0 else complex_parts.imag
        rows.append(part * (1.0 if m == 0 else (-1) ** m * np.sqrt(2.0)))
    return np.stack(rows, axis=1)


def gaunt_block(l1, l2, l3):
    one, two, three = (scipy_harmonics(l)[0] for l in (l1, l2, l3))
    return np.einsum("ap,bp,cp,p->abc", one, two, three, sphere()[2])


def bracket_block(l1, l2, l3):
    """Of gradients divided by sqrt(l(l+1))."""
    (_, t1, p1), (_, t2, p2), (three, _, _) = (scipy_harmonics(l) for l in (l1, l2, l3))
    norm = 1.0 / np.sqrt(max(l1 * (l1 + 1), 1) * max(l2 * (l2 + 1), 1))
    pairs = np.einsum("ap,bp->abp", t1, p2) - np.einsum("ap,bp->abp", p1, t2)
    return np.einsum("abp,cp,p->abc", pairs, three, sphere()[2]) * norm


def w3j(l1, l2, l3):
    return o3.wigner_3j(l1, l2, l3, dtype=torch.float64).numpy()


def matrix_block(l1, l2, l3, top):
    j = (top + 1) // 2
    one, two, three = (w3j(j, j, l) * np.sqrt(2 * l + 1) for l in (l1, l2, l3))
    return np.einsum("ika,kjb,ijc->abc", one, two, three)


def block(family, l1, l2, l3, top):
    """Coupling tensor before normalisation; the sum's parity says which of a family's products it belongs to."""
    odd = (l1 + l2 + l3) % 2
    if family in ("gaunt", "gaunt_mix"):
        return gaunt_block(l1, l2, l3)
    if family == "vector_gaunt":
        return bracket_block(l1, l2, l3) if odd else gaunt_block(l1, l2, l3)
    assert family == "matrix"
    return matrix_block(l1, l2, l3, top)


def oracle(family, l_x, l_y, l_out, odd=False):
    """Normalised coupling tensor [rows, x, y] of one copy per degree; rows are zero where nothing couples."""
    top = max(l_x, l_y, l_out)
    tensor = np.zeros(((l_out + 1) ** 2, (l_x + 1) ** 2, (l_y + 1) ** 2))
    for l3 in range(l_out + 1):
        rows = tensor[l3**2 : (l3 + 1) ** 2]
        for l1 in range(l_x + 1):
            for l2 in range(l_y + 1):
                if abs(l1 - l2) <= l3 <= l1 + l2 and (l1 + l2 + l3) % 2 == odd:
                    values = block(family, l1, l2, l3, top).transpose(2, 0, 1)
                    rows[:, l1**2 : (l1 + 1) ** 2, l2**2 : (l2 + 1) ** 2] = values
        norm = np.sqrt((rows**2).sum() / (2 * l3 + 1))
        rows /= norm if norm > 1e-9 else 1.0
    return torch.from_numpy(tensor)


def close(found, expected, dtype):
    return (found.double() - expected).abs().max() < PRECISION[dtype] * max(1.0, float(expected.abs().max()))


@pytest.mark.parametrize(("degree", "channels", "dtype"), GRID)
@pytest.mark.parametrize(("family", "kernel"), FEATURE, ids=name)
def test_feature_values(family, kernel, degree, channels, dtype):
    product = family(degree, degree, degree, kernel=kernel).to(dtype)
    x, y = features(6, degree, channels), features(6, degree, channels, seed=1)
    found = product(x.to(dtype), y.to(dtype))
    if family.family == "clebsch_gordan":
        expected = torch.cat([path for path in each_path(product.paths, degree, x, y)], dim=1)
        assert close(found, expected, dtype)
        return
    if family.family == "gaunt_mix":
        expected = 0.0
        x_weights, y_weights, weights = (product.weights_of(n).double().detach() for n in ("x", "y", "out"))
        for r in range(product.num_products):
            part = contract(oracle("gaunt", degree, degree, degree), x_weights[:, r] * x, y_weights[:, r] * y)
            expected = expected + weights[:, r] * part / product.num_products**0.5
        assert close(found, expected, dtype)
        return
    parities = [found] if found.dim() == 3 else found.unbind(1)
    for odd, part in enumerate(parities):
        assert close(part, contract(oracle(family.family, degree, degree, degree, odd), x, y), dtype)


def contract(tensor, x, y):
    return torch.einsum("kij,nic,njc->nkc", tensor, x, y)


def each_path(paths, l_out, x, y):
    """Component-normalised e3nn couplings, rows by degree, m, path."""
    for l3 in range(l_out + 1):
        copies = []
        for l1, l2, _ in (path for path in paths if path[2] == l3):
            coupling = torch.from_numpy(w3j(l1, l2, l3)) * (2 * l3 + 1) ** 0.5
            one, two = x[:, l1**2 : (l1 + 1) ** 2], y[:, l2**2 : (l2 + 1) ** 2]
            copies.append(torch.einsum("abm,nac,nbc->nmc", coupling, one, two))
        yield torch.stack(copies, dim=2).flatten(1, 2)


@pytest.mark.parametrize(("degree", "channels", "dtype"), GRID)
@pytest.mark.parametrize(("family", "kernel"), EDGE, ids=name)
def test_edge_values(family, kernel, degree, channels, dtype):
    """Per edge, with path weights spread from the weights of each family."""
    torch.manual_seed(0)
    product = family(degree, 3, min(degree + 1, 4), kernel=kernel, num_channels=channels).to(dtype)
    generator = torch.Generator().manual_seed(2)
    directions = torch.nn.functional.normalize(torch.randn(5, 3, dtype=torch.float64, generator=generator), dim=1)
    attrs, feats = spherical_harmonics(directions, 3), features(5, degree, channels)
    weights = torch.randn(5, product.weight_numel, channels, dtype=torch.float64, generator=generator)
    found = product.couple(feats.to(dtype), attrs.to(dtype), weights.to(dtype))
    for part, expected in zip(
        [found] if found.dim() == 3 else found.unbind(1), edge_oracle(product, feats, attrs, weights), strict=True
    ):
        assert close(part, expected, dtype)


def edge_oracle(product, feats, attrs, weights):
    family, l_out = product.family, product.l_out
    of_harmonics = torch.tensor([l for l in range(4) for _ in range(2 * l + 1)])
    if family == "clebsch_gordan":
        spread = attrs[:, :, None].expand(-1, -1, feats.shape[2])
        rows, start = [], 0
        for l3, block_of in enumerate(each_path(product.paths, l_out, feats, spread)):
            count = sum(path[2] == l3 for path in product.paths)
            copies = block_of.unflatten(1, (2 * l3 + 1, count)) * weights[:, None, start : start + count]
            rows.append(copies.flatten(1, 2))
            start += count
        return [torch.cat(rows, dim=1)]
    if family == "gaunt_mix":
        mixed = product.factors.double()(feats).detach()
        spread = weights.unflatten(1, (4, -1)).flatten(2)[:, of_harmonics]
        signal = spread * attrs[..., None]
        rows = contract(oracle("gaunt", product.l_in, 3, l_out), mixed, signal)
        return [rows.unflatten(2, (product.num_products, -1)).flatten(1, 2)]
    even = weights[:, :4][:, of_harmonics] * attrs[..., None]
    results = [contract(oracle(family, product.l_in, 3, l_out), feats, even)]
    if product.pairing is not None:
        odd = (
            even
            if family == "matrix"
            else attrs[..., None]
            * torch.cat([torch.zeros_like(weights[:, :1]), weights[:, 4:]], dim=1)[:, of_harmonics]
        )
        results.append(contract(oracle(family, product.l_in, 3, l_out, odd=True), feats, odd))
    return results


@pytest.mark.parametrize("dtype", PRECISION)
@pytest.mark.parametrize("degree", range(5))
@pytest.mark.parametrize(("family", "kernel"), [case for case in NODE if case[0].family == "gaunt"], ids=name)
def test_gaunt_node_values(family, kernel, degree, dtype):
    """Powers of a signal by the oracle's pairwise tensors, normalised by their known factor."""
    product = family(degree, degree, 3, 1, 8, kernel=kernel).to(dtype)
    x = features(4, degree, 8)
    # One order at a time: its weights are one, all others zero.
    weights = torch.eye(3, dtype=dtype)[:, :, None, None, None].expand(3, 3, degree + 1, 4, 8)
    found = [product.kernel(x.to(dtype), only) for only in weights]
    square = contract(plain(degree, degree, 2 * degree), x, x)
    cube = contract(plain(2 * degree, degree, degree), square, x)
    from mace_gaunt.tensor_products.gaunt import power_normalizers

    factors = power_normalizers(degree, degree, 3) / 3**0.5
    rows = torch.tensor([l for l in range(degree + 1) for _ in range(2 * l + 1)])
    for order, power in enumerate((x, square[:, : (degree + 1) ** 2], cube)):
        assert close(found[order], power * factors[order][rows][:, None], dtype)


def plain(l_x, l_y, l_out):
    tensor = np.zeros(((l_out + 1) ** 2, (l_x + 1) ** 2, (l_y + 1) ** 2))
    for l1 in range(l_x + 1):
        for l2 in range(l_y + 1):
            for l3 in range(abs(l1 - l2), min(l1 + l2, l_out) + 1):
                where = slice(l3**2, (l3 + 1) ** 2), slice(l1**2, (l1 + 1) ** 2), slice(l2**2, (l2 + 1) ** 2)
                tensor[where] = gaunt_block(l1, l2, l3).transpose(2, 0, 1)
    return torch.from_numpy(tensor)


def siblings(cases):
    """(class, other kernel) for every kernel that is not its family's first."""
    return [(family, kernel) for family, kernel in cases if kernel != next(iter(family.KERNELS))]


POLES = torch.tensor([[0.0, 1, 0], [0, -1, 0], [0, 1, 1e-9], [1e-9, -1, 0], [1, 0, 0], [0, 1e-12, 1], [0.3, -0.2, 0.9]])


@pytest.mark.parametrize("degrees", [(1, 2, 2), (3, 3, 3)], ids=str)
@pytest.mark.parametrize(("family", "kernel"), siblings(EDGE), ids=name)
def test_edge_kernels_agree_with_two_derivatives_along_the_poles_too(family, kernel, degrees):
    product = family(*degrees, num_channels=2).double()
    generator = torch.Generator().manual_seed(0)
    feats = features(4, degrees[0], 2)
    weights = torch.randn(len(POLES), product.weight_numel, 2, dtype=torch.float64, generator=generator)
    index = torch.randint(4, (2, len(POLES)), generator=generator)
    probe = None
    results = []
    for used in (next(iter(family.KERNELS)), kernel):
        product.use_kernel(used)
        leaves = [value.clone().requires_grad_() for value in (feats, POLES.double() * 1.3, weights)]
        unit = leaves[1] / leaves[1].norm(dim=1, keepdim=True)
        value = product(leaves[0], spherical_harmonics(unit, degrees[1]), leaves[2], index)
        probe = torch.randn(value.shape, dtype=torch.float64, generator=generator) if probe is None else probe
        first = torch.autograd.grad((value * probe).sum(), leaves, create_graph=True)
        second = torch.autograd.grad(sum((g**2).sum() for g in first), leaves)
        results.append([value, *first, *second])
    for found, expected in zip(*results, strict=True):
        assert (found - expected).abs().max() < 1e-10 * max(1.0, float(expected.abs().max()))


@pytest.mark.parametrize("correlation", [1, 2, 3, 4])
@pytest.mark.parametrize(("family", "kernel"), siblings(NODE), ids=name)
def test_node_kernels_agree_with_two_derivatives(family, kernel, correlation):
    torch.manual_seed(0)
    product = family(2, 1, correlation, 2, 3, pseudo_in=False).double()
    types, results = torch.tensor([0, 1, 1]), []
    for used in (next(iter(family.KERNELS)), kernel):
        product.use_kernel(used)
        x = features(3, 2, 3).requires_grad_()
        value = product(x, types)
        (first,) = torch.autograd.grad(value.sin().sum(), x, create_graph=True)
        (second,) = torch.autograd.grad((first**2).sum(), x)
        results.append((value, first, second))
    for found, expected in zip(*results, strict=True):
        assert (found - expected).abs().max() < 1e-10 * max(1.0, float(expected.abs().max()))


@pytest.mark.parametrize(("family", "kernel"), siblings([*FEATURE, *EDGE, *NODE]), ids=name)
def test_kernels_share_one_state_dict(family, kernel):
    arguments = (2, 1, 3, 2, 4) if (family, kernel) in NODE else (1, 2, 2)
    options = {"num_channels": 4} if (family, kernel) in EDGE else {}
    first, other = family(*arguments, **options), family(*arguments, kernel=kernel, **options)
    other.load_state_dict(first.state_dict())
    assert {n: v.shape for n, v in first.state_dict().items()} == {n: v.shape for n, v in other.state_dict().items()}


@pytest.mark.parametrize("degrees", [((0, 1, 2),) * 3, ((0, 2), (1, 3), (1, 3, 5))])
def test_one_of_each_pair_of_opposite_points_is_enough(degrees, monkeypatch):
    """Even and odd degrees apart on half of the grid, which small degrees do not use by themselves."""
    x, y = features(7, degrees[0], 3), features(7, degrees[1], 3, seed=1)
    whole = GauntFeatureProduct(*degrees).double()
    monkeypatch.setattr(gaunt_grid, "LARGE_DEGREE", 0)
    halved = GauntFeatureProduct(*degrees).double()
    assert halved.kernel.by_parity and not whole.kernel.by_parity
    torch.testing.assert_close(halved(x, y), whole(x, y), atol=1e-12, rtol=1e-12)


def test_points_without_opposites_are_all_kept():
    assert gaunt_grid.one_of_each_pair(np.eye(3)) is None
    assert len(gaunt_grid.one_of_each_pair(np.concatenate([np.eye(3), -np.eye(3)]))) == 3
