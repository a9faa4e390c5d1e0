"""What the report on files is made of."""

import ase.io
import numpy as np
import pytest
from ase import units as ase_units
from ase.build import molecule
from waters import make_water

from mace_gaunt.data.inspection.batches import BYTES_PER_EDGE, recommend_batch
from mace_gaunt.data.inspection.compositions import CompositionFit
from mace_gaunt.data.inspection.duplicates import DuplicateFinder
from mace_gaunt.data.inspection.reservoir import Largest, Reservoir
from mace_gaunt.data.inspection.splits import role
from mace_gaunt.data.inspection.steps import Steps, displacement
from mace_gaunt.data.inspection.units import Evidence, all_electron_energy, guess_units


def test_reservoir_keeps_all_or_a_random_part():
    small: Reservoir[int] = Reservoir(10)
    for i in range(7):
        small.add(i)
    assert small.items == list(range(7)) and small.is_complete
    draws = []
    for seed in range(200):
        sample: Reservoir[int] = Reservoir(10, seed)
        for i in range(100):
            sample.add(i)
        assert len(set(sample.items)) == 10 and not sample.is_complete
        draws += sample.items
    # 2000 draws of 100 numbers: the mean of a uniform sample is 49.5 with a standard deviation of 0.65.
    assert abs(np.mean(draws) - 49.5) < 3


def test_largest_keeps_the_first_of_equal_values():
    largest: Largest[str] = Largest(3)
    for value, name in ((1.0, "a"), (3.0, "b"), (np.nan, "x"), (3.0, "c"), (0.0, "d"), (2.0, "e")):
        largest.add(value, name)
    assert largest.items() == [(3.0, "b"), (3.0, "c"), (2.0, "e")]


def test_streamed_composition_fit_equals_least_squares():
    rng = np.random.default_rng(0)
    frames = [np.sort(rng.choice([1, 6, 8], size=rng.integers(2, 9))) for _ in range(700)]
    energies = {1: -13.5, 6: -1029.0, 8: -2041.0}
    totals = [sum(energies[z] for z in numbers) + rng.normal(0, 0.1) for numbers in frames]
    fit, other = CompositionFit(), CompositionFit()
    for i, (numbers, total) in enumerate(zip(frames, totals, strict=True)):
        (fit if i < 400 else other).add(numbers, total)
    fit.merge(other)
    counts = np.array([np.bincount(numbers, minlength=9)[[1, 6, 8]] for numbers in frames])
    assert (fit.elements, fit.rank, fit.undetermined, fit.n_frames) == ([1, 6, 8], 3, [], 700)
    expected = np.linalg.lstsq(counts, np.array(totals), rcond=None)[0]
    np.testing.assert_allclose(fit.energies()[[1, 6, 8]], expected, atol=1e-9)


def test_rank_of_equal_compositions():
    fit = CompositionFit()
    for _ in range(600):
        fit.add(np.array([8, 1, 1]), -76.0)
    assert (fit.rank, fit.undetermined) == (1, [1, 8])
    fit.add(np.array([1]), -0.5)
    assert (fit.rank, fit.undetermined) == (2, [])


def test_copies_in_other_precisions_are_found_and_small_steps_are_not():
    finder = DuplicateFinder()
    finder.open_file()
    frames = [make_water(i) for i in range(300)]
    for i, atoms in enumerate(frames):
        atoms.set_cell([20.0, 21.0, 22.0 + 0.01 * i])
        finder.add(atoms, i, -1.0)
    copies = finder.open_file()
    for i, atoms in enumerate(frames):
        copy = atoms.copy()
        copy.positions = copy.positions.astype(np.float32)
        copy.set_cell(copy.cell.array.astype(np.float32))
        finder.add(copy, i, -1.0)
    steps = finder.open_file()
    for i, atoms in enumerate(frames):
        step = atoms.copy()
        step.positions += 2e-4 * np.random.default_rng(i).normal(size=(3, 3))
        finder.add(step, i, -1.0)
    assert sum(copies.counts.values()) >= 297 and copies.contradictions == 0
    assert sum(steps.counts.values()) <= 1


def test_duplicates_are_estimated_where_memory_ends():
    finder = DuplicateFinder(capacity=500)
    first = finder.open_file()
    frames = [make_water(i) for i in range(4000)]
    for i, atoms in enumerate(frames):
        finder.add(atoms, i, 0.0)
    again = finder.open_file()
    for i, atoms in enumerate(frames[:3000]):
        finder.add(atoms, i, 1.0)
    assert finder.part == 0.5**finder.bits <= 1 / 8 and not first.counts
    assert again.counts[0] / finder.part == pytest.approx(3000, rel=0.2)
    assert again.contradictions == again.counts[0]


def test_displacement_does_not_see_the_motion_of_the_whole():
    from scipy.spatial.transform import Rotation

    before = molecule("CH3CH2OH")
    after, forces = before.copy(), np.random.default_rng(0).normal(size=(9, 3))
    after.positions[3] += [0.01, 0, 0]
    inner, _ = displacement(before, after, forces)
    rotation = Rotation.from_rotvec([0.3, -0.2, 0.5]).as_matrix()
    after.positions = after.positions @ rotation.T + 5.0
    step, turned = displacement(before, after, forces @ rotation.T)
    np.testing.assert_allclose(step, inner, atol=1e-12)
    assert np.abs(turned - forces).max() < 0.02
    wrapped = ase.Atoms("H2", [[0.1, 0, 0], [2, 0, 0]], cell=[4, 4, 4], pbc=True)
    moved = wrapped.copy()
    moved.positions[0, 0] = 3.9
    np.testing.assert_allclose(displacement(wrapped, moved, forces[:2])[0][0], [-0.2, 0, 0], atol=1e-12)


def test_steps_on_a_harmonic_surface():
    """Springs of known stiffness: the curvature is the stiffness, and the work is the change of the energy."""
    steps, stiffness = Steps(), 12.0
    rest = molecule("CH3CH2OH")
    rest.set_cell([20, 20, 20])
    rest.pbc = True
    for scale in np.linspace(0.05, 0.1, 8):
        atoms = rest.copy()
        shift = scale * np.random.default_rng(1).normal(size=(9, 3))
        atoms.positions += shift
        steps.add(atoms, -stiffness * shift, 0.5 * stiffness * (shift**2).sum())
    np.testing.assert_allclose(steps.curvatures, stiffness, rtol=1e-9)
    np.testing.assert_allclose(steps.works, 1.0, rtol=1e-9)


def test_all_electron_energies_of_atoms():
    # Hartree-Fock energies (Hartree).
    for number, energy in ((1, -0.5), (6, -37.69), (8, -74.81), (18, -526.8), (36, -2752.05)):
        assert all_electron_energy(np.array([number])) == pytest.approx(energy, rel=0.015)


@pytest.fixture(scope="module")
def dynamics(bundled_data):
    """Frames of molecular dynamics, labelled by tight binding: no all-electron energies."""
    return ase.io.read(bundled_data / "train_300K.xyz.gz", ":60")


@pytest.mark.parametrize(
    ("unit", "energy", "force"),
    [
        ("eV", 1.0, 1.0),
        ("Hartree", ase_units.Hartree, ase_units.Hartree / ase_units.Bohr),
        ("kcal/mol", ase_units.kcal / ase_units.mol, ase_units.kcal / ase_units.mol),
    ],
)
def test_units_of_forces_follow_from_the_stiffness_of_bonds(dynamics, unit, energy, force):
    steps, squares = Steps(), []
    for atoms in dynamics:
        forces = atoms.calc.results["forces"] / force
        steps.add(atoms, forces, atoms.calc.results["energy"] / energy)
        squares.append((forces**2).mean())
    assert len(steps.curvatures) > 30
    guess = guess_units(Evidence(curvatures=steps.curvatures, forces_rms=float(np.sqrt(np.mean(squares)))))
    assert guess.forces.split("/")[0] == unit.split("/")[0] and guess.probability > 0.5
    assert not guess.gradients and (guess.is_expected or unit != "eV")


def test_gradients_instead_of_forces_are_noticed(dynamics):
    steps = Steps()
    for atoms in dynamics:
        steps.add(atoms, -atoms.calc.results["forces"], 0.0)
    guess = guess_units(Evidence(curvatures=steps.curvatures, forces_rms=1.0))
    assert guess.gradients and not guess.is_expected


def test_units_of_all_electron_energies_and_of_lengths():
    numbers = np.array([6, 1, 1, 1, 1])
    ratio = -40.5 / all_electron_energy(numbers)
    assert guess_units(Evidence(all_electron=[ratio])).energy == "Hartree"
    assert guess_units(Evidence(all_electron=[ratio * ase_units.Hartree])).energy == "eV"
    assert (
        guess_units(Evidence(all_electron=[ratio * ase_units.Hartree / (ase_units.kcal / ase_units.mol)])).energy
        == "kcal/mol"
    )
    for length, contact in (("Å", 1.0), ("Bohr", 1.0 / ase_units.Bohr), ("nm", 0.1)):
        guess = guess_units(Evidence(contacts=[contact]))
        assert guess.length == length and guess.is_expected == (length == "Å")


def test_nothing_tells_no_units():
    guess = guess_units(Evidence())
    assert (guess.energy, guess.forces, guess.length, guess.sureness) == (None, None, None, "unsure")
    assert guess.is_expected and str(guess) == "nothing tells"


def test_energies_in_the_unit_of_the_forces_or_not():
    expected = Evidence(curvatures=[30.0] * 10, works=[1.0] * 10, forces_rms=1.0)
    mixed = Evidence(curvatures=[30.0] * 10, works=[1 / ase_units.Hartree] * 10, forces_rms=1.0)
    assert (guess_units(expected).energy, guess_units(mixed).energy) == ("eV", "Hartree")
    assert guess_units(mixed).forces == "eV/Å" and not guess_units(mixed).is_expected


def test_batches():
    batch = recommend_batch([100] * 50, largest=500, memory_gb=8.0)
    assert batch["max_edges_per_batch"] == 3200 and batch["frames_per_batch"] == 32
    assert recommend_batch([100] * 50, largest=3000, memory_gb=8.0)["max_edges_per_batch"] == 12000
    small = recommend_batch([100] * 50, largest=500, memory_gb=1000 * BYTES_PER_EDGE / 1e9)
    assert small["max_edges_per_batch"] == small["memory_edges"] == 1000
    assert recommend_batch([9], largest=5000, memory_gb=1e-3)["max_edges_per_batch"] == 5000


def test_roles_by_name():
    for path, expected in {
        "train_300K.xyz": "train",
        "aspirin_train.xyz.gz": "train",
        "test_300K.xyz": "test",
        "train/test_600K.xyz": "test",
        "s2ef/val_id/0.lmdb": "test",
        "val_ood_cat.lmdb": "test",
        "validation.db": "test",
        "s2ef_train_200K/0.extxyz.xz": "train",
        "valence.xyz": None,
        "iso_atoms.xyz": None,
        "latest.xyz": None,
    }.items():
        assert role(path) == expected, path
