"""Bad inputs of every kind: each is told in a line what is wrong with it, and leaves nothing behind."""

import re

import ase
import numpy as np
import pytest
from cli.test_mistakes import MISTAKES
from hostile import commands, data_files, environments, models, structures
from hostile.row import Place

from mace_gaunt.simulation.calculator import MaceGauntCalculator

ROWS = [*structures.ROWS, *data_files.ROWS, *models.ROWS, *commands.ROWS, *environments.ROWS]
PROGRESS = re.compile(r"(evaluate|prepared|verified) \d+/\d+ ")


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_bad_inputs_are_refused(row, tmp_path, monkeypatch, trained, data_file, frames, command):
    if row.build is not None:
        row.build(Place(tmp_path, trained, frames, monkeypatch))
    before = sorted(tmp_path.rglob("*"))
    status, out, err = command(*row.words.format(model=trained, data=data_file).split())
    told = [line for line in err.splitlines() if not PROGRESS.match(line)]
    assert status == row.status, err
    assert "Traceback" not in err
    assert sorted(tmp_path.rglob("*")) == before
    if row.status == 2:
        assert len(told) == 1 and told[0].startswith("error: "), err
    assert row.message in (told[0] if row.status == 2 else out + err)


CELL = np.array([[1.4, 0.0, 0.0], [0.3, 1.5, 0.0], [0.1, 0.2, 1.6]])
"""Half as wide as the cutoff of the trained model."""


@pytest.mark.parametrize(
    ("odd", "copies"),
    [
        (ase.Atoms("C", cell=CELL, pbc=True).repeat(2), 8),
        (ase.Atoms("C", [[90.0, -70.0, 40.0]], cell=CELL, pbc=True), 1),
        (ase.Atoms("C", cell=CELL[[1, 0, 2]], pbc=True), 1),
        (ase.Atoms("C", cell=-CELL, pbc=True), 1),
        (ase.Atoms("C", cell=[CELL[0], CELL[1] + 2 * CELL[0], CELL[2] - CELL[1]], pbc=True), 1),
    ],
    ids=["supercell", "outside", "left_handed", "inverted", "oblique"],
)
def test_structures_that_are_only_odd_have_the_right_energy(odd, copies, trained):
    """One crystal, described in other ways: energy per atom and stress are the same."""
    calculator = MaceGauntCalculator(trained, device="cpu")
    plain, other = calculator.evaluate([ase.Atoms("C", cell=CELL, pbc=True), odd], stress=True)
    assert other["energy"] / copies == pytest.approx(plain["energy"], abs=1e-9)
    np.testing.assert_allclose(other["stress"], plain["stress"], atol=1e-9)
    assert np.abs(other["forces"]).max() < 1e-9


def test_there_are_many():
    assert len({row.words + row.name for row in ROWS} | {words for words, _ in MISTAKES}) >= 150
