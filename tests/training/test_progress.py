"""What is said of a training while it runs."""

import io
import math
from collections.abc import Callable
from typing import Any

import pytest
from rich.console import Console

from mace_gaunt.training import module, progress
from mace_gaunt.training.schedulers import constant
from mace_gaunt.training.stopping import StopTraining


def test_the_bar_asks_no_other_process(train: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first process alone has one; the others would not answer."""
    screen, asked = io.StringIO(), []
    real = module.mean_over_processes
    monkeypatch.setattr(progress, "Console", lambda **options: Console(file=screen, force_terminal=True, width=200))
    monkeypatch.setattr(module, "mean_over_processes", lambda value: asked.append(1) or real(value))
    refreshed: list[float] = []
    refresh = progress.ProgressReport._refresh

    def count(self: Any, trainer: Any, pl_module: Any, loss: float) -> None:
        refreshed.append(loss)
        refresh(self, trainer, pl_module, loss)

    monkeypatch.setattr(progress.ProgressReport, "_refresh", count)
    train(2)
    assert len(asked) == 2  # one a validation, where every process asks
    assert len(refreshed) > 2 and all(map(math.isfinite, refreshed)) and refreshed[-1] > 0
    assert "1/2" in screen.getvalue()


def test_a_training_without_an_end(
    train: Callable, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    steps_left: list[float] = []
    monkeypatch.setattr(module, "choose_gradient", lambda *arguments: steps_left.append(arguments[-1]))
    run = train(-1, scheduler=constant, callbacks=(StopTraining(steps=7),))
    assert run.stopped == "stopped after 7 steps of this start"
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("epoch")]
    assert [line.split("  ")[0] for line in lines] == ["epoch 1", "epoch 2"]
    assert all(line.endswith(" elapsed, no end") for line in lines)
    assert steps_left == [math.inf]
