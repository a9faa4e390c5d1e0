"""Compiled energies and forces in the calculator; all but one test run the traced graph without the compiler."""

import numpy as np
import pytest
import torch
from small_models import build, crystal, molecule

from mace_gaunt.errors import UserError
from mace_gaunt.model import compiled
from mace_gaunt.model.gradients import edge_gradient
from mace_gaunt.simulation.calculator import MaceGauntCalculator


@pytest.fixture
def traced_only(monkeypatch):
    """Counts what would be compiled."""
    graphs = []
    monkeypatch.setattr(torch, "compile", lambda graph, **options: graphs.append(graph) or graph)
    return graphs


def compare(model):
    eager, fast = MaceGauntCalculator(model, device="cpu"), MaceGauntCalculator(model, device="cpu", compile=True)
    for atoms in (molecule(), crystal(), molecule(2)):
        for property in ("energy", "forces", "stress") if atoms.pbc.all() else ("energy", "forces"):
            expected = eager.get_property(property, atoms)
            np.testing.assert_allclose(fast.get_property(property, atoms), expected, atol=1e-9, rtol=1e-9)
    return eager, fast


@pytest.mark.parametrize(
    "choice", ["gaunt", *(pytest.param(name, marks=pytest.mark.slow) for name in ("clebsch_gordan", "vector_gaunt"))]
)
def test_the_traced_graph_serves_all_structures(choice, traced_only):
    eager, fast = compare(build(choice, zbl=True))
    assert len(traced_only) == 1
    frames = [molecule(), crystal()]
    for one, other in zip(fast.evaluate(frames), eager.evaluate(frames), strict=True):
        np.testing.assert_allclose(one["forces"], other["forces"], atol=1e-9)


@pytest.mark.slow
def test_compiled_equals_eager():
    compare(build("gaunt", zbl=True))


def test_single_atoms_stay_eager(traced_only):
    atoms = molecule()[:1]
    model = build("gaunt")
    calculator = MaceGauntCalculator(model, device="cpu", compile=True)
    expected = float(model.E0s[model.atomic_numbers.index(atoms.numbers[0])])
    assert calculator.get_potential_energy(atoms) == pytest.approx(expected, abs=1e-9)
    assert traced_only == []


@pytest.fixture
def without_trace(monkeypatch):
    """The eager model in the place of the graph: tracing takes ten seconds."""

    def eager(model, training):
        return lambda parameters, *inputs: edge_gradient(model, *inputs, training)

    monkeypatch.setattr(compiled, "trace_gradient", eager)


def test_a_disagreement_is_refused(monkeypatch, without_trace):
    def wrong(graph, **options):
        return lambda *inputs: tuple(1.01 * value for value in graph(*inputs))

    monkeypatch.setattr(torch, "compile", wrong)
    calculator = MaceGauntCalculator(build("gaunt"), device="cpu", compile=True)
    with pytest.raises(UserError, match=r"compiled and eager interaction_energy differ by 1.0e-02.*compile=False"):
        calculator.get_potential_energy(molecule())


def test_a_failure_is_named(monkeypatch, without_trace):
    def fail(graph, **options):
        raise RuntimeError("no compiler here")

    monkeypatch.setattr(torch, "compile", fail)
    calculator = MaceGauntCalculator(build("gaunt"), device="cpu", compile=True)
    with pytest.raises(UserError, match="cannot be compiled: RuntimeError: no compiler here"):
        calculator.get_potential_energy(molecule())
