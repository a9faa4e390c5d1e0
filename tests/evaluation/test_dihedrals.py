"""Dihedral slices of 3BPA."""

import io

import ase.io
import numpy as np
import pytest
from matplotlib.image import imread

from mace_gaunt.data.atomic_data import AtomicData
from mace_gaunt.evaluation.dihedrals import plot_slice, slice_angles, slice_errors, write_slice
from mace_gaunt.evaluation.plots import read_columns


@pytest.fixture(scope="module")
def scan(bundled_data):
    """Frames of the bundled scan, every seventh of the first two slices."""
    return ase.io.read(bundled_data / "test_dih.xyz.gz", ":450:7")


def graphs(structures):
    return [AtomicData.from_atoms(atoms, 1.0, [1, 6, 7, 8]) for atoms in structures]


def test_angles_are_those_of_the_file(scan):
    slices = {beta: [atoms for atoms in scan if atoms.info["dihedrals"][1] == beta] for beta in (120, 150)}
    assert all(len(found) > 20 for found in slices.values())
    for found in slices.values():
        angles, wanted = slice_angles(graphs(found)), np.stack([atoms.info["dihedrals"] for atoms in found])
        assert np.abs((angles - wanted + 180) % 360 - 180).max() < 0.02
        assert angles.min() >= 0 and angles.max() < 360
    assert slice_angles(graphs(scan)) is None  # two values of beta
    assert slice_angles([]) is None
    assert slice_angles(graphs([ase.Atoms("H27", np.arange(81).reshape(27, 3))])) is None


def test_the_numbering_of_the_benchmark():
    """Atoms of alpha, beta and gamma as the files of the benchmark number them."""
    symbols = "CCCHCONNHHCHHCCHHCCCHCHCHHH"
    random = np.random.default_rng(0)
    atoms = ase.Atoms(list(symbols), random.normal(size=(27, 3)) * 5)
    found = slice_angles(graphs([atoms]))
    wanted = [atoms.get_dihedral(*quad) for quad in ([13, 5, 1, 4], [1, 5, 13, 14], [5, 13, 14, 18])]
    np.testing.assert_allclose(found[0], wanted, atol=0.01)


def test_energies_are_relative_and_drawn(tmp_path):
    alpha, gamma = (grid.ravel() for grid in np.meshgrid(np.arange(0, 180, 15.0), np.arange(0, 90, 15.0)))
    angles = np.stack([alpha, np.full_like(alpha, 150.0), gamma], axis=1)
    reference = -17660 + np.sin(np.radians(alpha)) ** 2 + 0.1 * np.cos(np.radians(gamma))
    predicted = reference + 5.0 + 0.01 * np.sin(np.radians(gamma))
    reference[3] = np.nan
    path = write_slice(tmp_path / "slice.csv", angles, reference, predicted)
    columns = read_columns(path)
    lowest = np.argmin(columns["reference_meV"])
    assert len(columns["alpha_deg"]) == 71
    assert columns["reference_meV"][lowest] == columns["predicted_meV"][lowest] == 0
    errors = slice_errors(path)
    assert errors["n_frames"] == 71 and 0 < errors["n_low"] < 71
    assert 1 < errors["rmse_meV"] < 11  # the shift of 5 eV is no error of relative energies
    image = imread(plot_slice(path, tmp_path / "slice.png"))
    assert image.shape[0] > 800 and image[..., :3].std() > 0.05
    assert write_slice(tmp_path / "none.csv", angles, np.full(72, np.nan), predicted) is None


def test_a_report_of_a_slice(scan, springs, tmp_path):
    from rich.console import Console

    from mace_gaunt.evaluation.report import report

    class AnyElement(type(springs)):
        """Springs between atoms of four elements."""

    springs.__class__, springs.atomic_numbers, springs.r_max = AnyElement, [1, 6, 7, 8], 1.0
    springs.E0s = springs.E0s.new_tensor([-13.0, -1029.0, -1484.0, -2042.0])
    frames = graphs([atoms for atoms in scan if atoms.info["dihedrals"][1] == 120][:12])
    for step, frame in enumerate(frames):
        frame.energy[:] = 0.1 * step
    settings = {"progress": False, "console": Console(file=io.StringIO())}
    report(springs, {"test_dih_beta120": frames, "test_300K": frames}, tmp_path, **settings)
    assert (tmp_path / "dihedral_test_dih_beta120.png").is_file() and not list(tmp_path.glob("dihedral_test_300K*"))
    assert "Dihedral slices of 3BPA" in (tmp_path / "report.html").read_text(encoding="utf-8")
