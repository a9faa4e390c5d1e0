"""A report in Weights & Biases, offline: nothing is sent."""

import functools
import time

import pytest
from lightning.pytorch.loggers import CSVLogger, WandbLogger
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from mace_gaunt.training.loggers import SafeLogger


@pytest.fixture
def folder(tmp_path):
    """A report with one plot."""
    path = tmp_path / "report"
    (path / "predictions").mkdir(parents=True)
    (path / "metrics.csv").write_text("split,n_frames,forces_rmse_meV_A\na,3,1.5\nb,2,\n")
    (path / "report.html").write_text("<!DOCTYPE html><title>a</title>")
    figure = Figure(figsize=(2, 2))
    FigureCanvasAgg(figure)
    figure.savefig(path / "parity_a.png")
    return path


def test_offline(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    for name in ("DATA", "CACHE", "CONFIG"):
        monkeypatch.setenv(f"WANDB_{name}_DIR", str(tmp_path / name))
    logger = SafeLogger(functools.partial(WandbLogger, save_dir=str(tmp_path), project="p", offline=True))
    logger.log_metrics({"train/loss": 1.0}, 1)
    run = logger._logger.experiment
    logger.log_report(folder)
    assert logger._logger is not None, "the logger was dropped: something failed"
    run.finish()
    (kept,) = (tmp_path / "wandb").glob("offline-run-*")
    media = [path.name for path in kept.rglob("media/**/*") if path.is_file()]
    assert any(name.startswith("parity_a") for name in media) and any(name.startswith("metrics") for name in media)
    artifact, (record,) = f"report-{run.id}".encode(), kept.glob("*.wandb")
    # W&B's own process writes the record, maybe a moment after `finish`.
    for _ in range(100):
        if artifact in record.read_bytes():
            break
        time.sleep(0.1)
    assert artifact in record.read_bytes()


def test_other_loggers_take_none(folder, tmp_path):
    logger = SafeLogger(functools.partial(CSVLogger, save_dir=str(tmp_path / "csv")))
    logger.log_report(folder)
    assert logger._logger is not None
