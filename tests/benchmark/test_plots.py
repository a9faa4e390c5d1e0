"""Plots are drawn from a table, small enough to be committed."""

import dataclasses

import pytest
from matplotlib.image import imread

from mace_gaunt.benchmark.expressivity import plot_couplings
from mace_gaunt.benchmark.figures import style
from mace_gaunt.benchmark.plots import FAMILY_ORDER, plot_all
from mace_gaunt.benchmark.results import Row
from mace_gaunt.tensor_products.expressivity import Coupling


def table(operation, regime, degrees):
    kernels = {"gaunt": ("grid", "fourier"), "clebsch_gordan": ("dense",), "e3nn": ("TensorProduct",)}
    rows = []
    for degree in degrees:
        for index, (family, names) in enumerate(kernels.items()):
            for kernel in names:
                ms = 0.1 * (degree + 1) ** (3 + index)
                rows.append(
                    Row(operation, regime, degree, 100, 4, False, family, kernel, pass_name="forward", median_ms=ms,
                        us_per_irrep=ms, us_per_weight=ms / 2)
                )  # fmt: skip
        rows.append(dataclasses.replace(rows[-4], kernel="auto", chosen="grid"))
    return rows


@pytest.mark.parametrize(
    ("operation", "regime", "degrees", "files"),
    [
        (
            "feature",
            "mimo",
            (1, 2, 3, 4, 5),
            ["feature_100x4.png", "feature_100x4_useful.png", "feature_100x4_growth.png"],
        ),
        ("feature", "siso", (2, 4), ["feature_100x4.png", "feature_100x4_useful.png"]),
        ("edge", "", (0, 1), ["edge_100x4.png"]),
        ("node", "", (2,), []),
    ],
)
def test_what_varies_is_drawn(operation, regime, degrees, files, tmp_path):
    skipped = Row(operation, regime, degrees[0], 100, 4, False, "matrix", "matmul", skipped="why not")
    written = plot_all([*table(operation, regime, degrees), skipped], tmp_path)
    assert [path.name for path in written] == files
    for path in written:
        image = imread(path)
        assert image.shape[0] > 300
        assert image[..., :3].std() > 0.02
        assert path.stat().st_size < 100_000


def test_a_family_has_its_colour_in_every_figure():
    few = style([("e3nn", "TensorProduct")], FAMILY_ORDER)
    many = style([("gaunt", "grid"), ("gaunt", "fourier"), ("e3nn", "TensorProduct")], FAMILY_ORDER)
    assert few["e3nn", "TensorProduct"] == many["e3nn", "TensorProduct"]
    assert many["gaunt", "grid"]["color"] == many["gaunt", "fourier"]["color"] != many["e3nn", "TensorProduct"]["color"]
    assert many["gaunt", "grid"]["linestyle"] != many["gaunt", "fourier"]["linestyle"]


def test_couplings_are_drawn(tmp_path):
    found = [Coupling(1, 1, 0, 1.0, 1.0), Coupling(1, 1, 1, 0.0, 0.0), Coupling(1, 2, 2, 0.5, 1.0)]
    path = plot_couplings({"gaunt": found, "clebsch_gordan pseudo": found[:1]}, tmp_path / "couplings.png")
    assert imread(path)[..., :3].std() > 0.02
