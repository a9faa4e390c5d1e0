"""The sides of a comparison: which there are, and the process of each."""

import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mace_gaunt.benchmark.peer.client import Client
from mace_gaunt.benchmark.peer.kernel_choice import AUTO, Known, kernel_choice, suits
from mace_gaunt.benchmark.peer.settings import Settings
from mace_gaunt.data.bundled import PACKAGE
from mace_gaunt.errors import UserError

OURS, PEER = "mace_gaunt", "mace-torch"
HERE = Path(__file__).resolve().parent
PEER_FOLDER = ".venv-peer"

KEEP_MEMORY = {
    # What our commands set from inside (`cli.machine.keep_memory`), here for any process that uses glibc.
    "MALLOC_MMAP_THRESHOLD_": str(2**31 - 1),
    "MALLOC_TRIM_THRESHOLD_": str(2**31 - 1),
    "MALLOC_TOP_PAD_": str(256 * 2**20),
}


@dataclass(frozen=True)
class Side:
    """One program in one form.

    Attributes:
        program: `OURS` or `PEER`.
        family: Choice of the group tensor_product; empty for mace-torch.
        variant: eager, compiled, cueq or oeq.
        kernel: Of ours: the kernels asked for; see `kernel_choice`.
    """

    program: str
    family: str
    variant: str
    kernel: str = AUTO

    @property
    def name(self) -> str:
        """For tables and messages."""
        kernel = "" if self.kernel == AUTO else self.kernel
        return " ".join(word for word in (self.program, self.family, kernel, self.variant) if word)


def list_sides(settings: Settings, kernels: Mapping[str, Known]) -> list[Side]:
    """All sides of a request, ours first.

    Args:
        settings: The request.
        kernels: Family -> the kernels that it has; one that a family lacks is left to the others.
    """
    ours = [
        Side(OURS, family, variant, kernel)
        for family in settings.families
        for kernel in settings.kernel
        if suits(kernel, kernels[family])
        for variant in settings.ours
    ]
    return ours + [Side(PEER, "", variant) for variant in settings.peer]


def find_peer(given: str | None) -> Path:
    """The Python of the environment with mace-torch.

    Args:
        given: The folder that the user named; by default `PEER_FOLDER` here or in the checkout.

    Raises:
        UserError: If there is none; says how to make it.
    """
    folders = [Path(given).expanduser()] if given else [Path(PEER_FOLDER), PACKAGE.parent / PEER_FOLDER]
    for folder in folders:
        if (folder / "bin" / "python").exists():
            return (folder / "bin" / "python").absolute()
    raise UserError(
        f"no environment with mace-torch in {given or PEER_FOLDER}. Make it: bash scripts/make_peer_env.sh "
        f"{given or ''}".rstrip()
        + ". Or leave mace-torch out: peer=none."
    )


def start(side: Side, settings: Settings, peer: Path | None, cache: Path) -> Client:
    """Start the process of a side.

    Args:
        side: The side.
        settings: The request: threads and allocator.
        peer: Python of the peer's environment.
        cache: Folder that holds the compiled code of the sides, so that none finds what others have compiled.

    Raises:
        WorkerError: If it does not start.
    """
    python, backend = (sys.executable, "own.py") if side.program == OURS else (str(peer), "mace_torch.py")
    # -P keeps the folder of the worker off sys.path, where its neighbours would hide modules of the same names.
    command = [python, "-P", str(HERE / "worker.py"), str(HERE / backend)]
    return Client(side.name, command, environment(side, settings, os.environ, cache))


def environment(side: Side, settings: Settings, inherited: Mapping[str, str], cache: Path) -> dict[str, str]:
    """Environment variables of the process of a side."""
    threads, own_cache = str(settings.threads), str(cache / re.sub(r"\W+", "-", side.name))
    found = {**inherited, "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads, "TORCHINDUCTOR_CACHE_DIR": own_cache}
    if side.program == PEER:
        # What points at our packages must not reach the peer.
        found = {name: value for name, value in found.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
    if settings.allocator == "kept" or (settings.allocator == "own" and side.program == OURS):
        found |= KEEP_MEMORY
    return found


def build_settings(side: Side, problem: Mapping[str, Any], products: Mapping[str, Any]) -> dict[str, Any]:
    """What the command `build` of a side takes.

    Args:
        side: The side.
        problem: From `problem.training_problem` or `problem.box_problem`.
        products: Family -> its two factories as the config group describes them.
    """
    own = {"products": products[side.family], "kernel": kernel_choice(side.kernel)} if side.program == OURS else {}
    return {**problem, "variant": side.variant, **own}
