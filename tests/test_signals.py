"""SIGTERM and SIGHUP clear up what was begun."""

import os
import signal
import subprocess
import sys

import pytest

from mace_gaunt.signals import StopSignals, termination_unwinds


@pytest.fixture(autouse=True)
def no_nohup():
    """These tests may themselves run under nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_it_unwinds_and_leaves_no_handler(number):
    cleared = []
    with pytest.raises(SystemExit) as ended, termination_unwinds():
        try:
            os.kill(os.getpid(), number)
        finally:
            # The kernel and the shell both tell of a closed terminal.
            os.kill(os.getpid(), signal.SIGHUP)
            cleared.append(signal.getsignal(signal.SIGTERM))
    assert ended.value.code == 128 + number and cleared == [signal.SIG_DFL]
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL is signal.getsignal(signal.SIGHUP)


def test_under_nohup_a_closed_terminal_ends_nothing():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with termination_unwinds():
            os.kill(os.getpid(), signal.SIGHUP)
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_closed_terminal_is_noted_once():
    with pytest.raises(SystemExit) as ended, StopSignals() as signals:
        # The kernel and the shell both tell of it.
        os.kill(os.getpid(), signal.SIGHUP)
        os.kill(os.getpid(), signal.SIGHUP)
        signals.raise_received()
    assert ended.value.code == 129 and signal.getsignal(signal.SIGHUP) is signal.SIG_DFL


def test_under_nohup_it_is_not_noted():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with StopSignals() as signals:
            os.kill(os.getpid(), signal.SIGHUP)
        assert signals.received is None and signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


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
