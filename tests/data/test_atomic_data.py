"""AtomicData: fields, dtypes, missing labels, weights."""

import ase
import ase.io
import numpy as np
import pytest
import torch
from ase.constraints import FixAtoms
from waters import make_atom, make_water

from mace_gaunt.data.atomic_data import FIELDS, AtomicData, fixed_atoms, node_types, symbols
from mace_gaunt.data.labels import LabelKeys
from mace_gaunt.errors import UserError


def build(atoms, **kwargs):
    return AtomicData.from_atoms(atoms, 2.0, [1, 6, 8], LabelKeys(), **kwargs)


def test_fields_are_those_of_the_table():
    data = build(make_water(), frame_index=7)
    assert set(data.keys()) == {*FIELDS, "num_nodes"}
    sizes = {"n_nodes": 3, "n_pairs": data.pair_index.shape[1], "n_graphs": 1}
    for field, (shape, dtype, _) in FIELDS.items():
        if dtype is str:
            assert data[field] == "Default"
            continue
        expected = [sizes.get(size, size) for size in shape.strip("[]").split(", ")]
        assert list(data[field].shape) == [int(size) for size in expected], field
        assert data[field].dtype == dtype, field
    assert data.node_types.tolist() == [2, 0, 0]
    assert data.frame_index.tolist() == [7]


def test_vectors_follow_the_convention():
    atoms = ase.Atoms("H2", [[0.1, 0, 0], [2.9, 0, 0]], cell=[3, 3, 3], pbc=True)
    data = AtomicData.from_atoms(atoms, 0.5, [1])
    assert data.pair_index.tolist() == [[0], [1]]
    vectors = data.positions[1] - data.positions[0] + data.shifts
    torch.testing.assert_close(vectors, torch.tensor([[-0.2, 0, 0]], dtype=torch.float64))


def test_every_pair_is_two_edges():
    data = build(make_water())
    assert data.pair_index.tolist() == [[0, 0, 1], [1, 2, 2]]
    assert data.edge_index.tolist() == [[0, 0, 1, 1, 2, 2], [1, 2, 2, 0, 0, 1]]
    assert data.num_edges == 6
    with pytest.raises(AttributeError, match="follows from pair_index"):
        data.edge_index = data.pair_index


def test_missing_labels_are_nan():
    data = build(make_water(energy=None, forces=False))
    assert data.energy.isnan().all() and data.forces.isnan().all() and data.stress.isnan().all()
    no_keys = AtomicData.from_atoms(make_water(), 2.0, [1, 8])
    assert no_keys.energy.isnan().all() and no_keys.forces.isnan().all()


def test_one_atom_without_edges():
    data = build(make_atom("O"))
    assert data.num_nodes == 1 and data.num_edges == 0 and data.shifts.shape == (0, 3)
    assert data.edge_index.shape == data.pair_index.shape == (2, 0)
    assert data.energy.tolist() == [-2041.25]


def test_energies_keep_float64():
    data = build(make_water(energy=-17660.461737861464))
    assert data.energy.item() == -17660.461737861464


def test_unknown_element_is_named():
    with pytest.raises(UserError, match=r"unknown element O: the known ones are H, C"):
        AtomicData.from_atoms(make_water(), 2.0, [1, 6])
    assert node_types(np.array([8, 1]), [1, 8]).tolist() == [1, 0]
    assert symbols([]) == "none"


def test_forces_of_fixed_atoms_are_read_as_they_are():
    atoms = make_water()
    forces = atoms.calc.results["forces"].copy()
    atoms.set_constraint(FixAtoms([0, 1]))
    np.testing.assert_array_equal(build(atoms).forces.numpy(), forces)


def test_atoms_are_left_alone():
    atoms = make_water()
    atoms.positions += 20.0
    before = atoms.copy()
    data = build(atoms)
    data.positions += 1.0
    data.forces += 1.0
    assert atoms == before
    np.testing.assert_array_equal(atoms.calc.results["forces"], make_water().calc.results["forces"])


def test_weights_of_config_types_and_frames():
    atoms = make_water(config_type="liquid", config_weight=3.0, config_forces_weight=0.5)
    data = build(atoms, weights={"liquid": 2.0, "Default": 9.0})
    assert (data.weight.item(), data.energy_weight.item(), data.forces_weight.item()) == (6.0, 1.0, 0.5)
    assert data.config_type == "liquid"
    for weight in (-1.0, "heavy", float("nan")):
        with pytest.raises(UserError, match=r"config_weight is .* expected a number"):
            build(make_water(config_weight=weight))


def test_real_files_load(shared_data):
    for name, n_atoms in [
        ("3bpa/train_300K.xyz.gz", 27),
        ("acac/test_dihedral.xyz", 15),
        ("ethanol/test_dimers.xyz.gz", 2),
    ]:
        atoms = ase.io.read(shared_data / name, "0")
        data = AtomicData.from_atoms(atoms, 5.0, [1, 6, 7, 8], LabelKeys())
        assert data.num_nodes == n_atoms and data.energy.isfinite().all()
        assert data.pbc.any().item() is False


def test_fixed_atoms_tags_and_identifiers():
    atoms = make_water()
    plain = build(atoms)
    assert plain.tags.tolist() == [0, 0, 0] and not plain.fixed.any()
    assert (plain.sid.item(), plain.fid.item()) == (-1, -1)
    atoms.set_tags([0, 1, 2])
    atoms.set_constraint(FixAtoms([0]))
    atoms.info |= {"sid": "random1000100", "fid": 7}
    data = build(atoms)
    assert data.tags.tolist() == [0, 1, 2] and data.fixed.tolist() == [True, False, False]
    assert (data.sid.item(), data.fid.item()) == (1000100, 7)
    assert bool((data.forces == plain.forces).all())
    with pytest.raises(UserError, match="sid is 'abc'"):
        build_with_sid = make_water()
        build_with_sid.info["sid"] = "abc"
        build(build_with_sid)


@pytest.mark.parametrize("number", [-1, 119, 200])
def test_numbers_that_no_element_has(number):
    atoms = ase.Atoms("OH", positions=[[0, 0, 0], [0, 0, 1]])
    atoms.numbers[1] = number
    with pytest.raises(UserError, match=f"atom 1 has the atomic number {number}, which no element has"):
        AtomicData.from_atoms(atoms, 3.0, [1, 8])
    assert symbols([8, number]) == f"O, Z={number}"


def test_fixed_atoms_that_are_not_there():
    atoms = ase.Atoms("OH", positions=[[0, 0, 0], [0, 0, 1]])
    atoms.set_constraint(FixAtoms([-1]))
    assert fixed_atoms(atoms).tolist() == [False, True]
    atoms.set_constraint(FixAtoms([0, 5]))
    with pytest.raises(UserError, match="holds atom 5; there are 2"):
        fixed_atoms(atoms)
