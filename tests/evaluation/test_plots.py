"""Plots are drawn, and leave matplotlib as it was."""

import subprocess
import sys

import matplotlib
import numpy as np
import pytest
from matplotlib.image import imread

from mace_gaunt.evaluation.metrics import Predictions
from mace_gaunt.evaluation.plots import plot_parity, plot_training_curve


def predictions(n_frames: int, n_atoms: int, forces: bool = True) -> Predictions:
    rng = np.random.default_rng(0)
    energy, force = rng.normal(-17660, 1, n_frames), rng.normal(size=(n_frames * n_atoms, 3))
    return Predictions(
        n_atoms=np.full(n_frames, n_atoms),
        frame_index=np.arange(n_frames),
        atomic_numbers=np.ones(n_frames * n_atoms, dtype=int),
        energy=energy + rng.normal(scale=0.05, size=n_frames),
        energy_label=energy,
        forces=force + rng.normal(scale=0.05, size=force.shape),
        forces_label=force if forces else np.full_like(force, np.nan),
    )


def is_drawn(path) -> bool:
    image = imread(path)
    return image.shape[0] > 300 and image[..., :3].std() > 0.02


@pytest.mark.parametrize("found", [predictions(40, 27), predictions(5, 2), predictions(1, 1), predictions(8, 3, False)])
def test_parity(found, tmp_path):
    assert is_drawn(plot_parity("test_300K", found, tmp_path / "parity.png"))


def test_parity_without_frames(tmp_path):
    assert plot_parity("none", predictions(0, 0), tmp_path / "parity.png").stat().st_size > 1000


def test_training_curve(tmp_path):
    csv = tmp_path / "metrics.csv"
    lines = ["epoch,train/loss,valid/loss,valid/energy_rmse_meV,valid/forces_rmse_meV_A,note"]
    lines += [
        f"{epoch},{9 / (epoch + 1)},{'' if epoch % 2 else 5 / (epoch + 1)},{80 / (epoch + 1)},," for epoch in range(9)
    ]
    csv.write_text("\n".join(lines) + "\n")
    assert is_drawn(plot_training_curve(csv, tmp_path / "curve.png"))
    csv.write_text("step,loss\n1,2\n")
    with pytest.raises(ValueError, match="no column 'epoch'; it has step, loss"):
        plot_training_curve(csv, tmp_path / "curve.png")


def test_nothing_global_changes(tmp_path):
    settings = dict(matplotlib.rcParams)
    plot_parity("x", predictions(5, 2), tmp_path / "parity.png")
    assert dict(matplotlib.rcParams) == settings
    script = "import sys, mace_gaunt.evaluation.plots; assert 'matplotlib.pyplot' not in sys.modules"
    subprocess.run([sys.executable, "-c", script], check=True)
