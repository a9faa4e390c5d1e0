"""Speed and memory of all groups of a comparison, in turns, each in a process of its own.

The processes are those of `benchmark step` and `benchmark md`; here they compute with the models that were trained.
"""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any

import ase
import ase.io
import numpy as np
from ase.md.velocitydistribution import Stationary

from mace_gaunt.benchmark.peer.problem import FIXED, FRAMES_FILE, thermal_momenta
from mace_gaunt.benchmark.peer.results import megabytes, quartiles, tell_kernels
from mace_gaunt.benchmark.peer.settings import MdSettings
from mace_gaunt.benchmark.peer.sides import Side, start
from mace_gaunt.benchmark.peer.turns import Contestant, Tell, is_wanted, measure_peaks, noted, prepare, take_turn
from mace_gaunt.data.atomic_data import AtomicData

BATCHES = 4
"""Training batches that steps are timed on, in turn."""
MD_STEPS = 20
TEMPERATURE, TIMESTEP = 300.0, 0.5
"""Of the velocities (K), and the time step (fs): a flight of 10 fs, always from the same start."""
Speed = dict[str, Any]


@dataclass(frozen=True)
class Runner:
    """What is measured of a group.

    Attributes:
        side: The program, and the group as its family.
        settings: What its back end is built from, but for the frames.
    """

    side: Side
    settings: Mapping[str, Any]


def measure_speed(
    runners: Sequence[Runner],
    frames: Sequence[AtomicData],
    batch_size: int,
    settings: MdSettings,
    peer: Path | None,
    tell: Tell,
) -> dict[str, Speed]:
    """Time a training step on batches, energies and forces of one structure, and molecular dynamics of it.

    Args:
        runners: One for each group.
        frames: Training frames: batches are taken from them, and the first is the one structure.
        batch_size: Frames of a training batch.
        settings: Threads, rounds and seconds.
        peer: Python of mace-torch's environment, where one of them is mace-torch.
        tell: Told what goes on.

    Returns:
        Group -> `step_ms`, `infer_ms` (medians; _q1, _q3 quartiles), `md_steps_per_s`, `step_memory_MB` and
        `infer_memory_MB` (most that tensors hold in a call), `parameters`, `kernels`, `variant`, and `failed` where
        something did: what -> why.
    """
    with tempfile.TemporaryDirectory() as scratch, started(runners, settings, peer, Path(scratch)) as entrants:
        speeds: dict[str, Speed] = {runner.side.family: {"variant": runner.side.variant} for runner in runners}
        batches = write_frames([to_atoms(frame) for frame in frames[: batch_size * BATCHES]], Path(scratch) / "batches")
        build(entrants, runners, batches, min(batch_size, len(frames)), settings.timeout)
        turns(entrants, "step", settings, None, tell)
        for entrant in entrants:
            speeds[entrant.side.family] |= described(entrant) | figures(entrant, "step")
        single = write_frames([moving(to_atoms(frames[0]), settings.seed)], Path(scratch) / "single")
        build(entrants, runners, single, 1, settings.timeout)
        turns(entrants, "infer", settings, None, tell)
        turns(entrants, "md", settings, MD_STEPS, tell)
        for entrant in entrants:
            speeds[entrant.side.family] |= figures(entrant, "infer") | flights(entrant)
            if entrant.failed:
                speeds[entrant.side.family]["failed"] = dict(entrant.failed)
    return speeds


@contextmanager
def started(
    runners: Sequence[Runner], settings: MdSettings, peer: Path | None, folder: Path
) -> Iterator[list[Contestant]]:
    """A process for each group; they end at last."""
    entrants = [Contestant(runner.side) for runner in runners]
    try:
        for entrant in entrants:
            with noted(entrant, "start"):
                entrant.client = start(entrant.side, settings, peer, folder / "compiled")
        yield entrants
    finally:
        for entrant in entrants:
            if entrant.client is not None:
                entrant.client.close()


def build(
    entrants: Sequence[Contestant], runners: Sequence[Runner], frames: Path, batch_size: int, timeout: float
) -> None:
    """Let every process load its model and the frames; one that could not before is left alone."""
    for entrant, runner in zip(entrants, runners, strict=True):
        entrant.built = {}
        if entrant.client is not None and not {"start", "build"} & set(entrant.failed):
            with noted(entrant, "build"):
                entrant.built = entrant.ask(
                    "build", timeout, **runner.settings, frames=str(frames), batch_size=batch_size
                )


def turns(entrants: Sequence[Contestant], what: str, settings: MdSettings, calls: int | None, tell: Tell) -> None:
    """Let all compute in turns until each has been timed long enough.

    As `benchmark.peer.turns.race`, whose members have the same weights: here potentials, and so values, differ.
    """
    counts = {}
    for entrant in entrants:
        if entrant.built:
            tell(f"{entrant.side.name}: first {what}")
            with noted(entrant, what):
                counts[entrant.side] = prepare(entrant, what, settings.timeout, calls)
    active = [entrant for entrant in entrants if entrant.side in counts]
    tell(f"{what}: {len(active)} in turns")
    began, done = monotonic(), 0
    while active and is_wanted(done, monotonic() - began, settings, len(active)):
        for entrant in active:
            with noted(entrant, what):
                take_turn(entrant, what, settings.timeout, *counts[entrant.side])
        active = [entrant for entrant in active if what not in entrant.failed]
        done += 1
    if what != "md":
        measure_peaks(active, what, settings.timeout)


def described(entrant: Contestant) -> Speed:
    """What was built."""
    if not entrant.built:
        return {}
    kernels = entrant.built.get("kernels", {}).get("step", {})
    return {
        "parameters": entrant.built["parameters"],
        "kernels": tell_kernels(kernels),
        "version": entrant.built["version"],
    }


def figures(entrant: Contestant, what: str) -> Speed:
    """Times and memory of one quantity; none where it failed."""
    samples = [seconds * 1e3 for turn in entrant.rounds.get(what, []) for seconds in turn]
    if what in entrant.failed or not samples:
        return {}
    median, first, third = quartiles(samples)
    memory = megabytes(entrant.peaks.get(what, {}).get("tensors"))
    return {f"{what}_ms": median, f"{what}_ms_q1": first, f"{what}_ms_q3": third, f"{what}_memory_MB": memory}


def flights(entrant: Contestant) -> Speed:
    """Steps of molecular dynamics per second."""
    found = figures(entrant, "md")
    return {"md_steps_per_s": 1e3 / found["md_ms"]} if found else {}


def to_atoms(frame: AtomicData) -> ase.Atoms:
    """A frame with its labels where the processes look for them; absent ones are zero, which costs the same time."""
    atoms = ase.Atoms(
        frame.atomic_numbers.numpy(), frame.positions.numpy(), cell=frame.cell[0].numpy(), pbc=frame.pbc[0].numpy()
    )
    atoms.info["REF_energy"] = float(frame.energy.nan_to_num())
    atoms.arrays["REF_forces"] = np.asarray(frame.forces.nan_to_num())
    return atoms


def moving(atoms: ase.Atoms, seed: int) -> ase.Atoms:
    """The structure with thermal velocities."""
    atoms.set_momenta(thermal_momenta(atoms, TEMPERATURE, seed))
    Stationary(atoms)
    return atoms


def write_frames(frames: Sequence[ase.Atoms], folder: Path) -> Path:
    """The file that all processes read."""
    folder.mkdir(parents=True)
    ase.io.write(folder / FRAMES_FILE, list(frames), format="extxyz")
    return folder / FRAMES_FILE


def settings_of(config: Mapping[str, Any], variant: str, threads: int, device: str) -> dict[str, Any]:
    """What a back end is built from, of a member's completed configuration; the frames come later.

    Args:
        config: Plain keys, as the member's config.yaml has them.
        variant: "eager" or "compiled".
        threads: Processor threads.
        device: "cpu" or "cuda".
    """
    model = config["model"]
    shared = ("r_max", "max_ell", "max_L", "num_channels", "correlation", "num_interactions", "gate")
    statistics = ("atomic_numbers", "E0s", "avg_num_neighbors", "scale", "shift")
    given = ("num_bessel", "num_polynomial_cutoff", "radial_MLP", "MLP_irreps")
    return {
        **FIXED,
        **{name: model[name] for name in (*shared, *statistics, *given) if name in model},
        "variant": variant,
        "threads": threads,
        "dtype": config["dtype"],
        "device": device,
        "memory": None,
        "seed": config["seed"],
        "kernel": config.get("kernel") or "auto",
        "timestep_fs": TIMESTEP,
    }


def batch_size_of(config: Mapping[str, Any], frames: Sequence[AtomicData]) -> int:
    """Frames of a training batch; of a bound on edges as many mean frames as fit."""
    most = config["data"].get("max_edges_per_batch")
    if not most:
        return int(config["data"].get("batch_size") or 5)
    some = [frames[index].num_edges for index in range(0, len(frames), max(1, len(frames) // 50))]
    return max(1, int(most / max(1.0, sum(some) / len(some))))
