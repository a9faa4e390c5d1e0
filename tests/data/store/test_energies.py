"""What the energies of a store refer to."""

import numpy as np
import pytest
from slabs import make_slab

from mace_gaunt.data.store.energies import (
    check_values,
    common_reference,
    fit_of,
    read_linear_reference,
    record_energies,
    told_reference,
)
from mace_gaunt.data.store.linear_sums import MAX_NUMBER
from mace_gaunt.errors import UserError


@pytest.mark.parametrize(
    ("told", "asked", "expected"),
    [
        ([], None, "total"),
        ([None, None], None, "total"),
        (["total", None], None, "total"),
        (["adsorption"], None, "adsorption"),
        (["total"], "adsorption", "adsorption"),
        (["total", "adsorption"], "adsorption", "adsorption"),
        ([None], "linear", "linear"),
    ],
)
def test_common_reference(told, asked, expected):
    assert common_reference(told, asked) == expected


@pytest.mark.parametrize(
    ("told", "asked", "message"),
    [
        (["total", "adsorption"], None, "mix total and adsorption"),
        (["adsorption"], "total", "needs total energies"),
        (["total", "adsorption"], "linear", "needs total energies"),
        ([], "adsorbtion", "Did you mean 'adsorption'"),
    ],
)
def test_no_common_reference(told, asked, message):
    with pytest.raises(UserError, match=message):
        common_reference(told, asked)


@pytest.mark.parametrize(
    ("info", "reference", "expected"),
    [
        ({}, "total", (-100.0, np.nan)),
        ({"reference_energy": -98.0}, "total", (-100.0, np.nan)),
        ({"reference_energy": -98.0, "energy_reference": "total"}, "adsorption", (-2.0, np.nan)),
        ({"reference_energy": -98.0, "relaxed_energy": -101.0}, "adsorption", (-2.0, -3.0)),
        ({"reference_energy": -98.0, "energy_reference": "adsorption"}, "adsorption", (-100.0, np.nan)),
        ({}, "adsorption", (-100.0, np.nan)),
        ({"relaxed_energy": -101.0}, "linear", (-100.0, -101.0)),
    ],
)
def test_energies_of_a_record(info, reference, expected):
    found = record_energies(make_slab(0, **info), -100.0, reference)
    assert (found.energy, found.relaxed) == pytest.approx(expected, nan_ok=True)
    assert found.reference == pytest.approx(info.get("reference_energy", np.nan), nan_ok=True)


@pytest.mark.parametrize(
    ("info", "reference", "message"),
    [
        ({"energy_reference": "total"}, "adsorption", "no reference_energy"),
        ({"energy_reference": "adsorption"}, "total", "adsorption energy"),
        ({"energy_reference": "adsorption"}, "linear", "adsorption energy"),
        ({"energy_reference": "gas"}, "total", "expected total or adsorption"),
        ({"reference_energy": np.nan}, "adsorption", "reference_energy is nan"),
        ({"relaxed_energy": "low"}, "total", "relaxed_energy is 'low'"),
    ],
)
def test_records_that_do_not_fit(info, reference, message):
    with pytest.raises(UserError, match=message):
        record_energies(make_slab(0, **info), -100.0, reference)


def test_records_without_energies_fit_everywhere():
    """Test splits have no labels."""
    for told in ("total", "adsorption"):
        for reference in ("total", "adsorption", "linear"):
            assert np.isnan(record_energies(make_slab(0, energy_reference=told), np.nan, reference).energy)
    assert told_reference(make_slab(0)) is None


def counts_of(*numbers: int) -> np.ndarray:
    return np.bincount(numbers, minlength=MAX_NUMBER)[None]


def test_values_that_contradict_the_reference():
    counts = np.repeat(counts_of(29, 29, 8), 3, axis=0)
    check_values(np.array([-300.0, -2.0, 3.0]), counts, "adsorption", None)
    check_values(np.array([-300.0, -310.0, np.nan]), counts, "total", None)
    check_values(np.full(3, np.nan), counts, "adsorption", None)
    with pytest.raises(UserError, match="no adsorption energies"):
        check_values(np.array([-300.0, -310.0, np.nan]), counts, "adsorption", None)
    linear = {29: -4.0, 8: -5.0}
    check_values(np.array([-12.5, -13.5, -14.0]), counts, "linear", linear)
    with pytest.raises(UserError, match="does not belong to these energies"):
        check_values(np.array([-1000.0, -1001.0, -1002.0]), counts, "linear", linear)
    with pytest.raises(UserError, match="no usable energy for Cu"):
        check_values(np.array([-13.0, -13.0, -13.0]), counts, "linear", {8: -5.0})


def test_linear_reference_of_a_file(tmp_path):
    coefficients = np.zeros(100)
    coefficients[[1, 2, 29, 47]] = [-3.39, 4.9e11, -4.89, np.nan]
    np.savez(tmp_path / "fit.npz", coeff=coefficients)
    assert read_linear_reference(tmp_path / "fit.npz") == {1: -3.39, 29: -4.89}
    assert fit_of({1: -3.39, 29: -4.89}, [29]) == [-4.89]
    np.savez(tmp_path / "other.npz", coeff=np.zeros((2, 2)))
    np.savez(tmp_path / "none.npz", x=np.zeros(2))
    (tmp_path / "text.npz").write_text("no zip")
    np.savez(tmp_path / "pickled.npz", coeff=np.array([{}], dtype=object))
    for name, message in [
        ("other.npz", "shape"),
        ("none.npz", "coeff"),
        ("text.npz", "cannot be read"),
        ("pickled.npz", "cannot be read"),
        ("missing.npz", "cannot be read"),
    ]:
        with pytest.raises(UserError, match=message):
            read_linear_reference(tmp_path / name)
