"""The table of labels and the stop when one is missing or misspelt."""

from pathlib import Path

import pytest
from waters import make_water

from mace_gaunt.data.label_table import check_test_labels, count_labels, format_table, near_miss, require
from mace_gaunt.data.labels import LabelKeys
from mace_gaunt.data.readers import Frames
from mace_gaunt.errors import UserError


def frames(*atoms, name="train.xyz"):
    return Frames(name, Path(name), list(atoms), list(range(len(atoms))), "")


def renamed(seed, **names):
    """A water whose labels have other names, in info and arrays."""
    atoms = make_water(seed)
    results, atoms.calc = atoms.calc.results, None
    for quantity, name in names.items():
        (atoms.arrays if quantity == "forces" else atoms.info)[name] = results[quantity]
    return atoms


def test_table_counts_frames_and_places():
    counted = count_labels(
        frames(make_water(0), make_water(1, forces=False), renamed(2, energy="REF_energy")), LabelKeys()
    )
    assert counted.used["energy"] == {"energy (calculator)": 2, "REF_energy (info)": 1}
    assert counted.count("forces") == 1 and counted.count("stress") == 0
    header, line = format_table([counted]).splitlines()
    assert header.split() == ["file", "frames", "energy", "forces", "stress"]
    assert "2 energy (calculator), 1 REF_energy (info)" in line
    assert "1 forces (calculator), 2 without" in line and line.endswith("none")


def test_missing_label_names_the_near_miss_and_what_was_found():
    counted = count_labels(frames(*(renamed(i, energy="energy", forces="dft_force") for i in range(5))), LabelKeys())
    with pytest.raises(UserError) as caught:
        require(counted, LabelKeys(), ("energy", "forces"))
    message = str(caught.value)
    assert "no 'forces' (nor 'REF_forces') in 5/5 frames of train.xyz" in message
    assert "dft_force (5 frames, arrays)" in message and "energy (5 frames, info)" in message
    assert "Did you mean forces_key=dft_force?" in message


@pytest.mark.parametrize(
    ("keys", "quantity", "near"),
    [
        (LabelKeys(forces="REF_force"), "forces", "forces"),
        (LabelKeys(forces="force"), "forces", "forces"),
        (LabelKeys(energy="engery"), "energy", "energy"),
        (LabelKeys(energy="total"), "energy", "energy"),
    ],
)
def test_misspelt_key(keys, quantity, near):
    counted = count_labels(frames(make_water(0), make_water(1)), keys)
    assert near_miss(counted, keys, quantity) == near
    with pytest.raises(UserError, match=f"Did you mean {quantity}_key={near}"):
        require(counted, keys, (quantity,))


def test_no_labels_at_all_and_labels_switched_off():
    counted = count_labels(frames(make_water(energy=None, forces=False)), LabelKeys())
    with pytest.raises(UserError, match="found: no labels at all"):
        require(counted, LabelKeys(), ("energy",))
    require(counted, LabelKeys(energy=None), ("energy",))


def test_test_files_may_lack_forces_but_not_by_a_misspelt_name(caplog):
    energies = count_labels(frames(make_water(forces=False)), LabelKeys())
    check_test_labels(energies, LabelKeys())
    assert "no 'forces'" in caplog.text
    keys = LabelKeys(forces="REF_forces")
    check_test_labels(count_labels(frames(make_water(forces=False)), keys), keys)
    with pytest.raises(UserError, match="Did you mean forces_key=forces"):
        check_test_labels(count_labels(frames(make_water()), keys), keys)
    with pytest.raises(UserError, match="no 'energy'"):
        check_test_labels(count_labels(frames(make_water(energy=None, forces=False)), LabelKeys()), LabelKeys())


def test_what_oc20_notes_beside_the_energy_is_not_suggested():
    atoms = renamed(0)
    atoms.info |= {"energy_reference": "total", "reference_energy": -3.0, "relaxed_energy": -4.0}
    counted = count_labels(frames(atoms), LabelKeys(energy="total_energy"))
    assert near_miss(counted, LabelKeys(energy="total_energy"), "energy") is None
    atoms.info["dft_energy"] = -7.0
    counted = count_labels(frames(atoms), LabelKeys())
    assert near_miss(counted, LabelKeys(), "energy") == "dft_energy"
