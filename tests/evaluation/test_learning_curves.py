"""Curves of a training."""

import numpy as np
import pytest
from matplotlib.image import imread

from mace_gaunt.evaluation.learning_curves import last_row, plot_training, seconds_per_epoch
from mace_gaunt.evaluation.plots import read_columns


def write(path, header, lines):
    path.write_text("\n".join([header, *lines]) + "\n")
    return path


def test_curves(tmp_path):
    header = "epoch,seconds,train/loss,valid/loss,valid/loss_energy,valid/forces_rmse_meV_A,lr,note"
    lines = [f"{n},{2 * n},{9 / n},{'' if n % 2 else 5 / n},{4 / n},{80 / n},0.01,x" for n in range(1, 9)]
    path = write(tmp_path / "metrics.csv", header, lines)
    image = imread(plot_training(path, tmp_path / "curve.png"))
    assert image.shape[1] > image.shape[0] > 600 and image[..., :3].std() > 0.02
    assert last_row(path)["valid/loss"] == 5 / 8 and "note" not in last_row(path)
    few = write(tmp_path / "few.csv", "epoch,train/loss", ["1,2"])
    assert imread(plot_training(few, tmp_path / "few.png")).shape[0] > 300
    nothing = write(tmp_path / "nothing.csv", "epoch,train/loss", [])
    assert imread(plot_training(nothing, tmp_path / "nothing.png")).shape[0] > 300
    write(path, "step,loss", ["1,2"])
    with pytest.raises(ValueError, match="no column 'epoch'; it has step, loss"):
        plot_training(path, tmp_path / "curve.png")


def test_time_per_epoch(tmp_path):
    path = write(tmp_path / "metrics.csv", "epoch,seconds", ["1,10", "3,30", "4,35", "5,2"])
    times = seconds_per_epoch(read_columns(path))
    assert times[:3].tolist() == [10, 10, 5] and np.isnan(times[3])
