"""Predictions that are read back in parts, and written for other programs."""

import io

import ase.io
import numpy as np
import pytest
from rich.console import Console

from mace_gaunt.errors import UserError
from mace_gaunt.evaluation.evaluate import join, predict_splits
from mace_gaunt.evaluation.metrics import LAYOUT
from mace_gaunt.evaluation.prediction_files import check_predictions_file, read_predictions
from mace_gaunt.evaluation.report import report


@pytest.fixture
def written(springs, frames, tmp_path):
    """Splits, and where a report of them and the files of predictions lie."""
    splits = {"a": frames * 2, "none": [], "b": frames[:1]}
    for name in ("all.extxyz", "all.npz"):
        settings = {"predictions": tmp_path / name, "overwrite": True, "equivariance_frames": 0}
        report(springs, splits, tmp_path, progress=False, console=Console(file=io.StringIO()), **settings)
    return splits, tmp_path


@pytest.mark.parametrize("at_once", [1, 4, 100])
def test_reading_back(springs, written, at_once):
    splits, folder = written
    whole = predict_splits(springs, splits, progress=False)["a"]
    parts = list(read_predictions(folder / "predictions" / "a.npz", at_once))
    assert len(parts) == -(-6 // at_once)
    for name in LAYOUT:
        assert np.array_equal(getattr(join(parts), name), getattr(whole, name), equal_nan=whole.energy.dtype == float)
    assert list(read_predictions(folder / "predictions" / "none.npz")) == []


def test_files_that_are_none(tmp_path):
    (tmp_path / "text.npz").write_text("no archive")
    np.savez(tmp_path / "other.npz", energy=np.zeros(3))
    with pytest.raises(UserError, match=r"text\.npz cannot be read"):
        list(read_predictions(tmp_path / "text.npz"))
    with pytest.raises(UserError, match=r"other\.npz holds no n_atoms, frame_index"):
        list(read_predictions(tmp_path / "other.npz"))


def test_as_structures(springs, written):
    splits, folder = written
    whole = predict_splits(springs, splits, progress=False)
    found = ase.io.read(folder / "all.extxyz", ":")
    assert [atoms.info["split"] for atoms in found] == ["a"] * 6 + ["b"]
    energies = [atoms.get_potential_energy() for atoms in found]
    np.testing.assert_allclose(energies, [*whole["a"].energy, *whole["b"].energy], rtol=1e-12)
    np.testing.assert_allclose(np.concatenate([a.get_forces() for a in found[:6]]), whole["a"].forces, atol=1e-8)
    assert found[1].info["REF_energy"] == pytest.approx(whole["a"].energy_label[1], rel=1e-12)
    assert "REF_forces" in found[1].arrays and "REF_forces" not in found[2].arrays
    np.testing.assert_allclose(found[1].positions, splits["a"][1].positions.numpy())


def test_as_arrays(springs, written):
    splits, folder = written
    content = np.load(folder / "all.npz", allow_pickle=False)
    assert content["split"].tolist() == ["a"] * 6 + ["b"] and set(content.files) == {"split", *LAYOUT}
    whole = predict_splits(springs, splits, progress=False)
    assert np.array_equal(content["forces"], np.concatenate([whole["a"].forces, whole["b"].forces]))


def test_names_of_files(tmp_path):
    (tmp_path / "there.npz").touch()
    assert check_predictions_file(tmp_path / "there.npz", True).suffix == ".npz"
    for name, message in (("a.csv", "ends in"), ("there.npz", "exists already"), ("no/a.npz", "no folder")):
        with pytest.raises(UserError, match=message):
            check_predictions_file(tmp_path / name, False)
