"""Plots are drawn, and leave matplotlib as it was."""

import subprocess
import sys

import matplotlib
import numpy as np
import pytest
from matplotlib.image import imread
from predicted import predicted

from mace_gaunt.evaluation.metrics import ErrorSums
from mace_gaunt.evaluation.parity_points import ParityPoints
from mace_gaunt.evaluation.plots import plot_parity


def predictions(n_frames: int, n_atoms: int, forces: bool = True):
    """A row of errors, and points."""
    rng = np.random.default_rng(0)
    energy, force = rng.normal(-17660, 1, n_frames), rng.normal(size=(n_frames * n_atoms, 3))
    part = predicted(
        np.full(n_frames, n_atoms),
        energy=energy + rng.normal(scale=0.05, size=n_frames),
        energy_label=energy,
        forces=force + rng.normal(scale=0.05, size=force.shape),
        forces_label=force if forces else np.full_like(force, np.nan),
    )
    errors, points = ErrorSums(), ParityPoints()
    errors.add(part)
    points.add(part)
    return errors.row("test_300K"), points


def is_drawn(path) -> bool:
    image = imread(path)
    return image.shape[0] > 300 and image[..., :3].std() > 0.02


@pytest.mark.parametrize("found", [predictions(40, 27), predictions(5, 2), predictions(1, 1), predictions(8, 3, False)])
def test_parity(found, tmp_path):
    assert is_drawn(plot_parity(*found, tmp_path / "parity.png"))


def test_parity_without_frames(tmp_path):
    assert plot_parity(*predictions(0, 0), tmp_path / "parity.png").stat().st_size > 1000


def test_nothing_global_changes(tmp_path):
    settings = dict(matplotlib.rcParams)
    plot_parity(*predictions(5, 2), tmp_path / "parity.png")
    assert dict(matplotlib.rcParams) == settings
    script = "import sys, mace_gaunt.evaluation.plots; assert 'matplotlib.pyplot' not in sys.modules"
    subprocess.run([sys.executable, "-c", script], check=True)
