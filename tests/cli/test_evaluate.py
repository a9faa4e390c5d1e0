"""`mace-gaunt evaluate`: when it compiles, and that this changes no figure."""

import functools
import shutil

import pytest

from mace_gaunt.cli import evaluate
from mace_gaunt.model import compiled
from mace_gaunt.model.gradients import edge_gradient
from mace_gaunt.training import compilation


@pytest.fixture
def compilations(monkeypatch):
    """Batches that models were compiled on; the eager model stands in for what the compiler makes."""
    batches = []

    def compile_inference(model, batch):
        batches.append(batch)
        return functools.partial(edge_gradient, model)

    monkeypatch.setattr(compiled, "compile_inference", compile_inference)
    monkeypatch.setattr(compilation, "missing_compiler", lambda: False)
    return batches


@pytest.fixture
def evaluated(trained, data_file, command, tmp_path):
    """evaluated(words): the errors, standard output and standard error."""

    def run(*words):
        status, out, err = command("evaluate", f"model={trained}", f"test_file={data_file}", "out=report", *words)
        assert status == 0, err
        figures = (tmp_path / "report" / "metrics.csv").read_text()
        shutil.rmtree(tmp_path / "report")
        return figures, out, err

    return run


def test_short_work_is_not_compiled_but_on_request(evaluated, compilations):
    figures, out, err = evaluated()
    assert compilations == [] and "compiling" not in out
    assert "evaluate 14/14 structures" in err and "structures/s" in err
    assert evaluated("compile=off")[0] == figures and compilations == []
    found, out, _ = evaluated("compile=on", "max_edges_per_batch=300")
    assert found == figures and len(compilations) == 1 and "compiling energies and forces" in out
    assert compilations[0].num_edges > 2


def test_long_work_is_compiled(evaluated, compilations, monkeypatch):
    monkeypatch.setattr(evaluate, "LONG_RUN", 0.0)
    evaluated()
    assert len(compilations) == 1


def test_without_a_compiler(evaluated, compilations, monkeypatch):
    monkeypatch.setattr(evaluate, "LONG_RUN", 0.0)
    monkeypatch.setattr(compilation, "missing_compiler", lambda: True)
    evaluated()
    assert compilations == []


def test_failures_stop_only_what_was_asked_for(evaluated, trained, data_file, refused, monkeypatch):
    def fail(model, batch):
        raise compiled.CompileError("no such luck")

    monkeypatch.setattr(compiled, "compile_inference", fail)
    monkeypatch.setattr(compilation, "missing_compiler", lambda: False)
    monkeypatch.setattr(evaluate, "LONG_RUN", 0.0)
    assert "warning: compile=auto: not compiled: no such luck" in evaluated()[2]
    words = ["evaluate", f"model={trained}", f"test_file={data_file}", "out=other"]
    assert "no such luck. Evaluate with compile=off" in refused(*words, "compile=on")
    assert "compile='maybe' does not exist" in refused(*words, "compile=maybe")
    assert "max_edges_per_batch is at least 1" in refused(*words, "max_edges_per_batch=0")
