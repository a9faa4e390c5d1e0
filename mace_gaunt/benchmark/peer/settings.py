"""What `benchmark step` and `benchmark md` can be asked, and the defaults. Imports nothing heavy: the help reads it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from mace_gaunt.benchmark.keys import Key, choice, choices, flag, integer, integers, positive, word, words
from mace_gaunt.benchmark.peer.kernel_choice import kernel_choices
from mace_gaunt.errors import UserError

EAGER, COMPILED = "eager", "compiled"
PEER_VARIANTS = (EAGER, COMPILED, "cueq", "oeq")
ALLOCATORS = ("own", "kept", "default")
WHAT_STEP, WHAT_MD = ("infer", "step"), ("infer", "md")
"""Steps last: they change the weights, and the first values of a program's forms are compared."""
AS_MAX_L = "max_L"


def variants(*known: str) -> Callable[[str], tuple[str, ...]]:
    """Reads several of some words, or "none"."""

    def read(text: str) -> tuple[str, ...]:
        return () if text == "none" else choices(*known)(text)

    return read


def read_max_ell(text: str) -> tuple[int, ...] | str:
    """Reads degrees, or "max_L" for the same as `max_L` in each problem."""
    return AS_MAX_L if text == AS_MAX_L else integers(0)(text)


SHARED_KEYS = {
    "out": Key(word, "folder for tables, benchmark.json and, of several problems, plots (needed)"),
    "overwrite": Key(flag, "whether out may hold earlier results (false)"),
    "num_channels": Key(integers(1), "channels per degree, such as 64 or 64,128: every combination is a problem (64)"),
    "max_L": Key(integers(0), "largest degree of the features between layers, such as 1 or 1..6 (1)"),
    "max_ell": Key(read_max_ell, "largest degree of harmonics and messages, such as 3; or max_L, as it is (3)"),
    "correlation": Key(integer(1), "order of the node product (3)"),
    "num_interactions": Key(integer(1), "layers (2)"),
    "r_max": Key(positive, "cutoff in Å (5.0)"),
    "families": Key(words, "of ours: choices of tensor_product, such as gaunt,clebsch_gordan (gaunt)"),
    "ours": Key(variants(EAGER, COMPILED), "this program: eager, compiled; none (eager,compiled)"),
    "kernel": Key(
        kernel_choices,
        "of ours: auto, or kernels that run beside each other, such as grid,fourier or {edge:fused,node:grid} (auto)",
    ),
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
    "limit": Key(positive, "a side whose call takes longer (s), or that fails, is left out of larger problems (10)"),
    "memory": Key(positive, "on a CPU: most memory of each side's process in GB; more is a failure (as there is)"),
    "timeout": Key(positive, "longest time for one answer, compilation included, in seconds (1800)"),
    "seed": Key(integer(0), "of the weights, and of the velocities (0)"),
}

STEP_KEYS = SHARED_KEYS | {
    "what": Key(choices(*WHAT_STEP), "infer (energy and forces), step (one of the optimizer) (infer,step)"),
    "data": Key(word, "3bpa_xtb, 3bpa or a FILE of labelled structures (3bpa_xtb)"),
    "batch_size": Key(integers(1), "structures per batch, such as 5 or 2,20,200 (5)"),
    "batches": Key(integer(1), "different batches, taken in turn (4)"),
    "profile": Key(flag, "on a CPU: where the step of each eager side spends its time, profile.csv (for one problem)"),
}

MD_KEYS = SHARED_KEYS | {
    "what": Key(choices(*WHAT_MD), "infer (energy and forces alone), md (a step of ASE's velocity Verlet) (md)"),
    "structure": Key(word, "FILE (a molecule of the bundled data)"),
    "index": Key(integer(0), "frame of the file (0)"),
    "mace": Key(word, "FOLDER of a MACE model (config.json, state_dict.npz), for both programs; else random weights"),
    "repeat": Key(integers(1), "copies along each axis, such as 1,2,3; molecules are put into a box for it (1)"),
    "steps": Key(integer(1), "steps of a turn, always from the same start (20)"),
    "timestep_fs": Key(positive, "time step in fs (0.5)"),
    "temperature_K": Key(positive, "of the velocities at the start (300)"),
}


@dataclass(frozen=True)
class Size:
    """One problem of a request.

    Attributes:
        num_channels: Channels.
        max_L: Largest degree between layers.
        max_ell: Largest degree of harmonics and messages.
        count: Structures of a batch; in molecular dynamics copies along each axis.
    """

    num_channels: int
    max_L: int
    max_ell: int
    count: int


@dataclass(frozen=True)
class Settings:
    """What both instruments have; attributes are the keys."""

    out: str
    overwrite: bool = False
    what: tuple[str, ...] = ()
    num_channels: tuple[int, ...] = (64,)
    max_L: tuple[int, ...] = (1,)
    max_ell: tuple[int, ...] | str = (3,)
    correlation: int = 3
    num_interactions: int = 2
    r_max: float = 5.0
    families: tuple[str, ...] = ("gaunt",)
    kernel: tuple[str, ...] = ("auto",)
    ours: tuple[str, ...] = (EAGER, COMPILED)
    peer: tuple[str, ...] = (EAGER,)
    peer_env: str | None = None
    threads: int | None = None
    dtype: str = "float32"
    device: str = "cpu"
    allocator: str = "own"
    rounds: int = 5
    seconds: float = 10.0
    limit: float = 10.0
    memory: float | None = None
    timeout: float = 1800.0
    seed: int = 0

    @property
    def counts(self) -> Sequence[int]:
        """`Size.count` of the problems."""
        raise NotImplementedError

    @property
    def sizes(self) -> list[Size]:
        """The problems, smaller ones before those that are larger in everything."""
        return [
            Size(channels, max_L, max_ell, count)
            for channels in self.num_channels
            for max_L in self.max_L
            for max_ell in ((max_L,) if isinstance(self.max_ell, str) else self.max_ell)
            for count in self.counts
        ]


@dataclass(frozen=True)
class StepSettings(Settings):
    """A checked request for `benchmark step`."""

    what: tuple[str, ...] = WHAT_STEP
    data: str = "3bpa_xtb"
    batch_size: tuple[int, ...] = (5,)
    batches: int = 4
    profile: bool | None = None

    @property
    def counts(self) -> Sequence[int]:
        return self.batch_size


@dataclass(frozen=True)
class MdSettings(Settings):
    """A checked request for `benchmark md`."""

    what: tuple[str, ...] = ("md",)
    structure: str | None = None
    index: int = 0
    mace: str | None = None
    repeat: tuple[int, ...] = (1,)
    steps: int = 20
    timestep_fs: float = 0.5
    temperature_K: float = 300.0

    @property
    def counts(self) -> Sequence[int]:
        return self.repeat


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
    if values.get("device") == "cuda" and "memory" in values:
        raise UserError("memory= is of processes on a CPU; with device=cuda leave it out.")
