"""A training that is ended from outside, at any moment, goes on to the same bits."""

import csv
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mace_gaunt.model.checkpoint import WEIGHTS

EPOCHS = 40
# Signal -> the exit status of a shell's child that it ended; -9 cannot be answered.
STATUSES = {"SIGKILL": -9, "SIGTERM": 143, "SIGUSR1": 138, "SIGINT": 130, "SIGHUP": 129}


def start(words: list[str], folder: Path) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "mace_gaunt.cli.main", "train", *words]
    with (folder / "log").open("ab") as log:
        return subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)


def epochs(table: Path) -> int:
    """How many epochs a training has told of."""
    return max(len(table.read_text().splitlines()) - 1, 0) if table.is_file() else 0


def rows(table: Path) -> list[dict[str, str]]:
    with table.open() as file:
        return [
            {key: value for key, value in row.items() if key not in ("seconds", "data_wait")}
            for row in csv.DictReader(file)
        ]


@pytest.mark.slow
@pytest.mark.parametrize("name", STATUSES)
def test_a_training_ended_three_times_is_one_that_was_not(name, data_file, tmp_path):
    if signal.getsignal(getattr(signal, name)) is signal.SIG_IGN:
        pytest.skip("these tests run under nohup, where it stays ignored")
    words = ["debug=fast", f"train_file={data_file}", "data.valid_size=2", "data.batch_size=1", "device=cpu"]
    words += [f"max_epochs={EPOCHS}", "resume=auto", "deterministic=true"]
    whole = start([*words, "run=whole"], tmp_path)
    draw = random.Random(name)
    table = tmp_path / "runs" / "parts" / "metrics.csv"
    for _ in range(3):
        before, process = epochs(table), start([*words, "run=parts"], tmp_path)
        while epochs(table) < min(before + draw.randrange(2, 8), EPOCHS - 3) and process.poll() is None:
            time.sleep(0.01)
        time.sleep(draw.random() * 0.2)
        process.send_signal(getattr(signal, name))
        assert process.wait(timeout=120) == STATUSES[name], (tmp_path / "log").read_text()
    assert epochs(table) < EPOCHS
    assert start([*words, "run=parts"], tmp_path).wait(timeout=300) == 0, (tmp_path / "log").read_text()
    assert whole.wait(timeout=300) == 0
    one, other = (tmp_path / "runs" / folder for folder in ("whole", "parts"))
    assert rows(one / "metrics.csv") == rows(other / "metrics.csv")
    assert (one / "model" / WEIGHTS).read_bytes() == (other / "model" / WEIGHTS).read_bytes()
