"""`mace-gaunt benchmark`: mistakes, and tiny runs of its instruments inside the process."""

import csv
import json

import pytest
import torch

from mace_gaunt.benchmark.results import COLUMNS
from mace_gaunt.cli import side_by_side
from mace_gaunt.cli.benchmark_run import open_folder
from mace_gaunt.cli.benchmark_tensor_product import PLOTS
from mace_gaunt.tensor_products import selection
from mace_gaunt.tensor_products.gaunt import GauntFeatureProduct
from mace_gaunt.tensor_products.kernels.gaunt_grid import GridFeatureKernel

TINY = [
    *("benchmark", "tensor_product", "out=a", "families=gaunt,clebsch_gordan", "operations=feature", "regimes=mimo"),
    *("degrees=1,2", "rows=10", "passes=forward,double_backward", "threads=1", "seconds=1e-4"),
]
VECTORS = [
    *("benchmark", "expressivity", "out=e", "degrees_x=1", "degrees_y=1", "degrees_out=0..2", "rows=10"),
    *("seconds=1e-4", "threads=1"),
]


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(selection, "SECONDS_PER_PRODUCT", 0.0)


def read(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("", "which instrument?"),
        ("tensor_produkt out=a", "no instrument 'tensor_produkt'. Did you mean 'tensor_product'"),
        ("tensor_product", "out is missing"),
        ("tensor_product out=a degrees", "Keys are written key=value"),
        ("tensor_product out=a --multirun", "has no '--multirun'"),
        ("tensor_product out=a famlies=gaunt", "Did you mean 'families'"),
        ("tensor_product out=a families=gount", "no family 'gount'. Did you mean 'gaunt'"),
        ("tensor_product out=a kernels=gird", "no kernel 'gird'. Did you mean 'grid'"),
        ("tensor_product out=a degrees=x", "degrees=x is not possible"),
        ("tensor_product out=a preset=bars regimes=siso operations=feature", "nothing is left to time"),
        ("expressivity degrees_x=1", "out is missing"),
        ("expressivity out=a degrees_z=1", "no key 'degrees_z' in 'benchmark expressivity'"),
        ("expressivity out=a degrees_x=1 degrees_y=1 degrees_out=3", "no family carries these degrees"),
        ("expressivity out=a families=matrx", "Did you mean 'matrix'"),
    ],
)
def test_mistakes_name_what_is_right(words, message, refused):
    assert message in refused("benchmark", *words.split())


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_device_that_is_not_there(refused):
    assert "no CUDA device" in refused("benchmark", "tensor_product", "out=a", "device=cuda")


def test_a_tiny_run(command, refused, tmp_path):
    status, out, _ = command(*TINY)
    assert status == 0
    rows = read(tmp_path / "a" / "results.csv")
    assert tuple(rows[0]) == COLUMNS
    found = {(row["degree"], row["family"], row["kernel"], row["pass_name"]) for row in rows if not row["skipped"]}
    kernels = {("gaunt", "grid"), ("gaunt", "fourier"), ("gaunt", "auto"), ("clebsch_gordan", "dense")}
    for name in kernels | {("clebsch_gordan", "auto"), ("e3nn", "TensorProduct"), ("rfft2", "convolution")}:
        assert {(degree, *name, passed) for degree in "12" for passed in ("forward", "double_backward")} <= found
    record = json.loads((tmp_path / "a" / "benchmark.json").read_text())
    assert record["command"] == ["mace-gaunt", *TINY]
    assert record["hardware"]["threads"] == 1
    assert record["settings"]["seconds"] == 1e-4
    assert record["versions"]["torch"] == torch.__version__
    assert (tmp_path / "a" / "feature_10x1.png").stat().st_size > 5000
    assert read(tmp_path / "a" / "bars.csv")
    assert "[2/2] feature mimo L=2, 10 rows x 1 channels" in out
    assert "overwrite=true" in refused(*TINY)


def test_overwriting_removes_what_the_last_run_left(command, tmp_path):
    (tmp_path / "a").mkdir()
    for name in ("results.csv", "bars.csv", "feature_9x1_useful.png", "photo.png", "mine.txt"):
        (tmp_path / "a" / name).write_text("old")
    words = [
        *TINY,
        "overwrite=true",
        "degrees=1",
        "passes=forward",
        "kernels=grid",
        "dtype=float64",
        "references=false",
    ]
    status, out, _ = command(*words)
    assert status == 0
    left = ["benchmark.json", "mine.txt", "photo.png", "results.csv"]
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == left
    (row,) = [row for row in read(tmp_path / "a" / "results.csv") if not row["skipped"]]
    assert (row["family"], row["kernel"], row["degree"]) == ("gaunt", "grid", "1")
    assert "bars" not in out


def test_pictures_in_a_folder_without_results_stay(tmp_path):
    """Where no run has been, what the patterns match is the user's own."""
    for name in ("feature_10x1.png", "growth_mine.png", "photo.png"):
        (tmp_path / name).write_text("mine")
    for written in (("results.csv", "bars.csv", *PLOTS), side_by_side.WRITTEN):
        open_folder(str(tmp_path), False, written)
    assert len(list(tmp_path.iterdir())) == 3
    (tmp_path / "benchmark.json").touch()
    open_folder(str(tmp_path), True, ("results.csv", "bars.csv", *PLOTS))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["growth_mine.png", "photo.png"]


def test_a_wrong_kernel_fails_the_run(command, monkeypatch, tmp_path):
    class Wrong(GridFeatureKernel):
        def forward(self, x, y):
            return super().forward(x, y) + 1.0

    monkeypatch.setattr(GauntFeatureProduct, "KERNELS", {"grid": GridFeatureKernel, "wrong": Wrong})
    status, out, _ = command(*TINY, "families=gaunt", "degrees=1", "passes=forward")
    assert status == 1
    assert "skipped gaunt/wrong: disagrees with 'grid'" in out


def test_expressivity_of_vectors(command, refused, tmp_path):
    status, out, _ = command(*VECTORS)
    assert status == 0
    reach = {row["family"]: row for row in read(tmp_path / "e" / "expressivity.csv")}
    assert reach["vector_gaunt"]["dimension"] == "3"
    assert "does not reach degree 1" in reach["gaunt"]["skipped"]
    table = {(row["family"], row["l3"]): row["sum"] for row in read(tmp_path / "e" / "interactability.csv")}
    assert table["matrix", "1"] == "odd"
    assert table["matrix", "2"] == "even"
    assert "1 x 1 -> 1  odd" in out
    assert "dimension 3 of 3" in out
    assert sorted(path.name for path in (tmp_path / "e").iterdir()) == [
        "benchmark.json",
        "expressivity.csv",
        "interactability.csv",
        "interactability.png",
    ]
    assert "overwrite=true" in refused(*VECTORS)
