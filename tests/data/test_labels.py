"""Where labels are looked for, and what is refused."""

import ase
import numpy as np
import pytest
from ase.calculators.singlepoint import SinglePointCalculator

from mace_gaunt.data.labels import LabelKeys, read_labels
from mace_gaunt.errors import UserError

FORCES = np.arange(6.0).reshape(2, 3)
STRESS = np.array([[1.0, 6, 5], [6, 2, 4], [5, 4, 3]])
VALUES = {"energy": -1.5, "forces": FORCES, "stress": STRESS}


def put(atoms, quantity, place, name, value):
    """Put a label where a file would have it."""
    if place == "calculator":
        atoms.calc = atoms.calc or SinglePointCalculator(atoms)
        atoms.calc.results[name] = value
    else:
        (atoms.arrays if quantity == "forces" else atoms.info)[name] = value


@pytest.mark.parametrize("quantity", VALUES)
@pytest.mark.parametrize(
    ("place", "prefix", "key"),
    [
        ("info or arrays", "", "auto"),
        ("calculator", "", "auto"),
        ("info or arrays", "REF_", "auto"),
        ("info or arrays", "", "plain"),
        ("calculator", "", "plain"),
        ("info or arrays", "REF_", "named"),
        ("info or arrays", "dft_", "named"),
    ],
)
def test_found_in_every_place(quantity, place, prefix, key):
    atoms = ase.Atoms("H2", np.eye(3)[:2], cell=[5, 5, 5], pbc=True)
    name = prefix + quantity
    put(atoms, quantity, place, name, VALUES[quantity])
    found = read_labels(atoms, LabelKeys(**{quantity: "auto" if key == "auto" else name}))
    np.testing.assert_array_equal(getattr(found, quantity), VALUES[quantity])
    others = set(VALUES) - {quantity}
    assert all(getattr(found, other) is None or np.isnan(getattr(found, other)) for other in others)


@pytest.mark.parametrize("quantity", VALUES)
def test_missing_and_switched_off(quantity):
    atoms = ase.Atoms("H2", np.eye(3)[:2])
    put(atoms, quantity, "calculator", f"{quantity}_xtb", VALUES[quantity])
    put(atoms, quantity, "calculator", quantity, VALUES[quantity])
    for key in (None, "absent"):
        found = getattr(read_labels(atoms, LabelKeys(**{quantity: key})), quantity)
        assert found is None or np.isnan(found)


def test_order_of_auto_and_disagreement():
    atoms = ase.Atoms("H2", np.eye(3)[:2])
    atoms.info.update(energy=-1.5, REF_energy=-1.5)
    assert read_labels(atoms, LabelKeys()).energy == -1.5
    atoms.info["REF_energy"] = -1.6
    with pytest.raises(UserError, match=r"energy \(info\) and REF_energy \(info\) differ by up to 0.1.*energy_key"):
        read_labels(atoms, LabelKeys())
    assert read_labels(atoms, LabelKeys(energy="REF_energy")).energy == -1.6


def test_stress_in_voigt_order():
    atoms = ase.Atoms("H2", np.eye(3)[:2], cell=[5, 5, 5], pbc=True)
    atoms.info["stress"] = [1.0, 2, 3, 4, 5, 6]
    np.testing.assert_array_equal(read_labels(atoms, LabelKeys()).stress, STRESS)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("energy", np.nan, "not finite"),
        ("energy", "low", "not a number"),
        ("energy", [1.0, 2.0], "shape"),
        ("forces", np.full((2, 3), np.inf), "not finite"),
        ("forces", np.zeros((2, 2)), "shape"),
        ("stress", np.zeros(5), "shape"),
    ],
)
def test_unusable_values(name, value, message):
    atoms = ase.Atoms("H2", np.eye(3)[:2])
    atoms.calc = SinglePointCalculator(atoms)
    atoms.calc.results[name] = value
    with pytest.raises(UserError, match=message):
        read_labels(atoms, LabelKeys())


def test_virials_are_no_stress():
    with pytest.raises(UserError, match="virials are not stress"):
        LabelKeys(stress="REF_virials")


def test_nothing_is_computed():
    class Explosive(SinglePointCalculator):
        def get_property(self, *args, **kwargs):
            raise AssertionError("computed")

    atoms = ase.Atoms("H2", np.eye(3)[:2])
    atoms.calc = Explosive(atoms, energy=-1.0)
    assert read_labels(atoms, LabelKeys()).energy == -1.0
