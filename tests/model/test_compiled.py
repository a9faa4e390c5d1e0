"""The graph that is given to the compiler, against the eager model; one compilation for all shapes; what is kept."""

import os

import pytest
import torch
from ase import Atoms
from compiled_cases import KERNELS, MIXED, SETTINGS, assert_agree, batch_of, tiny, traced
from small_models import crystal, graph, molecule
from torch._dynamo.testing import CompileCounterWithBackend

from mace_gaunt.model import code_cache, compiled
from mace_gaunt.model.compiled import CompiledGradient, CompileError, reason_of
from mace_gaunt.model.gradients import edge_gradient, predict

QUICK = {("gaunt", "grid"), ("gaunt", "fused"), ("clebsch_gordan", "sparse")}


def slow_but(quick, cases):
    """The cases, marked slow but for some."""
    return [pytest.param(*case, marks=[] if case in quick else pytest.mark.slow) for case in cases]


def prepared(family, kernel, dtype, **changes):
    """A model whose kernels have been called: e3nn writes its code at the first call."""
    model = tiny(family, kernel, dtype, **changes)
    if kernel == "e3nn":
        predict(model, graph(molecule(), model), training=True)
    return model


@pytest.mark.parametrize(("family", "kernel"), slow_but(QUICK, KERNELS))
def test_the_trace_of_every_kernel(family, kernel):
    model = prepared(family, kernel, torch.float64)
    assert_agree(model, traced(model))


@pytest.mark.slow
@pytest.mark.parametrize(("family", "kernel"), KERNELS)
def test_the_trace_in_single_precision(family, kernel):
    model = prepared(family, kernel, torch.float32, zbl=True)
    assert_agree(model, traced(model))


@pytest.mark.slow
@pytest.mark.parametrize("choice", MIXED)
def test_the_trace_of_mixed_families(choice):
    model = tiny(choice, zbl=True)
    assert_agree(model, traced(model))


@pytest.mark.parametrize("family", ["gaunt", "clebsch_gordan"])
@pytest.mark.parametrize("setting", slow_but(set(), [(name,) for name in SETTINGS]))
def test_the_trace_of_every_setting(family, setting):
    model = tiny(family, **SETTINGS[setting])
    assert_agree(model, traced(model))


def test_the_trace_keeps_second_derivatives_that_use_their_output():
    """tanh, exp (of ZBL), square roots and quotients: torch's trace detaches what their backward uses."""
    model = tiny("gaunt", gate="tanh", zbl=True, max_ell=1)
    assert_agree(model, traced(model))


@pytest.fixture
def counted(monkeypatch):
    """Counts what is compiled; runs torch's tracing and differentiation, but makes no machine code."""
    counter, compile = CompileCounterWithBackend("aot_eager"), torch.compile
    monkeypatch.setattr(torch, "compile", lambda graph, **options: compile(graph, backend=counter, **options))
    yield counter
    torch._dynamo.reset()


def frames_of_all_sizes():
    """Batches of 1 to 102 atoms and 0 to 512 pairs; in the first, atoms, pairs and components of a vector are three."""
    three, pair = molecule()[:3], Atoms("H2", positions=[[0, 0, 0], [0, 0, 1.0]])
    lone, far = molecule()[:1], Atoms("H2", positions=[[0, 0, 0], [0, 0, 9.0]])
    chain = Atoms("H3", positions=[[0, 0, 0], [0, 0, 2.1], [0, 0, 4.2]])
    return [
        [three],
        [three] * 5,
        [chain],  # three atoms, two pairs
        [pair, pair],  # four atoms, two pairs
        [pair],
        [far],
        [lone],
        [lone, molecule()],
        [molecule()] * 3,
        [crystal(), molecule(2)],
        [crystal()] * 8,
        [three] * 34,
    ]


def test_one_compilation_for_all_batches(counted):
    model = tiny("gaunt", max_ell=1, zbl=True)
    gradient = CompiledGradient(model)
    for frames in frames_of_all_sizes():
        batch = batch_of(model, *frames)
        assert_agree(model, gradient, [batch])
        evaluated = predict(model, batch, gradient=gradient)
        torch.testing.assert_close(evaluated["forces"], predict(model, batch)["forces"], rtol=0, atol=1e-9)
        assert not evaluated["forces"].requires_grad
    assert counted.frame_count == 1


@pytest.mark.slow
@pytest.mark.parametrize("choice", ["clebsch_gordan", "gaunt_mix", "vector_gaunt", "matrix", "cg_pseudo_edge_cg_node"])
def test_one_compilation_for_all_batches_of_every_family(choice, counted):
    model = tiny(choice)
    gradient = CompiledGradient(model)
    for frames in frames_of_all_sizes():
        assert_agree(model, gradient, [batch_of(model, *frames)])
    assert counted.frame_count == 1


def test_eager_gradient_without_edges():
    model = tiny()
    energy, gradient = edge_gradient(
        model, torch.zeros(0, 3).double(), torch.tensor([0, 2]), torch.zeros(2, 0, dtype=torch.int64), False
    )
    assert energy.abs().max() < 1e-12
    assert gradient.shape == (0, 3)


def test_a_failure_to_compile_is_named(monkeypatch):
    def fail(*args, **kwargs):
        raise RuntimeError("no compiler here")

    monkeypatch.setattr(compiled, "trace_gradient", lambda model, training: None)
    monkeypatch.setattr(torch, "compile", fail)
    model = tiny()
    with pytest.raises(CompileError, match="RuntimeError: no compiler here"):
        predict(model, graph(molecule(), model), gradient=CompiledGradient(model))


def test_what_the_machines_compiler_said_is_quoted():
    said = "CppCompileError: C++ compile error\n\nCommand:\ng++ a.cpp\n\nOutput:\n\nno space left on device\nmore\n"
    assert reason_of(RuntimeError(said)) == "RuntimeError: CppCompileError: C++ compile error: no space left on device"
    assert reason_of(ValueError()) == "ValueError"


def test_compiled_code_is_kept_per_processor(monkeypatch, tmp_path):
    # Set by monkeypatch first, so that what the function sets is taken back.
    monkeypatch.setenv(code_cache.VARIABLE, "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    ours = code_cache.keep_compiled_code()
    assert ours.is_dir() and ours.parent == tmp_path / "mace_gaunt" / "inductor"
    assert os.environ[code_cache.VARIABLE] == str(ours)
    monkeypatch.setenv(code_cache.VARIABLE, "")
    monkeypatch.setattr(code_cache, "processor", lambda: "another one")
    assert code_cache.keep_compiled_code().parent == ours.parent
    assert os.environ[code_cache.VARIABLE] != str(ours)


def test_the_users_folder_for_compiled_code_stays(monkeypatch, tmp_path):
    monkeypatch.setenv(code_cache.VARIABLE, str(tmp_path))
    assert code_cache.keep_compiled_code() is None
    assert os.environ[code_cache.VARIABLE] == str(tmp_path)


def test_compiled_code_that_cannot_be_kept_is_told(monkeypatch, tmp_path, caplog):
    (tmp_path / "file").touch()
    monkeypatch.setenv(code_cache.VARIABLE, "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert code_cache.keep_compiled_code() is None
    assert "compiled code cannot be kept" in caplog.text
    assert os.environ[code_cache.VARIABLE] == ""
