"""The bars, read from tables made by hand, and from the committed one."""

import csv
import dataclasses
from pathlib import Path

import pytest

from mace_gaunt.benchmark.bars import (
    EDGE_CELL,
    FEATURE_CELL,
    Bar,
    auto_ratios,
    choice_ratios,
    fit_slope,
    read_bars,
    write_bars,
)
from mace_gaunt.benchmark.results import Row, read_rows

COMMITTED = Path(__file__).resolve().parents[2] / "docs" / "results" / "tensor_product"


def row(name, ms, pass_name="forward", cell=FEATURE_CELL, **values):
    family, kernel = name.split("/")
    return Row(*cell, False, family, kernel, pass_name=pass_name, median_ms=ms, **values)


def of_degree(degree):
    return (*FEATURE_CELL[:2], degree, *FEATURE_CELL[3:])


def find(bars, what, pass_name):
    (bar,) = [bar for bar in bars if bar.what.startswith(what) and bar.pass_name == pass_name]
    return bar


def test_ratios_meet_their_bars_or_not():
    table = [
        row("gaunt/fourier", 10.0),
        row("gaunt/grid", 2.0),
        row("rfft2/convolution", 4.0),
        row("e3nn/TensorProduct", 6.0),
    ]
    table += [
        row("gaunt/auto", 10.0, "double_backward", EDGE_CELL),
        row("e3nn/TensorProduct", 49.0, "double_backward", EDGE_CELL),
    ]
    bars = read_bars(table)
    assert find(bars, "gaunt/fourier : rfft2", "forward").met == "no"
    assert find(bars, "gaunt/fourier : rfft2", "forward").measured == "2.50 (10 : 4 ms)"
    assert find(bars, "gaunt/fourier : gaunt/grid", "forward") == Bar(
        "gaunt/fourier : gaunt/grid, feature mimo L=3 batch 10000 x 1", "forward", "", "5.00 (10 : 2 ms)", ""
    )
    assert find(bars, "e3nn/TensorProduct : gaunt/grid", "forward").met == "yes"
    assert find(bars, "e3nn/TensorProduct : gaunt/grid", "double_backward").met == "not measured"
    assert find(bars, "e3nn/TensorProduct : gaunt/auto", "double_backward").met == "no"


def test_auto_is_compared_with_what_it_could_have_chosen():
    table = [
        row("gaunt/auto", 1.2, chosen="grid"),
        row("gaunt/grid", 1.1),
        row("gaunt/fourier", 1.0),
        row("gaunt/e3nn", 0.1, reference=True),
        row("gaunt/fourier", 0.5, "double_backward"),
        # No choice, and too fast to matter.
        row("matrix/auto", 9.0, chosen="matmul"),
        row("matrix/matmul", 1.0),
        *(row(f"vector_gaunt/{kernel}", ms) for kernel, ms in (("auto", 0.4), ("poisson", 0.1), ("vsh", 0.3))),
    ]
    assert {found.name: ratio for found, ratio in auto_ratios(table).items()} == {"gaunt/auto": 1.2}
    assert {found.name: ratio for found, ratio in choice_ratios(table).items()} == {"gaunt/auto": 1.1}
    bars = read_bars(table)
    mean, worst = (
        find(bars, f"auto : best kernel, cells above 0.2 ms, {kind}", "all") for kind in ("geometric", "worst")
    )
    assert (mean.measured, mean.met) == ("1.200 (1 cells)", "no")
    assert worst.met == "yes"
    assert "gaunt chose grid" in worst.measured


@pytest.mark.parametrize(("power", "met"), [(2.9, "yes"), (3.1, "no")])
def test_growth_is_the_exponent_of_l(power, met):
    table = [row("gaunt/grid", 0.1 * degree**power, cell=of_degree(degree)) for degree in (1, 2, 4, 8, 10)]
    # Degree 1 is not counted.
    table[0] = dataclasses.replace(table[0], median_ms=50.0)
    bar = find(read_bars(table), "exponent of L, gaunt/grid", "forward")
    assert bar.measured.startswith(f"{power:.2f} ({5**power:.0f} times from L=2")
    assert bar.measured.endswith("L^3 gives 125)")
    assert bar.met == met
    assert find(read_bars(table), "exponent of L, gaunt/auto", "forward").met == "not measured"


def test_slope_of_a_line():
    assert fit_slope([0.0, 1.0, 3.0], [1.0, 3.0, 7.0]) == pytest.approx(2.0)


def test_an_empty_table_meets_nothing(tmp_path):
    bars = read_bars([])
    assert {bar.met for bar in bars if bar.bar} == {"not measured"}
    write_bars(tmp_path / "bars.csv", bars)
    assert len((tmp_path / "bars.csv").read_text().splitlines()) == len(bars) + 1


@pytest.mark.parametrize("preset", ["bars", "full"])
def test_the_committed_bars_are_those_of_the_committed_table(preset):
    with (COMMITTED / preset / "bars.csv").open(newline="") as file:
        committed = [Bar(**entry) for entry in csv.DictReader(file)]
    assert read_bars(read_rows(COMMITTED / preset / "results.csv")) == committed
