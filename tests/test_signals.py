"""SIGTERM clears up what was begun."""

import os
import signal
import subprocess
import sys

import pytest

from mace_gaunt.signals import termination_unwinds


def test_it_unwinds_and_leaves_no_handler():
    cleared = []
    with pytest.raises(SystemExit) as ended, termination_unwinds():
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        finally:
            cleared.append(True)
    assert ended.value.code == 143 and cleared
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_another_handler_stays(monkeypatch):
    heard = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: heard.append(number))
    try:
        with termination_unwinds():
            os.kill(os.getpid(), signal.SIGTERM)
        assert heard == [signal.SIGTERM]
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_comparison_stops_its_trainings(tmp_path, monkeypatch):
    """Told to end while a training runs, it ends the training, too."""
    from mace_gaunt.comparison import local
    from mace_gaunt.comparison.members import Member

    member = Member({"tensor_product": "gaunt", "seed": 0}, tmp_path)
    started = []

    def launch(member, cores):
        code = "import time; time.sleep(600)"
        started.append(local.Training([sys.executable, "-S", "-c", code], member.log, cores))
        return started[0]

    def end(member, status):
        raise AssertionError("ended by itself")

    real = local.time.sleep

    def sleep(seconds):
        monkeypatch.setattr(local.time, "sleep", real)
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(local.time, "sleep", sleep)
    with pytest.raises(SystemExit), termination_unwinds():
        local.run_all([member], [local.own_cores()[:1]], launch, end)
    assert isinstance(started[0]._process, subprocess.Popen) and started[0]._process.poll() is not None
