"""Relaxations with potentials whose minima are known, and with a small model."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import add_adsorbate, fcc111
from ase.calculators.calculator import Calculator, all_changes
from ase.calculators.emt import EMT
from ase.constraints import FixAtoms
from small_models import build

from mace_gaunt.data.sources.discovery import find_sources
from mace_gaunt.errors import UserError
from mace_gaunt.evaluation.leaderboard import Submission
from mace_gaunt.evaluation.oc20_metrics import with_mean
from mace_gaunt.evaluation.relaxations import Settings, relax, relax_split
from mace_gaunt.simulation.calculator import MaceGauntCalculator

CELL = np.diag([9.0, 9.0, 20.0])
TIGHT = Settings(fmax=1e-6, steps=100)


class Wells(Calculator):
    """Every atom in a well around the place of its first structure plus (0.1, 0, -0.2); 2 eV/Å², minimum at -5 eV."""

    implemented_properties = ["energy", "forces"]  # noqa: RUF012

    def __init__(self, places, break_after=None):
        super().__init__()
        self.places, self.calls, self.break_after = places, 0, break_after

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        self.calls += 1
        if self.break_after is not None and self.calls > self.break_after:
            raise UserError("two atoms overlap")
        away = self.atoms.positions - self.places
        self.results = {"energy": -5.0 + float(np.square(away).sum()), "forces": -2.0 * away}


def slab(sid=17, shift=(0.1, 0.0, -0.2), relaxed_energy=-5.1, seed=0):
    """Six atoms, of which the first two are fixed; the minimum of `Wells` is its relaxed structure, but for `shift`."""
    rng = np.random.default_rng(seed)
    atoms = Atoms("Cu4CO", positions=rng.uniform(1, 8, size=(6, 3)), cell=CELL, pbc=True)
    atoms.set_constraint(FixAtoms([0, 1]))
    atoms.info |= {"sid": sid, "energy_reference": "adsorption", "relaxed_energy": relaxed_energy}
    relaxed = atoms.positions + np.array(shift)
    relaxed[:2] = atoms.positions[:2]
    atoms.arrays["relaxed_positions"] = relaxed + np.array([9.0, 0.0, 0.0])
    return atoms


def places(atoms):
    return atoms.positions + np.array([0.1, 0.0, -0.2])


FIXED_ENERGY = 2 * (0.1**2 + 0.2**2)
"""What the two fixed atoms cost, which are not in their wells."""


@pytest.mark.parametrize("optimizer", ["LBFGS", "FIRE"])
def test_free_atoms_reach_the_minimum_and_fixed_ones_stay(optimizer):
    atoms = slab()
    before = atoms.copy()
    end = relax(atoms, Wells(places(atoms)), Settings(optimizer, fmax=1e-6, steps=500))
    assert end.converged and end.failure is None and 0 < end.steps < 500 and end.largest_force <= 1e-6
    np.testing.assert_allclose(end.positions[2:], places(atoms)[2:], atol=1e-6)
    assert np.array_equal(end.positions[:2], atoms.positions[:2])
    assert end.energy == pytest.approx(-5.0 + FIXED_ENERGY, abs=1e-10)
    assert atoms == before and atoms.calc is None


def test_steps_are_limited():
    atoms = slab()
    end = relax(atoms, Wells(places(atoms)), Settings(fmax=1e-6, steps=1))
    assert (end.steps, end.converged, end.failure) == (1, False, None)
    start = relax(atoms, Wells(places(atoms)), Settings(steps=0))
    assert np.array_equal(start.positions, atoms.positions) and end.energy < start.energy
    held = atoms.copy()
    held.set_constraint(FixAtoms(range(6)))
    assert relax(held, Wells(places(atoms))).converged


def test_a_calculator_that_gives_up_leaves_the_last_good_structure():
    atoms = slab()
    end = relax(atoms, Wells(places(atoms), break_after=2), Settings("FIRE", fmax=1e-6))
    assert end.failure == "two atoms overlap" and not end.converged
    assert end.energy == pytest.approx(-5.0 + np.square(end.positions - places(atoms)).sum())
    with pytest.raises(UserError, match="two atoms overlap"):
        relax(atoms, Wells(places(atoms), break_after=0))


def test_energies_that_are_no_numbers_end_it():
    atoms = slab()
    wells = Wells(places(atoms))
    wells.places[3, 0] = np.nan
    with pytest.raises(UserError, match="not finite"):
        relax(atoms, wells)


def test_errors_of_a_split_and_its_submissions(tmp_path):
    """Energy misses by what the fixed atoms cost and 0.1 eV; every free atom misses by 0.03 Å along x."""
    one, submissions = slab(shift=(0.13, 0.0, -0.2), relaxed_energy=-5.1), [Submission("is2re"), Submission("is2rs")]
    row = relax_split(
        "val_id", [one], 1, Wells(places(one)), "adsorption", TIGHT, submissions=submissions, progress=False
    )
    assert (row["split"], row["n_frames"], row["n_converged"], row["n_failed"]) == ("val_id", 1, 1, 0)
    assert row["energy_mae_eV"] == pytest.approx(FIXED_ENERGY + 0.1, abs=1e-6) and row["ewt_percent"] == 0
    assert row["distance_A"] == pytest.approx(0.03, abs=1e-6)
    assert row["adwt_percent"] == pytest.approx(100 * np.mean(np.arange(0.01, 0.5, 0.001) > 0.03 + 1e-6), abs=0.3)
    for split in ("ood_ads", "ood_cat", "ood_both"):
        relax_split(split, [one], 1, Wells(places(one)), "adsorption", TIGHT, submissions=submissions, progress=False)
    content = np.load(submissions[1].write(tmp_path / "is2rs.npz"))
    assert content["ood_cat_ids"].tolist() == ["17"] and content["ood_cat_pos"].shape == (6, 3)
    np.testing.assert_allclose(content["ood_cat_pos"][2:], places(one)[2:], atol=1e-6)
    energy = np.load(submissions[0].write(tmp_path / "is2re.npz"))["id_energy"]
    np.testing.assert_allclose(energy, [-5.0 + FIXED_ENERGY], rtol=1e-6)


def test_without_labels_there_are_counts_alone():
    atoms = slab()
    del atoms.arrays["relaxed_positions"], atoms.info["relaxed_energy"]
    row = relax_split("test_id", [atoms], 1, Wells(places(atoms)), "adsorption", progress=False)
    assert set(row) == {"split", "n_frames", "n_converged", "n_failed", "mean_steps"}
    other = row | {"split": "test_ood_ads", "n_failed": 1, "mean_steps": row["mean_steps"] + 2}
    mean = with_mean([row, other])[-1]
    assert (mean["n_frames"], mean["n_failed"], mean["mean_steps"]) == (2, 1, row["mean_steps"] + 1)


def test_energies_of_another_reference_are_refused():
    atoms = slab()
    with pytest.raises(UserError, match=r"val_id, structure 0 \(sid 17\): it has an adsorption energy"):
        relax_split("val_id", [atoms], 1, Wells(places(atoms)), "total", progress=False)
    atoms.info |= {"energy_reference": "total", "relaxed_energy": -300.0, "reference_energy": -295.0}
    row = relax_split("val_id", [atoms], 1, Wells(places(atoms)), "adsorption", TIGHT, progress=False)
    assert row["energy_mae_eV"] == pytest.approx(FIXED_ENERGY, abs=1e-6)


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"optimizer": "LBGFS"}, "Did you mean 'LBFGS'"), ({"fmax": 0.0}, "above 0"), ({"steps": -1}, "0 or more")],
)
def test_impossible_settings_are_named(changes, message):
    with pytest.raises(UserError, match=message):
        Settings(**changes)


def test_a_metal_slab_with_an_adsorbate():
    """EMT: the force on every free atom becomes small, the energy falls, the bottom stays."""
    atoms = fcc111("Cu", (2, 2, 3), vacuum=8.0)
    add_adsorbate(atoms, "O", 2.2, "fcc")
    atoms.set_constraint(FixAtoms(mask=atoms.get_tags() == 3))
    end = relax(atoms, EMT(), Settings(fmax=0.02, steps=300))
    start = relax(atoms, EMT(), Settings(steps=0))
    assert end.converged and end.energy < start.energy - 0.1
    bottom = atoms.get_tags() == 3
    assert np.array_equal(end.positions[bottom], atoms.positions[bottom])
    assert np.linalg.norm(end.positions - atoms.positions, axis=1).max() > 0.05


def test_records_of_the_release_carry_what_is_compared(shared_data):
    """IS2RE as OCP wrote it: without a step the distances are those between first and relaxed structure."""
    (source,) = find_sources(shared_data / "oc20" / "is2re_lmdb_pyg2")
    records = list(source.read())
    row = relax_split("val_id", records, len(records), Wells(0.0), "adsorption", Settings(steps=0), progress=False)
    distances = []
    for atoms in records:
        free = np.setdiff1d(np.arange(len(atoms)), atoms.constraints[0].index)
        away = (atoms.arrays["relaxed_positions"] - atoms.positions)[free] @ np.linalg.inv(atoms.cell.array)
        distances.append(np.linalg.norm((away - np.round(away)) @ atoms.cell.array, axis=1).mean())
    assert row["n_frames"] == 3 and row["distance_A"] == pytest.approx(np.mean(distances), rel=1e-9)
    assert row["adwt_percent"] == pytest.approx(
        100 * np.mean([distance < np.arange(0.01, 0.5, 0.001) for distance in distances]), rel=1e-9
    )
    assert row["energy_mae_eV"] > 0


def test_a_model_relaxes_and_keeps_fixed_atoms():
    atoms = Atoms("C2O2H2", positions=np.random.default_rng(0).uniform(0, 4, size=(6, 3)), cell=CELL, pbc=True)
    atoms.set_constraint(FixAtoms([0, 1]))
    atoms.info["sid"] = 3
    calculator = MaceGauntCalculator(build("gaunt", num_channels=2, zbl=True), device="cpu")
    start, end = (relax(atoms, calculator, Settings(steps=steps)) for steps in (0, 5))
    assert end.energy < start.energy and end.failure is None
    assert np.array_equal(end.positions[:2], atoms.positions[:2])
