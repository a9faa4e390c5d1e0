"""Published OC20 numbers."""

import json

import pytest

from mace_gaunt.evaluation.oc20_metrics import OC20Metrics
from mace_gaunt.evaluation.published_oc20 import published_s2ef, s2ef_sources


def normal(name):
    """A method's name without the words in which the two tables differ."""
    return name.replace(", L=", " L").replace("Gaunt-Selfmix", "Gaunt Selfmix")


def test_rows_have_our_names_and_units_and_are_sorted():
    rows = published_s2ef()
    assert [row["forces_mae_eV_A"] for row in rows] == sorted(row["forces_mae_eV_A"] for row in rows)
    assert set(rows[0]) == {"split", "energy_mae_eV", "forces_mae_eV_A", "forces_cosine", "efwt_percent"}
    assert all(name in OC20Metrics.compute.__doc__ for name in set(rows[0]) - {"split"})
    assert any("2401.10216" in line for line in s2ef_sources())
    assert any("four validation splits" in line and "2M" in line for line in s2ef_sources())


def test_the_transcription_equals_its_source(shared_data):
    table = json.loads((shared_data / "reference_numbers" / "oc20_s2ef_2M_table.json").read_text())["models"]
    expected = {normal(name): [e / 1000, f / 1000, cos, within] for name, (e, f, cos, within) in table.items()}
    found = {normal(row["split"]): list(row.values())[1:] for row in published_s2ef()}
    assert found.keys() == expected.keys()
    for name, row in found.items():
        assert row == pytest.approx(expected[name], rel=1e-12)
