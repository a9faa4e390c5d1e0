"""A training on two processes that are started from outside, as by torchrun."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def start_both(words: list[str], folder: Path) -> list[str]:
    """Run a command on two processes; gives what each printed."""
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": "2", "OMP_NUM_THREADS": "1"}
    shared |= {"TORCHELASTIC_RUN_ID": "test", "LOCAL_WORLD_SIZE": "2", "GROUP_RANK": "0"}
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "mace_gaunt.cli.main", *words],
            cwd=folder,
            env=os.environ | shared | {"RANK": rank, "LOCAL_RANK": rank},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in ("0", "1")
    ]
    outputs = [process.communicate(timeout=300)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], "\n".join(outputs)
    return outputs


@pytest.mark.slow
def test_both_go_on_from_the_checkpoint(data_file: Path, tmp_path: Path) -> None:
    words = ["train", f"train_file={data_file}", "debug=fast", "data.valid_size=2", "batch_size=2", "device=cpu"]
    words += ["kernel=direct", "trainer.devices=2", "trainer.strategy=ddp", "resume=auto"]
    start_both([*words, "run=whole"], tmp_path)
    start_both([*words, "run=parts", "stop_after_steps=3"], tmp_path)
    first, second = start_both([*words, "run=parts"], tmp_path)
    assert "runs/parts (continued)" in first
    assert "changed on resume" in first and "changed on resume" not in second
    whole, parts = (
        torch.load(tmp_path / "runs" / name / "checkpoints" / "last.ckpt", weights_only=True)
        for name in ("whole", "parts")
    )
    assert whole["global_step"] == parts["global_step"] == 4
    assert all(torch.equal(value, parts["state_dict"][name]) for name, value in whole["state_dict"].items())
