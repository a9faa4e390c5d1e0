"""Published 3BPA numbers."""

import json

import pytest

from mace_gaunt.evaluation.published import published_rows, sources


@pytest.mark.parametrize(
    ("split", "official"),
    [
        ("test_300K", "test_300K"),
        ("test_300K_dev", "test_300K"),
        ("test_600K_dev[:100]", "test_600K"),
        ("train_mixedT[334:]", "test_1200K"),
        ("test_dih", "test_dih"),
    ],
)
def test_splits_find_the_official_one(split, official):
    rows = published_rows(split)
    assert {row.split for row in rows} == {official}
    assert {"MACE L=2", "MACE-Gaunt"} <= {row.method for row in rows}
    assert [row.forces[0] for row in rows] == sorted(row.forces[0] for row in rows)


@pytest.mark.parametrize("split", ["train_300K", "train_mixedT", "test_dih_beta120", "test", "valid"])
def test_other_splits_have_none(split):
    assert published_rows(split) == []


def test_the_transcription_equals_its_source(shared_data):
    table = json.loads((shared_data / "reference_numbers" / "3bpa_table.json").read_text())["splits"]
    for split, name in (("test_300K",) * 2, ("test_600K",) * 2, ("test_1200K",) * 2, ("test_dih", "dihedral_slices")):
        ours = {row.method.removesuffix(" L=2"): row for row in published_rows(split)}
        for method, numbers in table[name].items():
            assert list(ours[method].energy) == numbers["E"] and list(ours[method].forces) == numbers["F"]
    assert any("2401.10216" in line for line in sources())
