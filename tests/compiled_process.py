"""One process of a compiled training on several: `training_process.py` with compile=on, without machine code."""

import functools
import os
from pathlib import Path

import torch
import training_process
from torch._dynamo.testing import CompileCounterWithBackend

from mace_gaunt.training.module import PotentialModule


def work(rank: int, world: int, folder: Path, batch_size: int, port: int) -> None:
    """Train as process `rank` of `world`, and write the number of graphs that were compiled beside the results."""
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    os.environ |= {"WORLD_SIZE": str(world), "RANK": str(rank), "LOCAL_RANK": str(rank)}
    os.environ |= {"LOCAL_WORLD_SIZE": str(world), "GROUP_RANK": "0", "TORCHELASTIC_RUN_ID": "test"}
    counter, compile = CompileCounterWithBackend("aot_eager"), torch.compile
    torch.compile = lambda graph, **options: compile(graph, backend=counter, **options)  # type: ignore[assignment]
    training_process.PotentialModule = functools.partial(PotentialModule, compile="on")  # type: ignore[misc]
    training_process.main(folder, batch_size)
    (folder / f"compiled_{world}_{rank}").write_text(str(counter.frame_count))
