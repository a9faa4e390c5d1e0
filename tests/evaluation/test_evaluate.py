"""A model over splits, and the report."""

import io
import math

import numpy as np
import pytest
from rich.console import Console

from mace_gaunt.errors import UserError
from mace_gaunt.evaluation.evaluate import evaluate_splits, predict_splits
from mace_gaunt.evaluation.metrics import COLUMNS
from mace_gaunt.evaluation.report import report
from mace_gaunt.evaluation.split_report import file_name


def test_errors_of_a_model(springs, frames):
    (row,) = evaluate_splits(springs, {"test": frames}, progress=False)
    assert row["n_frames"] == 3 and row["n_frames_with_forces"] == 2
    assert row["energy_rmse_meV"] == pytest.approx(math.sqrt((100 + 400 + 1600) / 3))
    assert row["energy_mae_meV"] == pytest.approx(70 / 3)
    assert row["energy_rmse_meV_per_atom"] == pytest.approx(math.sqrt((25 + 400 / 9 + 1600) / 3))
    assert row["forces_rmse_meV_A"] == pytest.approx(5) and row["forces_mae_meV_A"] == pytest.approx(5)


def test_batches_do_not_matter(springs, frames):
    for max_edges in (1, 8, 1000):
        found = predict_splits(springs, {"a": frames * 3}, max_edges_per_batch=max_edges, progress=False)["a"]
        assert found.n_atoms.tolist() == [2, 3, 1] * 3
        assert found.atomic_numbers.tolist() == [8, 1, 8, 1, 1, 1] * 3
        np.testing.assert_allclose((found.energy - found.energy_label).reshape(3, 3), [[0.01, -0.02, 0.04]] * 3)


def test_splits_stay_in_order_and_may_be_empty(springs, frames):
    rows = evaluate_splits(springs, {"b": frames[:1], "none": [], "a": frames[1:]}, progress=False)
    assert [(row["split"], row["n_frames"]) for row in rows] == [("b", 1), ("none", 0), ("a", 2)]
    assert rows[1]["energy_rmse_meV"] is None and rows[1]["forces_mae_meV_A"] is None


def test_a_model_is_left_as_it_is(springs, frames):
    springs.train()
    evaluate_splits(springs, {"a": frames}, progress=False)
    assert springs.training and springs.stiffness.grad is None and springs.stiffness.requires_grad


def run_report(springs, splits, out, **settings):
    console = Console(file=io.StringIO(), width=80)
    rows = report(springs, splits, out, progress=False, console=console, **settings)
    return rows, console.file.getvalue()


def test_report_writes_tables_predictions_and_plots(springs, frames, tmp_path):
    splits = {"test_300K": frames, "train_mixedT[334:]": frames[:1]}
    rows, text = run_report(springs, splits, tmp_path / "new" / "report")
    out = tmp_path / "new" / "report"
    assert (out / "metrics.csv").read_text().splitlines()[0] == ",".join(COLUMNS)
    assert len((out / "metrics.csv").read_text().splitlines()) == 3
    written = "metrics.csv by_element.csv by_force_size.csv report.json report.html predictions by_element.png"
    plots = "by_force_size.png parity_test_300K.png parity_train_mixedT_334-.png"
    assert {path.name for path in out.iterdir()} == {*written.split(), *plots.split()}
    saved = np.load(out / "predictions" / "test_300K.npz")
    assert (saved["energy"] - saved["energy_label"]).tolist() == pytest.approx([0.01, -0.02, 0.04])
    assert saved["forces"].shape == (6, 3) and np.isnan(saved["forces_label"][5]).all()
    assert "train_mixedT[334:]" in text and f"{rows[0]['energy_rmse_meV']:.2f}" in text
    assert "test_300K: 1 of 3 frames have no forces" in text
    assert "papers" not in text


def test_published_rows_stand_beside_real_3bpa_splits(springs, frames, tmp_path):
    splits = {"test_600K_dev": frames, "mine": frames}
    _, text = run_report(springs, splits, tmp_path, published=True)
    assert "papers: test_600K" in text and "MACE-Gaunt" in text and "22.2±0.2" in text
    assert "arXiv 2401.10216" in text
    assert "test_300K" not in text


def test_reports_are_kept_unless_told_otherwise(springs, frames, tmp_path):
    run_report(springs, {"a": frames}, tmp_path)
    with pytest.raises(UserError, match=r"already holds metrics\.csv"):
        run_report(springs, {"b": frames}, tmp_path)
    run_report(springs, {"b": frames}, tmp_path, overwrite=True)
    assert (tmp_path / "metrics.csv").read_text().splitlines()[1].startswith("b,3,")


def test_nothing_is_written_when_a_prediction_fails(springs, frames, tmp_path, monkeypatch):
    def failing(*_, **__):
        raise RuntimeError("out of memory")

    monkeypatch.setattr(springs, "forward", failing)
    with pytest.raises(RuntimeError, match="out of memory"):
        run_report(springs, {"a": frames}, tmp_path / "out")
    with pytest.raises(UserError, match="no split"):
        run_report(springs, {}, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_file_names():
    assert file_name("train_mixedT[334:]") == "train_mixedT_334-"
    assert file_name("a/b c[::2]") == "a_b_c_--2"
