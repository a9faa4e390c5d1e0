"""The loops in C++ as operators: what torch asks of them, threads, and the ways in which they cannot be had."""

import stat

import pytest
import torch

from mace_gaunt.tensor_products.clebsch_gordan import ClebschGordanEdgeProduct, ClebschGordanNodeProduct
from mace_gaunt.tensor_products.gaunt import GauntEdgeProduct, GauntNodeProduct
from mace_gaunt.tensor_products.kernels import native
from mace_gaunt.tensor_products.kernels.edge_loop import edge_backward, edge_double_backward, edge_forward
from mace_gaunt.tensor_products.kernels.node_loop import PLANS, node_backward, node_double_backward, node_forward
from mace_gaunt.tensor_products.selection import example_inputs

try:
    native.find_compiler()
except ImportError as error:
    pytest.skip(str(error), allow_module_level=True)


def edge_operands(family, channels=5, dtype=torch.float64):
    """coef, x, z, edge_index and plan of a small edge product."""
    product = family(1, 2, 2, "fused", num_channels=channels).to(dtype)
    features, _, weights, edge_index = example_inputs(product, 6, 17)
    kernel = product.kernel
    if family is GauntEdgeProduct:
        coef = torch.randn(17, kernel.filters.shape[1], dtype=dtype)
        return coef, weights, torch.randn(6, kernel.synthesis.shape[0], channels, dtype=dtype), edge_index, kernel.plan
    return torch.randn(17, kernel.coupling.shape[1], dtype=dtype), features, weights, edge_index, kernel.plan


def node_operands(family, channels=5, dtype=torch.float64):
    """a, w and plan of a small node product."""
    kernel = family(2, 1, 3, 4, channels, "fused").kernel
    weights = torch.randn(PLANS[kernel.plan].num_weights, 4, channels, dtype=dtype)
    return torch.randn(4, 9, channels, dtype=dtype), weights, kernel.plan


EDGES, NODES = (GauntEdgeProduct, ClebschGordanEdgeProduct), (GauntNodeProduct, ClebschGordanNodeProduct)


@pytest.mark.parametrize("family", EDGES)
def test_edge_operators_keep_torchs_rules(family):
    coef, x, z, edge_index, plan = edge_operands(family)
    leaves = [value.requires_grad_() for value in (coef, x, z)]
    torch.library.opcheck(edge_forward, (*leaves, edge_index, plan))
    g = torch.randn_like(edge_forward(coef, x, z, edge_index, plan)).requires_grad_()
    torch.library.opcheck(edge_backward, (*leaves, g, edge_index, plan))
    plain = [value.detach() for value in (coef, x, z, g)]
    torch.library.opcheck(edge_double_backward, (*plain, *map(torch.randn_like, plain[:3]), edge_index, plan))


@pytest.mark.parametrize("family", NODES)
def test_node_operators_keep_torchs_rules(family):
    a, w, plan = node_operands(family)
    leaves = [value.requires_grad_() for value in (a, w)]
    torch.library.opcheck(node_forward, (*leaves, plan))
    g = torch.randn_like(node_forward(a, w, plan)).requires_grad_()
    torch.library.opcheck(node_backward, (*leaves, g, plan))
    plain = [value.detach() for value in (a, w, g)]
    torch.library.opcheck(node_double_backward, (*plain, *map(torch.randn_like, plain[:2]), plan))


@pytest.mark.parametrize("family", EDGES)
def test_any_number_of_threads_gives_the_same_bits(family):
    coef, x, z, edge_index, plan = edge_operands(family, channels=19, dtype=torch.float32)
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            forward = edge_forward(coef, x, z, edge_index, plan)
            backward = edge_backward(coef, x, z, forward, edge_index, plan)
            second = edge_double_backward(coef, x, z, forward, *backward, edge_index, plan)
            results.append([forward, *backward, *second])
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(one, three) for one, three in zip(*results, strict=True))


def test_broken_graphs_and_shapes_are_refused():
    coef, x, z, edge_index, plan = edge_operands(GauntEdgeProduct)
    for wrong in (-1, 6):
        broken = edge_index.clone()
        broken[1, 3] = wrong
        with pytest.raises(IndexError, match="there are 6"):
            edge_forward(coef, x, z, broken, plan)
    with pytest.raises(ValueError, match="expected shapes"):
        edge_forward(coef, x[:, :2], z, edge_index, plan)
    with pytest.raises(ValueError, match="of one dtype"):
        edge_forward(coef, x, z.float(), edge_index, plan)
    a, w, plan = node_operands(GauntNodeProduct)
    with pytest.raises(ValueError, match="expected shapes"):
        node_forward(a, w[:-1], plan)


def test_a_third_derivative_is_refused():
    coef, x, z, edge_index, plan = edge_operands(GauntEdgeProduct)
    x.requires_grad_()
    value = edge_forward(coef, x * x, z, edge_index, plan).square().sum()
    for _ in range(2):
        (gradient,) = torch.autograd.grad(value, x, create_graph=True)
        value = gradient.square().sum()
    with pytest.raises(RuntimeError, match="edge_double_backward"):
        torch.autograd.grad(value, x)


def test_without_a_compiler_it_says_what_to_install(monkeypatch):
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(
        ImportError, match=r"needs a C\+\+ compiler \(g\+\+, clang\+\+, c\+\+\): install one, or set CXX"
    ):
        native.find_compiler()


def test_a_failing_compiler_is_quoted(monkeypatch, tmp_path):
    compiler = tmp_path / "broken"
    compiler.write_text("#!/bin/sh\necho 'no space left' >&2\nexit 1\n")
    compiler.chmod(compiler.stat().st_mode | stat.S_IEXEC)
    monkeypatch.setenv("CXX", str(compiler))
    with pytest.raises(ImportError, match=r"could not be built by .*broken.*no space left"):
        native.build(tmp_path / "cache" / "loops.so")
    assert list((tmp_path / "cache").iterdir()) == []


def test_built_once_and_found_again(monkeypatch, tmp_path):
    compiler = tmp_path / "compiler"
    log = tmp_path / "log"
    compiler.write_text(f"#!/bin/sh\necho run >> {log}\n" + 'while [ "$1" != -o ]; do shift; done\ntouch "$2"\n')
    compiler.chmod(compiler.stat().st_mode | stat.S_IEXEC)
    monkeypatch.setenv("CXX", str(compiler))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    first, second = native.find_library(), native.find_library()
    # Two sources and the library they make.
    assert first == second and first.is_relative_to(tmp_path / "cache") and log.read_text() == "run\n" * 3


def test_a_cache_that_cannot_be_written_is_done_without(monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    monkeypatch.setattr(native, "build", lambda path: path.touch())
    found = native.find_library()
    assert found.is_file() and not found.is_relative_to(tmp_path)
