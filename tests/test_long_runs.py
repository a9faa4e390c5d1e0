"""scripts/long_runs.py: no process is left behind, and no speed is made up. Nothing is trained or simulated here."""

import importlib.util
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

FILE = Path(__file__).parents[1] / "scripts" / "long_runs.py"
GIVEN = {"train": "", "model": "m", "structure": "s"}


@pytest.fixture
def long_runs(monkeypatch):
    """The script as a module; its processes sleep, but for trainings, which end at once with status 3."""
    spec = importlib.util.spec_from_file_location("long_runs", FILE)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "long_runs", module)
    spec.loader.exec_module(module)
    codes = {"train": "raise SystemExit(3)", "md": "import time; time.sleep(600)"}

    def start(words, core):
        return subprocess.Popen([sys.executable, "-S", "-c", codes[words[0]]])

    monkeypatch.setattr(module, "start", start)
    monkeypatch.setattr(module, "PERIOD_S", 0.01)
    return module


def test_when_one_ends_the_other_is_ended(long_runs, tmp_path):
    with (
        pytest.raises(RuntimeError, match="training ended before its time, with status 3"),
        long_runs.both_started(GIVEN, [0, 1], tmp_path) as runs,
    ):
        other = runs["molecular dynamics"].process
        runs["training"].process.wait()
        assert other.poll() is None
        list(long_runs.sampled(runs, 600.0))
    assert other.poll() is not None


def test_fresh_ones_that_end_are_told_and_held_ones_ended(long_runs, tmp_path):
    """The old ones are held by SIGSTOP meanwhile."""
    with pytest.raises(RuntimeError, match="training ended"), long_runs.both_started(GIVEN, [0, 1], tmp_path) as runs:
        long_runs.against_fresh(runs, GIVEN, [0, 1], tmp_path / "fresh")
    assert all(run.process.poll() is not None for run in runs.values())


def test_speed_needs_two_changes(long_runs):
    seconds = np.arange(6.0)

    def speed(*steps):
        return long_runs.speed({"second": seconds, "step": np.array(steps, dtype=float)})

    assert speed(0, 10, 10, 30, 30, 50) == pytest.approx(10.0)
    assert math.isnan(speed(0, 0, 0, 5, 5, 5)) and math.isnan(speed(1, 1, 1, 1, 1, 1))
    assert long_runs.median([float("nan"), 3.0, 5.0]) == 4.0 and math.isnan(long_runs.median([float("nan")]))
