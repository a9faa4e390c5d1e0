"""The instrument over all families: who carries which degrees, and what is written."""

import csv

import pytest
import torch

from mace_gaunt.benchmark.expressivity import examine, write_tables
from mace_gaunt.benchmark.settings import ExpressivitySettings
from mace_gaunt.tensor_products import selection


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    torch.set_num_threads(1)
    monkeypatch.setattr(selection, "SECONDS_PER_PRODUCT", 0.0)


def test_every_family_is_examined(tmp_path):
    reaches, couplings = examine(
        ExpressivitySettings("x", degrees_x=(0, 1), degrees_y=(0, 1), degrees_out=(0, 1), rows=20, seconds=1e-4)
    )
    by_name = {reach.family: reach for reach in reaches}
    assert {name: (reach.dimension, reach.available) for name, reach in by_name.items()} == {
        "gaunt": (4, 4),
        "gaunt_mix": (4, 4),
        "clebsch_gordan": (4, 4),
        "clebsch_gordan pseudo": (5, 5),
        "vector_gaunt": (5, 5),
        "matrix": (5, 5),
    }
    assert couplings.keys() == by_name.keys()
    for reach in reaches:
        assert reach.us_per_dimension == pytest.approx(reach.median_ms * 1e3 / reach.dimension)
    # Natural 0 and 1, and the pseudovector of two vectors.
    assert (by_name["gaunt"].output_irreps, by_name["vector_gaunt"].output_irreps) == (2, 3)
    write_tables(tmp_path, reaches, couplings)
    with (tmp_path / "interactability.csv").open(newline="") as file:
        table = {(entry["family"], entry["l1"], entry["l2"], entry["l3"]): entry for entry in csv.DictReader(file)}
    assert table["vector_gaunt", "1", "1", "1"]["sum"] == "odd"
    assert float(table["vector_gaunt", "1", "1", "1"]["strength"]) == 1.0
    assert float(table["gaunt", "1", "1", "1"]["strength"]) == 0.0


def test_who_cannot_carry_the_degrees_says_why():
    reaches, couplings = examine(
        ExpressivitySettings("x", degrees_x=(1,), degrees_y=(1,), degrees_out=(1,), rows=20, seconds=1e-4)
    )
    reasons = {reach.family: reach.skipped for reach in reaches}
    assert {name for name, reason in reasons.items() if not reason} == set(couplings)
    assert set(couplings) == {"clebsch_gordan pseudo", "vector_gaunt", "matrix"}
    assert "does not reach degree 1" in reasons["gaunt"]
