"""The running fit behind the drift, and batching."""

import math

import numpy as np
import pytest

from mace_gaunt.simulation.health import HealthMonitor, Sample
from mace_gaunt.simulation.progress import ProgressLine
from mace_gaunt.simulation.running import LinearFit


def test_running_fit_equals_least_squares_under_a_large_offset():
    rng = np.random.default_rng(0)
    x = np.linspace(0, 5, 4000)
    y = -17660.0 + 3e-4 * x + rng.normal(scale=1e-3, size=x.size)
    fit = LinearFit()
    for point in zip(x, y, strict=True):
        fit.add(*point)
    assert fit.slope == pytest.approx(np.polyfit(x - x.mean(), y - y.mean(), 1)[0], rel=1e-7)
    assert fit.std_y == pytest.approx(y.std(), rel=1e-7)


def test_nothing_to_fit():
    fit = LinearFit()
    assert fit.slope is None and fit.std_y is None
    fit.add(1.0, 2.0)
    assert fit.slope is None and fit.std_y == 0


def sample(step=0, energy=-1.0, temperature=300.0, closest=1.0):
    return Sample(step, step * 1e-3, energy, 0.5, temperature, closest)


@pytest.mark.parametrize(
    ("bad", "word"),
    [
        (sample(energy=math.nan), "potential energy is nan"),
        (sample(energy=-math.inf), "potential energy is -inf"),
        (sample(temperature=1001.0), "1001 K"),
        (sample(temperature=math.nan), "temperature is nan"),
        (sample(closest=0.29), "0.290 Å"),
    ],
)
def test_each_kind_of_failure_is_named(bad, word):
    monitor = HealthMonitor(n_atoms=3, max_temperature_K=1000.0)
    assert monitor.check(sample()) is None and monitor.check(sample(closest=None)) is None
    assert word in monitor.check(bad)
    summary = monitor.summary()
    assert summary["temperature_mean_K"] == 300.0  # the failed step does not spoil the means


def test_progress_in_a_file_is_sparse(capsys):
    line = ProgressLine(1000, "md", "steps")
    for step in range(1000):
        line.update(step + 1)
    assert capsys.readouterr().err == ""
    line.close("done")
    assert capsys.readouterr().err.startswith("md 1000/1000 steps, ")
