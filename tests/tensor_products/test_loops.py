"""The loops in C++ as operators: what torch asks of them, threads, and the ways in which they cannot be had."""

import pickle
import stat
from functools import lru_cache
from pathlib import Path

import pytest
import torch

from mace_gaunt.cache import writable_folder
from mace_gaunt.tensor_products.clebsch_gordan import ClebschGordanEdgeProduct, ClebschGordanNodeProduct
from mace_gaunt.tensor_products.gaunt import GauntEdgeProduct, GauntNodeProduct
from mace_gaunt.tensor_products.kernels import edge_loop, fused, native, node_loop
from mace_gaunt.tensor_products.kernels.edge_loop import edge_backward, edge_double_backward, edge_forward
from mace_gaunt.tensor_products.kernels.node_loop import PLANS, node_backward, node_double_backward, node_forward
from mace_gaunt.tensor_products.selection import call, example_inputs

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


@pytest.fixture
def pretended(monkeypatch, tmp_path):
    """A compiler that makes empty files and writes a line for each, and a cache of the test; gives the lines' file."""
    compiler, log = tmp_path / "the compiler", tmp_path / "log"
    compiler.write_text(f"#!/bin/sh\necho $1 >> {log}\n" + 'while [ "$1" != -o ]; do shift; done\ntouch "$2"\n')
    compiler.chmod(compiler.stat().st_mode | stat.S_IEXEC)
    monkeypatch.setenv("CXX", f"'{compiler}' -pipe")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in ("library_or_reason", "tell"):
        monkeypatch.setattr(native, name, lru_cache(getattr(native, name).__wrapped__))
    return log


def test_what_was_built_is_found_again(pretended, tmp_path):
    assert native.kept_library() is None
    built = native.new_library()
    assert native.kept_library() == built and built.is_relative_to(tmp_path / "cache")
    # Two sources and the library they make.
    assert pretended.read_text() == "-pipe\n" * 3


def test_a_library_that_cannot_be_loaded_is_built_once_more(pretended, monkeypatch):
    kept = native.new_library()
    kept.write_bytes(b"cut off")
    loaded = []

    def load(path):
        loaded.append(Path(path).read_bytes())
        if loaded[-1] == b"cut off":
            raise OSError("invalid ELF header")
        return "library"

    monkeypatch.setattr(native.ctypes, "CDLL", load)
    assert native.open_library() == "library"
    assert loaded == [b"cut off", b""] and pretended.read_text() == "-pipe\n" * 6


def test_a_failure_is_told_once_and_remembered(pretended, caplog):
    """What the pretended compiler makes is no library."""
    for _ in range(2):
        with pytest.raises(ImportError, match=r"kernel 'fused' cannot be used here: .*loops-"):
            native.load_library()
    assert pretended.read_text() == "-pipe\n" * 3
    assert [record.levelname for record in caplog.records if "kernel=auto goes on" in record.getMessage()] == [
        "WARNING"
    ]


def test_a_missing_compiler_is_told_once_and_looked_for_again(pretended, monkeypatch, caplog):
    with monkeypatch.context() as without:
        without.setenv("CXX", "no-such-compiler")
        for _ in range(2):
            with pytest.raises(ImportError, match="install one, or set CXX"):
                native.load_library()
    assert sum("kernel=auto goes on" in record.getMessage() for record in caplog.records) == 1
    with pytest.raises(ImportError, match="cannot be used here"):
        native.load_library()


def test_a_cache_that_cannot_be_written_is_done_without(pretended, monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    at_exit = []
    monkeypatch.setattr(native.atexit, "register", lambda *call, **options: at_exit.append((call, options)))
    built = native.new_library()
    assert built.is_file() and not built.is_relative_to(tmp_path)
    ((remove, *arguments), options), *others = at_exit
    remove(*arguments, **options)
    assert not built.parent.exists() and not others


def test_a_user_without_a_home_has_no_library_kept(monkeypatch):
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr("os.path.expanduser", lambda path: path)
    assert native.kept_library() is None and writable_folder() is None


def test_the_fingerprint_knows_the_c_library(monkeypatch):
    before = native.fingerprint()
    monkeypatch.setattr(native.platform, "libc_ver", lambda: ("glibc", "1.0"))
    assert native.fingerprint() != before


def test_an_unreadable_compiler_setting_is_quoted(monkeypatch):
    monkeypatch.setenv("CXX", "'g++")
    with pytest.raises(ImportError, match="CXX='g\\+\\+: No closing quotation"):
        native.find_compiler()


@pytest.mark.parametrize("family", (*EDGES, *NODES))
def test_a_pickled_kernel_computes_in_another_process(family, monkeypatch):
    """Another process knows no plans."""
    edge = family in EDGES
    product = family(1, 2, 2, "fused", num_channels=5) if edge else family(2, 1, 3, 4, 5, "fused")
    content = pickle.dumps(product.double())
    inputs = example_inputs(product, 6, 17)
    expected = call(product, inputs)
    monkeypatch.setattr(edge_loop, "PLANS", {})
    monkeypatch.setattr(node_loop, "PLANS", {})
    monkeypatch.setattr(fused, "EDGE_PLANS", edge_loop.PLANS)
    monkeypatch.setattr(fused, "NODE_PLANS", node_loop.PLANS)
    assert torch.equal(call(pickle.loads(content), inputs), expected)


@pytest.mark.parametrize("family", EDGES)
def test_scalar_features_are_pickled_too(family, monkeypatch):
    kernel = family(0, 2, 2, "fused", num_channels=5).kernel
    content, known = pickle.dumps(kernel), dict(edge_loop.PLANS)
    monkeypatch.setattr(edge_loop, "PLANS", {})
    monkeypatch.setattr(fused, "EDGE_PLANS", edge_loop.PLANS)
    assert pickle.loads(content).plan == kernel.plan and set(edge_loop.PLANS) == {kernel.plan} <= set(known)


def test_an_edge_index_of_any_kind_is_read_as_it_is_or_refused():
    coef, x, z, edge_index, plan = edge_operands(GauntEdgeProduct)
    expected = edge_forward(coef, x, z, edge_index, plan)
    assert torch.equal(edge_forward(coef, x, z, edge_index.int(), plan), expected)
    for wrong in (edge_index.double(), edge_index[:1], edge_index.repeat(2, 1), edge_index[0], edge_index.bool()):
        with pytest.raises(ValueError, match="edge_index must be senders and receivers"):
            edge_forward(coef, x, z, wrong, plan)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_other_precisions_are_refused_by_name(dtype):
    coef, x, z, edge_index, plan = edge_operands(GauntEdgeProduct)
    with pytest.raises(ValueError, match=f"computes in float32 or float64 only, not in {dtype}"):
        edge_forward(coef.to(dtype), x.to(dtype), z.to(dtype), edge_index, plan)
    a, w, plan = node_operands(GauntNodeProduct)
    with pytest.raises(ValueError, match=f"computes in float32 or float64 only, not in {dtype}"):
        node_forward(a.to(dtype), w.to(dtype), plan)
