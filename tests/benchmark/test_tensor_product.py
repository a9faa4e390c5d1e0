"""A tiny run: every family and kernel of every operation, checked to agree and written down."""

import dataclasses
import math

import pytest
import torch

from mace_gaunt.benchmark import candidates, tensor_product
from mace_gaunt.benchmark.agreement import DISAGREES
from mace_gaunt.benchmark.building import attempt, find_wrong, list_names, make
from mace_gaunt.benchmark.candidates import AUTO, classes
from mace_gaunt.benchmark.cells import Cell, list_cells
from mace_gaunt.benchmark.passes import prepare
from mace_gaunt.benchmark.references import REFERENCES
from mace_gaunt.benchmark.results import COLUMNS, Row, read_rows, write_rows
from mace_gaunt.benchmark.settings import PASSES, Plan, ProductSettings
from mace_gaunt.benchmark.tensor_product import TooSlow, time_cell, time_cells
from mace_gaunt.tensor_products import selection
from mace_gaunt.tensor_products.kernels.gaunt_grid import GridFeatureKernel

PLANS = {
    "feature": Plan("feature", (2,), (12,), (2,), regimes=("mimo",)),
    "edge": Plan("edge", (1,), (20,), (2,)),
    "node": Plan("node", (1,), (6,), (2,)),
}


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    torch.set_num_threads(1)
    monkeypatch.setattr(selection, "SECONDS_PER_PRODUCT", 0.0)


def settings(*plans, **values):
    return ProductSettings(plans=plans, out="x", **{"seconds": 1e-4, "max_ell": 2, "correlation": 2, **values})


def only_cell(plan, **values):
    (cell,) = list_cells(plan, settings(plan, **values))
    return cell


@pytest.mark.parametrize("operation", PLANS)
def test_a_tiny_run_has_every_candidate_in_every_pass(operation):
    request = settings(PLANS[operation])
    ((_, rows),) = time_cells(request)
    skipped = [(row.family, row.kernel) for row in rows if row.skipped]
    # Kernels that need another library or device may be missing here.
    assert not set(skipped) & {("gaunt", "grid"), ("gaunt", "fourier"), ("clebsch_gordan", "dense"), *REFERENCES}
    assert not any(row.skipped.startswith(DISAGREES) or row.kernel == AUTO for row in rows if row.skipped)
    rows = [row for row in rows if not row.skipped]
    names = [name for name in list_names(operation, PLANS[operation], request) if name not in skipped]
    autos = [(family, AUTO) for family in classes(operation)]
    assert {(row.family, row.kernel, row.pass_name) for row in rows} == {
        (*name, pass_name) for name in names + autos for pass_name in PASSES
    }
    for row in rows:
        assert row.ms > 0
        assert row.q1_ms <= row.median_ms <= row.q3_ms
        assert row.peak_MB > 0
        assert row.samples >= 3
        assert bool(row.chosen) == (row.kernel == AUTO)
    by_name = {row.name: row for row in rows if row.pass_name == "forward"}
    assert by_name["gaunt/auto"].chosen in classes(operation)["gaunt"].KERNELS
    if operation == "feature":
        assert by_name["rfft2/convolution"].us_per_irrep is None
        # Degrees 0..4 of two channels; 14 paths, all of which the Linears tell apart.
        assert by_name["gaunt/grid"].output_irreps == 10
        assert by_name["clebsch_gordan/dense"].output_irreps == 28
        assert by_name["clebsch_gordan/dense"].free_weights == 28
        assert by_name["gaunt/grid"].free_weights == 18
        row = by_name["e3nn/TensorProduct"]
        assert (row.output_irreps, row.reference) == (28, True)
        assert row.us_per_irrep == pytest.approx(row.median_ms * 1e3 / 28)


def test_a_wrong_kernel_is_caught_and_not_timed(monkeypatch):
    class Wrong(GridFeatureKernel):
        def forward(self, x, y):
            return super().forward(x, y) * 1.01

    found = classes("feature")["gaunt"]
    monkeypatch.setattr(found, "KERNELS", {"grid": GridFeatureKernel, "wrong": Wrong})
    plan = dataclasses.replace(PLANS["feature"], families=("gaunt",), passes=("forward",))
    rows = {row.name: row for row in time_cell(only_cell(plan), plan, settings(plan), TooSlow(1.0))}
    assert rows["gaunt/wrong"].skipped.startswith(f"{DISAGREES}'grid': values differ by 1.0e-02")
    assert rows["gaunt/wrong"].median_ms is None
    assert "differ" in rows["gaunt/auto"].skipped
    assert rows["gaunt/grid"].ms > 0


def test_a_wrong_second_derivative_is_caught(monkeypatch):
    class Cut(GridFeatureKernel):
        def forward(self, x, y):
            exact = super().forward(x, y)
            # Adds nothing to value and first derivative.
            return exact + (y - y.detach()).square().sum() * torch.ones_like(exact)

    found = classes("feature")["gaunt"]
    monkeypatch.setattr(found, "KERNELS", {"grid": GridFeatureKernel, "cut": Cut})
    cell = only_cell(PLANS["feature"])
    built = {("gaunt", kernel): make(("gaunt", kernel), cell) for kernel in found.KERNELS}
    wrong = find_wrong(built, cell)
    assert list(wrong) == [("gaunt", "cut")]
    assert "second derivatives" in wrong["gaunt", "cut"]
    assert "values" not in wrong["gaunt", "cut"]


def test_a_kernel_that_fails_is_skipped_with_its_reason(monkeypatch):
    class Missing:
        def __init__(self, *arguments):
            raise ImportError("pip install something")

    class Failing(GridFeatureKernel):
        def forward(self, x, y):
            if x.requires_grad and torch.is_grad_enabled() and x.shape[0] == 12 and x.dtype == torch.float32:
                raise RuntimeError("no memory\nat all")
            return super().forward(x, y)

    found = classes("feature")["gaunt"]
    kernels = {"grid": GridFeatureKernel, "external": Missing, "failing": Failing}
    monkeypatch.setattr(found, "KERNELS", kernels)
    monkeypatch.setattr(tensor_product, "find_wrong", lambda built, cell: {})
    plan = dataclasses.replace(PLANS["feature"], families=("gaunt",))
    rows = time_cell(only_cell(plan), plan, settings(plan, kernels=tuple(kernels)), TooSlow(1.0))
    skipped = {(row.name, row.pass_name): row.skipped for row in rows if row.skipped}
    assert skipped["gaunt/external", ""] == "pip install something"
    assert skipped["gaunt/failing", "double_backward"] == "RuntimeError: no memory"
    assert ("gaunt/failing", "forward") not in skipped


def test_degrees_beyond_what_is_bearable_are_left_out():
    cell = only_cell(PLANS["feature"])
    larger = dataclasses.replace(cell, degree=3)
    too_slow = TooSlow(longest=0.5)
    too_slow.note(cell, ("gaunt", "grid"), "forward", 0.6)
    assert too_slow.reason(cell, ("gaunt", "grid"), "forward") == ""
    assert too_slow.reason(larger, ("gaunt", "grid"), "forward").startswith("took 0.6 s at L=2")
    assert too_slow.reason(larger, ("gaunt", "grid"), "double_backward") == ""
    assert too_slow.reason(dataclasses.replace(larger, channels=7), ("gaunt", "grid"), "forward") == ""


def test_auto_does_not_measure_what_is_too_slow():
    plan = dataclasses.replace(PLANS["feature"], families=("gaunt",), passes=("forward",))
    cell = only_cell(plan)
    too_slow = TooSlow(longest=0.5)
    smaller = dataclasses.replace(cell, degree=1)
    too_slow.note(smaller, ("gaunt", "fourier"), "forward", 0.6)
    rows = {row.name: row for row in time_cell(cell, plan, settings(plan), too_slow)}
    assert rows["gaunt/fourier"].skipped.startswith("took")
    assert rows["gaunt/auto"].ms > 0
    too_slow.note(smaller, ("gaunt", "fourier"), "forward", 6.0)
    rows = {row.name: row for row in time_cell(cell, plan, settings(plan), too_slow)}
    assert "too slow" in rows["gaunt/auto"].skipped
    assert rows["gaunt/grid"].ms > 0


def test_a_family_that_cannot_carry_the_degrees_gives_its_reason():
    plan = Plan("feature", (1,), (12,), (1,), regimes=("siso",), passes=("forward",))
    rows = {row.name: row for row in time_cell(only_cell(plan), plan, settings(plan), TooSlow(1.0))}
    assert "even l1 + l2 + l3" in rows["gaunt/grid"].skipped
    assert rows["vector_gaunt/poisson"].output_irreps == rows["clebsch_gordan/dense"].output_irreps == 1


@pytest.mark.parametrize("operation", PLANS)
def test_passes_compute_derivatives(operation):
    cell = only_cell(PLANS[operation], dtype="float64")
    first = next(iter(classes(operation)["gaunt"].KERNELS))
    made = make(("gaunt", first), cell)
    gradients = prepare(made, "forward_backward")()
    assert [gradient.shape for gradient in gradients] == [leaf.shape for leaf in made.leaves]
    # The gradient of F^2 / 2 with respect to the inputs is the Hessian of E times F.
    inputs = made.inputs.leaves
    second = prepare(made, "double_backward")()[: len(inputs)]

    def energy_gradients(leaves):
        leaves = [leaf.detach().requires_grad_() for leaf in leaves]
        return torch.autograd.grad(0.5 * made.compute(*leaves).square().sum(), leaves)

    forces = energy_gradients(inputs)
    step = 1e-5 / float(sum(force.square().sum() for force in forces)) ** 0.5
    ahead, behind = (
        energy_gradients([leaf + sign * step * force for leaf, force in zip(inputs, forces, strict=True)])
        for sign in (1, -1)
    )
    for found, plus, minus in zip(second, ahead, behind, strict=True):
        expected = (plus - minus) / (2 * step)
        torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6 * float(expected.abs().max()))


def test_inputs_do_not_depend_on_kernel_or_precision():
    cells = [only_cell(PLANS["edge"], dtype=dtype) for dtype in ("float32", "float64")]
    inputs = [make(("gaunt", kernel), cell).inputs.leaves for cell in cells for kernel in ("grid", "fourier")]
    for others in inputs[1:]:
        for one, other in zip(inputs[0], others, strict=True):
            torch.testing.assert_close(one.double(), other.double(), rtol=1e-5, atol=1e-5)


def test_rows_come_back_from_their_file(tmp_path):
    row = Row("feature", "mimo", 2, 12, 1, False, "gaunt", "grid", pass_name="forward", median_ms=0.125, samples=5)
    skipped = Row("edge", "", 0, 20, 2, True, "e3nn", "TensorProduct", reference=True, skipped="too many, paths")
    write_rows(tmp_path / "results.csv", [row])
    write_rows(tmp_path / "results.csv", [skipped])
    assert read_rows(tmp_path / "results.csv") == [row, skipped]
    assert (tmp_path / "results.csv").read_text().splitlines()[0] == ",".join(COLUMNS)


def test_failures_become_reasons():
    assert attempt(math.sqrt, 4.0) == 2.0
    assert attempt(math.sqrt, -1.0).endswith("domain error") or "nonnegative" in attempt(math.sqrt, -1.0)
    assert attempt({}.__getitem__, "a") == "KeyError: 'a'"
    assert "no kernel 'dens'" in attempt(candidates.build, classes("node")["clebsch_gordan"], "dens", CELL)


CELL = Cell("node", "", 1, (1, 1, 2), 6, 2, False, "float32", "cpu", 0)
