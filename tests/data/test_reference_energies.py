"""E0s: the three policies, and what they refuse."""

import ase
import numpy as np
import pytest
from ase.calculators.singlepoint import SinglePointCalculator
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from waters import E0S, make_atom, make_water

from mace_gaunt.data.atomic_data import AtomicData
from mace_gaunt.data.labels import LabelKeys
from mace_gaunt.data.reference_energies import (
    check_policy,
    is_isolated_atom,
    isolated_energies,
    resolve_reference_energies,
    undetermined_elements,
)
from mace_gaunt.errors import UserError

ELEMENTS = [1, 6, 8]


def graph(atoms, r_max=3.0):
    return AtomicData.from_atoms(atoms, r_max, ELEMENTS, LabelKeys())


def molecule(formula, energy):
    atoms = ase.Atoms(formula)
    atoms.positions[:, 0] = 0.9 * np.arange(len(atoms))
    atoms.calc = SinglePointCalculator(atoms, energy=energy)
    return graph(atoms)


def test_isolated_atoms_need_no_config_type():
    assert is_isolated_atom(graph(make_atom("H")))
    assert not is_isolated_atom(graph(make_water()))
    unlabelled = make_atom("H")
    unlabelled.calc = None
    assert not is_isolated_atom(graph(unlabelled))


def test_an_atom_that_sees_its_images_is_a_crystal():
    atoms = make_atom("H")
    atoms.set_cell([2.5, 9, 9])
    atoms.pbc = True
    assert not is_isolated_atom(graph(atoms))
    assert is_isolated_atom(graph(atoms, r_max=2.4))


def test_isolated():
    energies = isolated_energies(map(graph, (make_water(), make_atom("H"), make_atom("O"), make_atom("H"))))
    assert energies == {1: E0S["H"], 8: E0S["O"]}
    assert resolve_reference_energies("isolated", [], [1, 8], energies) == [E0S["H"], E0S["O"]]
    with pytest.raises(UserError, match=r"no isolated-atom energy for C \(found: H, O\).*E0s=regress"):
        resolve_reference_energies("isolated", [], ELEMENTS, energies)


def test_isolated_atoms_that_disagree():
    with pytest.raises(UserError, match=r"two isolated H atoms have different energies: -13.500000 and -13.400000"):
        isolated_energies([graph(make_atom("H")), graph(make_atom("H", -13.4))])


def test_regress_recovers_energies_of_kilovolts():
    E0s = np.array([-13.587222780835477, -1029.4889999855063, -2041.9816003861047])
    counts = {"CH4": (4, 1, 0), "H2O": (2, 0, 1), "CO2": (0, 1, 2), "C2H6O": (6, 2, 1)}
    frames = [molecule(formula, float(np.dot(n, E0s))) for formula, n in counts.items()]
    frames.append(graph(make_water(energy=None)))
    np.testing.assert_allclose(resolve_reference_energies("regress", frames, ELEMENTS, {}), E0s, rtol=0, atol=1e-9)


def test_regress_names_the_undetermined_elements():
    frames = [molecule("H2O", -10.0), molecule("H4O2", -20.0), molecule("C", -3.0), molecule("C2", -6.0)]
    with pytest.raises(UserError, match=r"cannot determine H, O: .* 4 training frames"):
        resolve_reference_energies("regress", frames, ELEMENTS, {})
    with pytest.raises(UserError, match=r"cannot determine H, C, O: .* 0 training frames"):
        resolve_reference_energies("regress", [], ELEMENTS, {})


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        (np.eye(3), []),
        (np.array([[27.0, 0, 0]]), [1, 2]),
        (np.array([[1.0, 1, 0], [0, 0, 2]]), [0, 1]),
        (np.array([[1.0, 1, 1], [2, 1, 1]]), [1, 2]),
        (np.tile([[12.0, 12, 3]], (2000, 1)), [0, 1, 2]),
    ],
)
def test_undetermined_elements(counts, expected):
    assert undetermined_elements(counts) == expected


COMPOSITIONS = st.lists(st.tuples(*[st.integers(0, 9)] * 3).filter(any), min_size=1, max_size=8)


def frames_of(compositions, E0s):
    """A frame of each composition, with the energy that its atoms have alone."""
    symbols = ("H", "C", "O")
    return [
        molecule(
            "".join(f"{symbol}{n}" for symbol, n in zip(symbols, counts, strict=True) if n), float(np.dot(counts, E0s))
        )
        for counts in compositions
    ]


@settings(max_examples=40, deadline=None)
@given(COMPOSITIONS, st.tuples(*[st.floats(-3000, 0)] * 3))
def test_regress_recovers_planted_energies_or_names_what_it_cannot_tell(compositions, E0s):
    """The elements whose unit vectors lie in the space of the compositions are determined, and no others."""
    counts = np.array(compositions, dtype=float)
    values = np.linalg.svd(counts, compute_uv=False)
    # Whole numbers this small have no singular value that is nearly zero.
    assume((values[values > 1e-10] > 1e-3).all())
    told = [np.linalg.matrix_rank(np.vstack([counts, unit])) == np.linalg.matrix_rank(counts) for unit in np.eye(3)]
    frames = frames_of(compositions, E0s)
    if all(told):
        found = resolve_reference_energies("regress", frames, ELEMENTS, {})
        np.testing.assert_allclose(found, E0s, rtol=0, atol=1e-7)
        return
    unknown = ", ".join(symbol for symbol, known in zip(("H", "C", "O"), told, strict=True) if not known)
    with pytest.raises(UserError, match=f"cannot determine {unknown}: "):
        resolve_reference_energies("regress", frames, ELEMENTS, {})


def test_given_by_symbol_or_number():
    assert resolve_reference_energies({"O": -2041, "H": "-13.5", "N": 0}, [], [1, 8], {}) == [-13.5, -2041.0]
    assert resolve_reference_energies({1: -13.5, "8": -2041}, [], [1, 8], {}) == [-13.5, -2041.0]


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        ({"H": -13.5}, r"no energy for C, O \(given: H\)"),
        ({"H": "low"}, "the E0 of H is 'low'"),
        ({"Hh": -1.0}, "'Hh', which is no element. Did you mean 'H'"),
        ({200: -1.0}, "'200', which is no element"),
    ],
)
def test_bad_mappings(policy, message):
    with pytest.raises(UserError, match=message):
        resolve_reference_energies(policy, [], ELEMENTS, {})


def test_unknown_policy():
    with pytest.raises(UserError, match="Did you mean 'isolated'"):
        check_policy("isolate")


def test_real_isolated_atoms(shared_data):
    frames = ase.io.read(shared_data / "3bpa" / "iso_atoms.xyz", ":")
    energies = isolated_energies(AtomicData.from_atoms(a, 5.0, [1, 6, 7, 8], LabelKeys()) for a in frames)
    assert energies[6] == -1029.4889999855063 and sorted(energies) == [1, 6, 7, 8]
