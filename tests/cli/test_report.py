"""`mace-gaunt report`, and what `evaluate` writes beside its table."""

import json
import shutil

import ase.io
import pytest

PAGE = "report.html"


@pytest.fixture
def run(trained, tmp_path):
    """A copy of a finished run."""
    return shutil.copytree(trained, tmp_path / "runs" / "mine")


def test_a_training_leaves_its_page(trained):
    text = (trained / "report" / PAGE).read_text(encoding="utf-8")
    for shown in ("Errors of", "Training", "Configuration and origin", "kernels.", "data_sha256.", "versions.torch",
                  "max_epochs: 2"):  # fmt: skip
        assert shown in text


def test_from_the_run_folder_alone(run, command):
    before = (run / "report" / "metrics.csv").read_text()
    shutil.rmtree(run / "checkpoints")
    for path in run.glob("report/*.*"):
        path.unlink() if path.name not in ("metrics.csv", "report.json") else None
    status, out, err = command("report", "run=mine")
    assert status == 0 and "runs/mine/report/report.html" in out and "evaluate" not in err, err
    assert (run / "report" / "metrics.csv").read_text() == before
    assert (run / "report" / PAGE).is_file() and (run / "report" / "training_curve.png").is_file()


def test_from_the_model_and_from_a_checkpoint(run, command):
    before = (run / "report" / "metrics.csv").read_text()
    shutil.rmtree(run / "report")
    assert "from new predictions" in command("report", "run=mine", "--validate-only")[1]
    assert not (run / "report").exists()
    status, _, err = command("report", "run=mine")
    assert status == 0 and "structures/s" in err, err
    assert (run / "report" / "metrics.csv").read_text() == before
    shutil.rmtree(run / "model")
    status, _, err = command("report", "run=mine", "checkpoint=best", "out=other")
    assert status == 0, err
    about = json.loads((run.parents[1] / "other" / "report.json").read_text())["about"]
    assert about["weights"] == "checkpoints/best.ckpt" and about["model"] == "mine"
    assert (run.parents[1] / "other" / "metrics.csv").read_text() == before


def test_what_is_missing_is_named(run, refused, command):
    assert "there is no folder runs/min. Did you mean 'mine'" in refused("report", "run=min")
    assert "run is missing: give run=NAME" in refused("report")
    assert "Did you mean 'best'" in refused("report", "run=mine", "checkpoint=bst")
    assert "Did you mean 'checkpoint'" in refused("report", "run=mine", "checkpont=best")
    (run / "metrics.csv").unlink()
    shutil.rmtree(run / "model")
    shutil.rmtree(run / "checkpoints")
    assert "lacks metrics.csv, model/ or checkpoints/" in refused("report", "run=mine")
    assert "lacks metrics.csv, checkpoints/last.ckpt" in refused("report", "run=mine", "checkpoint=last")


def test_models_side_by_side(run, data_file, command, refused, tmp_path):
    shutil.copytree(run, tmp_path / "runs" / "other")
    words = ["evaluate", "model=[runs/mine,runs/other]", f"test_file={data_file}", "out=both", "compile=off"]
    for wrong, message in (
        ("predictions=a.npz", "is of one model"),
        ("model=[runs/mine,runs/mine/model]", "both called mine"),
        ("model=[runs/mine,runs/absent]", "absent"),
    ):
        assert message in refused(*words, wrong)
    status, out, err = command(*words)
    assert status == 0 and "side by side" in out, err
    lines = (tmp_path / "both" / "metrics.csv").read_text().splitlines()
    assert [line.split(",")[:2] for line in lines[1:]] == [["mine", "frames"], ["other", "frames"]]
    assert lines[1].split(",")[2:] == lines[2].split(",")[2:]
    assert all((tmp_path / "both" / name / PAGE).is_file() for name in ("", "mine", "other"))


def test_predictions_in_a_file(run, data_file, command, refused, tmp_path):
    words = ["evaluate", "model=runs/mine", f"test_file={data_file}", "out=report", "compile=off", "equivariance=2"]
    assert "ends in .extxyz or .npz" in refused(*words, "predictions=a.csv")
    status, out, err = command(*words, "predictions=a.extxyz")
    assert status == 0 and "predictions  a.extxyz" in out and "equivariance: rotated" in out, err
    assert len(ase.io.read(tmp_path / "a.extxyz", ":")) == 14
    text = (tmp_path / "report" / PAGE).read_text(encoding="utf-8")
    assert "F equivariance" in text and "model_sha256" in text and "Training (run.json)" in text
