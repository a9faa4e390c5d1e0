"""on_bad_frame: stop names the first bad record, skip leaves out, counts and tells."""

import logging

import numpy as np
import pytest
from oc20_files import make_slab

from mace_gaunt.data.labels import LabelKeys
from mace_gaunt.data.sources.contract import BadRecord, Source
from mace_gaunt.data.sources.usable import Tally, checked, usable
from mace_gaunt.errors import UserError


class Given(Source):
    """Records in memory."""

    format = "given"

    def __init__(self, path, records):
        super().__init__(path)
        self.records = records

    def __len__(self):
        return len(self.records)

    def read(self, start=0, stop=None):
        yield from self.records[start:stop]


def damaged(seed):
    """A slab with a number that is not finite, in one of the places where there are numbers."""
    slab = make_slab(seed)
    place = ("positions", "cell", "energy", "forces", "relaxed_energy", "relaxed_positions", "reference_energy")[seed]
    if place == "positions":
        slab.positions[1, 1] = np.nan
    elif place == "cell":
        slab.cell[0, 0] = np.inf
    elif place == "energy":
        slab.calc.results["energy"] = np.nan
    elif place == "forces":
        slab.calc.results["forces"][2, 0] = -np.inf
    elif place == "relaxed_positions":
        slab.arrays[place] = np.full((len(slab), 3), np.nan)
    else:
        slab.info[place] = np.nan
    return slab, place


@pytest.fixture
def sources(tmp_path):
    bad = BadRecord(tmp_path / "b.lmdb", 1, "key 1 is missing")
    first = Given(tmp_path / "a.lmdb", [make_slab(0), make_slab(1)])
    return [first, Given(tmp_path / "b.lmdb", [make_slab(2), bad, make_slab(3)]), first]


def test_stop(sources):
    found = usable(sources)
    assert [next(found).info["sid"] for _ in range(3)] == [100, 101, 102]
    with pytest.raises(UserError, match=r"b.lmdb, record 1: key 1 is missing. Leave .* on_bad_frame=skip"):
        next(found)


def test_skip(sources, caplog):
    tally = Tally()
    with caplog.at_level(logging.WARNING):
        found = list(usable(sources, "skip", tally=tally))
    assert [atoms.info["sid"] for atoms in found] == [100, 101, 102, 103, 100, 101]
    assert tally.n_read == 7 and [str(bad) for bad in tally.bad] == [f"{sources[1].path}, record 1: key 1 is missing"]
    assert "1 of 7 records cannot be used" in caplog.text and "key 1 is missing" in caplog.text


@pytest.mark.parametrize("seed", range(7))
def test_numbers_that_are_not_finite_are_named(tmp_path, seed):
    slab, place = damaged(seed)
    source = Given(tmp_path / "a.lmdb", [make_slab(8), slab])
    with pytest.raises(UserError, match=f"a.lmdb, record 1: .*{place}.*not finite"):
        list(usable(source))
    assert len(list(usable(source, "skip"))) == 1


def test_labels_that_are_not_used_may_be_anything(tmp_path):
    source = Given(tmp_path / "a.lmdb", [damaged(3)[0]])
    assert len(list(usable(source, keys=LabelKeys(forces=None)))) == 1


def test_positions_in_the_file(tmp_path):
    source = Given(tmp_path / "a.lmdb", [make_slab(0), damaged(0)[0], make_slab(2)])
    found = list(checked(source, start=1))
    assert [index for index, _ in found] == [1, 2]
    assert isinstance(found[0][1], BadRecord) and found[0][1].index == 1


def test_long_lists_are_cut(tmp_path):
    tally = Tally(50, [BadRecord(tmp_path / "a", i, "no") for i in range(30)])
    assert len(str(tally).splitlines()) == 12 and "... and 20 more" in str(tally)


def test_other_policies_are_refused(sources):
    with pytest.raises(UserError, match=r"on_bad_frame='skpi'. Did you mean 'skip'"):
        list(usable(sources, "skpi"))


def test_numbers_that_no_element_has(tmp_path):
    slab = make_slab(0)
    slab.numbers[3] = 250
    source = Given(tmp_path / "a.lmdb", [make_slab(1), slab])
    with pytest.raises(UserError, match=r"a\.lmdb, record 1: atom 3 has the atomic number 250"):
        list(usable(source))
    assert len(list(usable(source, "skip"))) == 1
