"""The traced and compiled path against the eager one."""

import pytest
import torch
from small_models import build, crystal, graph, molecule
from torch_geometric.data import Batch

from mace_gaunt.model.compiled import CompiledGradient, CompileError, trace_gradient
from mace_gaunt.model.gradients import edge_gradient, predict


def loss_gradients(model, batch, gradient):
    model.zero_grad()
    result = predict(model, batch, training=True, gradient=gradient)
    (result["interaction_energy"].square().sum() + result["forces"].square().sum()).backward()
    return result, [parameter.grad.clone() for parameter in model.parameters() if parameter.grad is not None]


GRID = [(choice, gate) for choice in ("gaunt", "clebsch_gordan") for gate in ("silu", "tanh", "sigmoid", "gelu")]
QUICK = {("gaunt", "tanh"), ("clebsch_gordan", "silu")}


@pytest.mark.parametrize(
    ("choice", "gate"), [pytest.param(*case, marks=[] if case in QUICK else pytest.mark.slow) for case in GRID]
)
def test_the_trace_keeps_every_second_derivative(choice, gate):
    """Values and parameter gradients of the traced graph, before any compiler, for every gate and with ZBL."""
    model = build(choice, gate=gate, zbl=True)
    traced = trace_gradient(model)
    parameters = list(model.parameters())

    def gradient(vectors, node_types, pair_index, training):
        return traced(parameters, vectors, node_types, pair_index)

    for frames in ([molecule()], [crystal(), molecule(2)]):
        batch = Batch.from_data_list([graph(atoms, model) for atoms in frames])
        eager, expected = loss_gradients(model, batch, None)
        result, found = loss_gradients(model, batch, gradient)
        torch.testing.assert_close(result["forces"], eager["forces"], atol=1e-10, rtol=1e-10)
        for ours, theirs in zip(found, expected, strict=True):
            torch.testing.assert_close(ours, theirs, atol=1e-8, rtol=1e-8)


@pytest.mark.slow
@pytest.mark.parametrize("choice", ["gaunt", "clebsch_gordan"])
def test_compiled_equals_eager_for_all_shapes(choice):
    model = build(choice, zbl=True)
    compiled = CompiledGradient(model)
    for frames in ([molecule()], [crystal(), molecule(2)], [molecule()] * 3):
        batch = Batch.from_data_list([graph(atoms, model) for atoms in frames])
        eager, expected = loss_gradients(model, batch, None)
        result, found = loss_gradients(model, batch, compiled)
        torch.testing.assert_close(result["forces"], eager["forces"], atol=1e-9, rtol=1e-9)
        for ours, theirs in zip(found, expected, strict=True):
            torch.testing.assert_close(ours, theirs, atol=1e-7, rtol=1e-7)


def test_a_failure_to_compile_is_named(monkeypatch):
    def fail(*args, **kwargs):
        raise RuntimeError("no compiler here")

    monkeypatch.setattr(torch, "compile", fail)
    model = build("gaunt")
    with pytest.raises(CompileError, match="no compiler here"):
        predict(model, graph(molecule(), model), gradient=CompiledGradient(model))


def test_eager_gradient_without_edges():
    model = build("gaunt")
    energy, gradient = edge_gradient(
        model, torch.zeros(0, 3).double(), torch.tensor([0, 2]), torch.zeros(2, 0, dtype=torch.int64), False
    )
    assert energy.abs().max() < 1e-12
    assert gradient.shape == (0, 3)
