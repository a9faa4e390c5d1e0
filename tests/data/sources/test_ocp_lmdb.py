"""LMDB files of OCP: keys, lengths, names, shapes, and what is periodic."""

import pickle

import ase
import numpy as np
import pytest
import torch
from oc20_files import graph_fields, make_slab, pickle_graph, write_lmdb, write_ocp_lmdb

from mace_gaunt.data.sources.contract import BadRecord
from mace_gaunt.data.sources.discovery import open_source
from mace_gaunt.data.sources.usable import Tally, usable

SLABS = [make_slab(i) for i in range(13)]
RECORDS = {b"%d" % i: pickle_graph(graph_fields(slab)) for i, slab in enumerate(SLABS)}


def read(path, entries):
    return list(open_source(write_lmdb(path, entries)).read())


def sids(records):
    return [record.info["sid"] for record in records if isinstance(record, ase.Atoms)]


def reasons(records):
    return {record.index: record.reason for record in records if isinstance(record, BadRecord)}


def test_records_come_in_numeric_order(tmp_path):
    found = read(tmp_path / "a.lmdb", RECORDS)
    # Keys lie in the file as 0, 1, 10, 11, 12, 2, ...
    assert sids(found) == [100 + i for i in range(13)]


@pytest.mark.parametrize("length", [None, 13, 12, 1])
def test_a_length_that_is_missing_or_too_small_loses_nothing(tmp_path, length):
    found = list(open_source(write_ocp_lmdb(tmp_path / "a.lmdb", SLABS, length=length)).read())
    assert sids(found) == [100 + i for i in range(13)] and not reasons(found)


@pytest.mark.parametrize("length", [b"14", pickle.dumps(14), pickle.dumps(torch.tensor(14)), b"\x80\x04broken"])
def test_a_length_that_is_too_large_or_none_is_named(tmp_path, length):
    found = read(tmp_path / "a.lmdb", RECORDS | {b"length": length})
    assert len(sids(found)) == 13
    assert list(reasons(found)) == [13] and "length" in reasons(found)[13]


def test_missing_and_odd_keys_are_named(tmp_path):
    entries = {key: value for key, value in RECORDS.items() if key not in (b"3", b"7", b"12")}
    entries |= {b"metadata": b"anything", b"1:": RECORDS[b"12"], b"999999999": RECORDS[b"3"], b"012": RECORDS[b"7"]}
    found = read(tmp_path / "a.lmdb", entries | {b"12": RECORDS[b"12"]})
    assert reasons(found) == {
        3: "key 3 is missing",
        7: "key 7 is missing",
        13: "key b'1:' is neither a number nor the name of something known",
        14: "two records have the number 12",
        15: "key 999999999: no other number is near",
    }
    assert len(sids(found)) == 11


def test_keys_may_begin_with_one(tmp_path):
    found = read(tmp_path / "a.lmdb", {b"%d" % (i + 1): RECORDS[b"%d" % i] for i in range(13)})
    assert sids(found) == [100 + i for i in range(13)] and not reasons(found)


def test_numbers_far_into_a_set(tmp_path):
    found = read(tmp_path / "a.lmdb", {b"%06d" % (5000 + i): RECORDS[b"%d" % i] for i in range(13)})
    assert len(sids(found)) == 13 and not reasons(found)


CHANGES = {
    "no atoms": ({"pos": None}, "it has no atoms"),
    "no elements": ({"atomic_numbers": None}, "no atomic_numbers"),
    "another natoms": ({"natoms": 99}, "natoms is 99"),
    "element 0": ({"atomic_numbers": torch.zeros(7)}, "atomic_numbers reach from 0 to 0"),
    "element 119": ({"atomic_numbers": torch.full((7,), 119.0)}, "to 119"),
    "element 1.5": ({"atomic_numbers": torch.full((7,), 1.5)}, "not whole numbers"),
    "element nan": ({"atomic_numbers": torch.full((7,), torch.nan)}, "not whole numbers"),
    "flat positions": ({"pos": torch.zeros(21)}, "pos has shape"),
    "positions as text": ({"pos": "x"}, "pos is not an array"),
    "other forces": ({"forces": torch.zeros(6, 3)}, "forces has shape"),
    "two energies": ({"energy": torch.zeros(2)}, "energy is not one number"),
    "text as energy": ({"energy": "low"}, "energy is not one number"),
    "two cells": ({"cell": torch.zeros(2, 3, 3)}, "cell has shape"),
    "other tags": ({"tags": torch.zeros(3)}, "tags has shape"),
    "fixed nan": ({"fixed": torch.full((7,), torch.nan)}, "fixed are not whole numbers"),
    "sid as list": ({"sid": [1, 2]}, "sid is neither"),
}


@pytest.mark.parametrize("name", list(CHANGES))
def test_records_that_make_no_sense(tmp_path, name):
    change, reason = CHANGES[name]
    slab = next(slab for slab in SLABS if len(slab) == 7)
    found = read(tmp_path / "a.lmdb", {b"0": pickle_graph(graph_fields(slab) | change), b"1": RECORDS[b"1"]})
    assert list(reasons(found)) == [0] and reasons(found)[0].startswith("key 0: ") and reason in reasons(found)[0]
    assert sids(found) == [101]


def test_other_objects_are_named(tmp_path):
    entries = {b"0": pickle.dumps([1, 2]), b"1": pickle.dumps(5), b"2": b"nothing", b"3": b"", b"4": RECORDS[b"4"]}
    assert list(reasons(read(tmp_path / "a.lmdb", entries))) == [0, 1, 2, 3]


def test_relaxed_structures(tmp_path):
    fields = graph_fields(SLABS[0])
    del fields["energy"]
    relaxed = fields["pos"] + 0.5
    fields |= {"y_init": 2.5, "y_relaxed": torch.tensor([-1.25]), "pos_relaxed": relaxed, "sid": "random77"}
    (atoms,) = read(tmp_path / "a.lmdb", {b"0": pickle_graph(fields, "1")})
    assert atoms.calc.results["energy"] == 2.5
    assert atoms.info["relaxed_energy"] == -1.25 and atoms.info["sid"] == 77
    np.testing.assert_array_equal(atoms.arrays["relaxed_positions"], relaxed.double().numpy())


def test_a_set_without_labels(tmp_path):
    fields = graph_fields(SLABS[0])
    del fields["energy"], fields["forces"]
    (atoms,) = read(tmp_path / "a.lmdb", {b"0": pickle_graph(fields)})
    assert not atoms.calc.results and "energy_reference" not in atoms.info


@pytest.mark.parametrize(
    ("change", "reference"),
    [({"oc22": 1}, "total"), ({"energy": -300.0}, None), ({"tags": None}, None), ({}, "adsorption")],
)
def test_what_energies_refer_to(tmp_path, change, reference):
    (atoms,) = read(tmp_path / "a.lmdb", {b"0": pickle_graph(graph_fields(SLABS[0]) | change)})
    assert atoms.info.get("energy_reference") == reference


@pytest.mark.parametrize(
    ("cell", "periodic"),
    [
        (torch.eye(3).unsqueeze(0) * 50, False),
        (torch.eye(3) * 9, True),
        (torch.zeros(1, 3, 3), False),
        (None, False),
        # One direction without a gap is enough to be periodic.
        (torch.diag(torch.tensor([50.0, 50, 9])), True),
    ],
)
def test_molecules_in_a_box_are_not_periodic(tmp_path, cell, periodic):
    fields = {"pos": torch.rand(5, 3) * 5, "atomic_numbers": torch.full((5,), 6), "y": -5.0, "cell": cell}
    (atoms,) = read(tmp_path / "a.lmdb", {b"0": pickle_graph(fields)})
    assert atoms.pbc.tolist() == [periodic] * 3


def test_a_molecule_across_the_wall_of_its_box_stays_whole(tmp_path):
    positions = torch.tensor([[0.2, 0, 0], [49.8, 0, 0]])
    fields = {"pos": positions, "atomic_numbers": torch.ones(2), "cell": torch.eye(3).unsqueeze(0) * 50}
    (atoms,) = read(tmp_path / "a.lmdb", {b"0": pickle_graph(fields)})
    assert atoms.get_distance(0, 1, mic=True) == pytest.approx(0.4, abs=1e-5)


def test_stored_periodicity_goes_first(tmp_path):
    fields = graph_fields(SLABS[0]) | {"pbc": torch.tensor([[True, True, False]])[0]}
    (atoms,) = read(tmp_path / "a.lmdb", {b"0": pickle_graph(fields)})
    assert atoms.pbc.tolist() == [True, True, False]


def test_nan_labels_are_named_by_usable(tmp_path):
    entries = dict(RECORDS)
    entries[b"4"] = pickle_graph(graph_fields(SLABS[4]) | {"energy": float("nan")})
    forces = torch.zeros(len(SLABS[6]), 3)
    forces[1, 1] = torch.inf
    entries[b"6"] = pickle_graph(graph_fields(SLABS[6]) | {"forces": forces})
    tally = Tally()
    found = list(usable(open_source(write_lmdb(tmp_path / "a.lmdb", entries)), "skip", tally=tally))
    assert len(found) == 11 and tally.n_read == 13
    assert [bad.index for bad in tally.bad] == [4, 6]
    assert ["energy" in tally.bad[0].reason, "forces" in tally.bad[1].reason] == [True, True]
