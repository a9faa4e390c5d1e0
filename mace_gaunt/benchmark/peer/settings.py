"""What `benchmark step` and `benchmark md` can be asked, and the defaults. Imports nothing heavy: the help reads it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mace_gaunt.benchmark.keys import Key, choice, choices, flag, integer, integers, positive, word, words
from mace_gaunt.errors import UserError

EAGER, COMPILED = "eager", "compiled"
PEER_VARIANTS = (EAGER, COMPILED, "cueq", "oeq")
ALLOCATORS = ("own", "kept", "default")
WHAT_STEP, WHAT_MD = ("infer", "step"), ("infer", "md")
"""Steps last: they change the weights, and the first values of a program's forms are compared."""


def variants(*known: str) -> Callable[[str], tuple[str, ...]]:
    """Reads several of some words, or "none"."""

    def read(text: str) -> tuple[str, ...]:
        return () if text == "none" else choices(*known)(text)

    return read


SHARED_KEYS = {
    "out": Key(word, "folder for results.csv, ratios.csv, benchmark.json (needed)"),
    "overwrite": Key(flag, "whether out may hold earlier results (false)"),
    "num_channels": Key(integer(1), "channels per degree (64)"),
    "max_L": Key(integer(0), "largest degree of the features between layers (1)"),
    "max_ell": Key(integer(0), "largest degree of harmonics and messages (3)"),
    "correlation": Key(integer(1), "order of the node product (3)"),
    "num_interactions": Key(integer(1), "layers (2)"),
    "r_max": Key(positive, "cutoff in Å (5.0)"),
    "families": Key(words, "of ours: choices of tensor_product, such as gaunt,clebsch_gordan (gaunt)"),
    "ours": Key(variants(EAGER, COMPILED), "this program: eager, compiled; none (eager,compiled)"),
    "kernel": Key(word, "of ours: kernel of the products, or auto (auto)"),
    "peer": Key(
        variants(*PEER_VARIANTS),
        "mace-torch: eager, compiled, with cuequivariance (cueq) or openequivariance (oeq); none (eager)",
    ),
    "peer_env": Key(word, "environment with mace-torch, from scripts/make_peer_env.sh (.venv-peer)"),
    "threads": Key(integer(1), "processor threads of each side (as torch finds them)"),
    "dtype": Key(choice("float32", "float64"), "float32 | float64 (float32)"),
    "device": Key(choice("cpu", "cuda"), "cpu | cuda (cpu)"),
    "allocator": Key(
        choice(*ALLOCATORS), "own: as each program's commands leave it; kept: both keep memory; default: neither (own)"
    ),
    "rounds": Key(integer(1), "fewest rounds, in each of which every side has its turn (5)"),
    "seconds": Key(positive, "measuring time of each side (10)"),
    "timeout": Key(positive, "longest time for one answer, compilation included, in seconds (1800)"),
    "seed": Key(integer(0), "of the weights, and of the velocities (0)"),
}

STEP_KEYS = SHARED_KEYS | {
    "what": Key(choices(*WHAT_STEP), "infer (energy and forces), step (one of the optimizer) (infer,step)"),
    "data": Key(word, "3bpa_xtb, 3bpa or a FILE of labelled structures (3bpa_xtb)"),
    "batch_size": Key(integer(1), "structures per batch (5)"),
    "batches": Key(integer(1), "different batches, taken in turn (4)"),
    "profile": Key(flag, "on a CPU: where the step of each eager side spends its time, profile.csv (true)"),
}

MD_KEYS = SHARED_KEYS | {
    "what": Key(choices(*WHAT_MD), "infer (energy and forces alone), md (a step of ASE's velocity Verlet) (md)"),
    "structure": Key(word, "FILE (a molecule of the bundled data)"),
    "index": Key(integer(0), "frame of the file (0)"),
    "repeat": Key(integers(1), "copies along each axis, such as 1,2,3; molecules are put into a box for it (1)"),
    "steps": Key(integer(1), "steps of a turn, always from the same start (20)"),
    "timestep_fs": Key(positive, "time step in fs (0.5)"),
    "temperature_K": Key(positive, "of the velocities at the start (300)"),
}


@dataclass(frozen=True)
class Settings:
    """What both instruments have; attributes are the keys."""

    out: str
    overwrite: bool = False
    what: tuple[str, ...] = ()
    num_channels: int = 64
    max_L: int = 1
    max_ell: int = 3
    correlation: int = 3
    num_interactions: int = 2
    r_max: float = 5.0
    families: tuple[str, ...] = ("gaunt",)
    kernel: str = "auto"
    ours: tuple[str, ...] = (EAGER, COMPILED)
    peer: tuple[str, ...] = (EAGER,)
    peer_env: str | None = None
    threads: int | None = None
    dtype: str = "float32"
    device: str = "cpu"
    allocator: str = "own"
    rounds: int = 5
    seconds: float = 10.0
    timeout: float = 1800.0
    seed: int = 0


@dataclass(frozen=True)
class StepSettings(Settings):
    """A checked request for `benchmark step`."""

    what: tuple[str, ...] = WHAT_STEP
    data: str = "3bpa_xtb"
    batch_size: int = 5
    batches: int = 4
    profile: bool = True


@dataclass(frozen=True)
class MdSettings(Settings):
    """A checked request for `benchmark md`."""

    what: tuple[str, ...] = ("md",)
    structure: str | None = None
    index: int = 0
    repeat: tuple[int, ...] = (1,)
    steps: int = 20
    timestep_fs: float = 0.5
    temperature_K: float = 300.0


def step_settings(values: dict[str, Any]) -> StepSettings:
    """Settings of `benchmark step`.

    Args:
        values: The keys that were given.

    Raises:
        UserError: If `out` is missing, or there is no side at all.
    """
    check_sides(values)
    return StepSettings(**values)


def md_settings(values: dict[str, Any]) -> MdSettings:
    """Settings of `benchmark md`.

    Args:
        values: The keys that were given.

    Raises:
        UserError: If `out` is missing, or there is no side at all.
    """
    check_sides(values)
    return MdSettings(**values)


def check_sides(values: dict[str, Any]) -> None:
    """Refuse a request without a folder or without anything to time."""
    if "out" not in values:
        raise UserError("out is missing: give out=FOLDER for the results.")
    if values.get("families") == ():
        raise UserError("families=all is not possible: name them, such as families=gaunt,clebsch_gordan.")
    if values.get("ours") == values.get("peer") == ():
        raise UserError("ours=none peer=none leaves nothing to time.")
