"""Molecular dynamics with a potential, through ASE's integrators; and several replicas of it."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import ase

from mace_gaunt.errors import UserError
from mace_gaunt.files import new_folder
from mace_gaunt.simulation.calculator import MaceGauntCalculator
from mace_gaunt.simulation.health import SimulationError
from mace_gaunt.simulation.md_checkpoint import NAME, Checkpoint, load_checkpoint
from mace_gaunt.simulation.md_run import begin_simulation, continue_simulation
from mace_gaunt.simulation.md_settings import TRAJECTORIES, MDSettings, check_whole, check_word
from mace_gaunt.simulation.output import check_output
from mace_gaunt.simulation.progress import ProgressLine
from mace_gaunt.simulation.recorder import Marks, Recorder, files
from mace_gaunt.simulation.replicas import SUMMARY, replica_folder, write_summary
from mace_gaunt.simulation.structures import check_structure
from mace_gaunt.simulation.trajectories import check_library, drafts

__all__ = ["SimulationError", "run_md", "run_replicas"]

RESUME = ("never", "auto", "must")


def run_md(
    calculator: MaceGauntCalculator,
    atoms: ase.Atoms,
    out: str | Path,
    *,
    resume: str = "never",
    overwrite: bool = False,
    progress: bool = True,
    **settings: Any,
) -> dict[str, Any]:
    """Run molecular dynamics and write trajectory, `md.csv`, `health.json`, `health.txt`, `md.png`, `checkpoint.npz`.

    Structures without constraints keep their centre of mass at rest, and temperatures count the degrees of freedom
    that are left. All input is checked, and the first energy computed, before the folder is made. Energy, forces,
    temperature and closest distance are watched at every step, distances per pair of elements, neighbours and density
    at every `interval`-th. In float64 on one thread a simulation that was killed and goes on gives the same files, byte
    for byte (.traj and .h5: value for value), as one that was not.

    SIGTERM and SIGINT (in the main thread) end it after the step with a checkpoint.

    Args:
        calculator: The potential. Its neighbour list and cache are cleared first.
        atoms: Start structure; copied, never changed. Its masses, tags and constraints are used.
        out: Folder for the files.
        resume: "auto" goes on from the checkpoint in `out` if there is one, "must" needs one, "never" looks at none.
        overwrite: Whether files of an earlier run in `out` may be replaced.
        progress: Whether a progress line goes to stderr.
        settings: See `MDSettings`.

    Returns:
        The content of health.json.

    Raises:
        UserError: If the input is wrong; nothing is written then.
        SimulationError: If the run became unphysical. Its files are there, health.json with `finished: false`.
    """
    chosen = MDSettings.of(settings)
    folder, checkpoint = plan(out, resume, overwrite, chosen)
    line = ProgressLine(chosen.steps, "md", "steps", progress)
    return _run(calculator, atoms, folder, checkpoint, chosen, line, [folder])


def run_replicas(
    calculator: MaceGauntCalculator,
    atoms: ase.Atoms,
    out: str | Path,
    replicas: int,
    *,
    resume: str = "never",
    overwrite: bool = False,
    progress: bool = True,
    **settings: Any,
) -> list[dict[str, Any]]:
    """Run the same simulation with several seeds, one after the other.

    Replica k has seed + k and the folder `replica_k` in out; `replicas.csv` has a row for each.

    Args:
        calculator: See `run_md`.
        atoms: See `run_md`.
        out: Folder of the folders.
        replicas: How many.
        resume: See `run_md`; "must" asks for the checkpoint of the first one at least.
        overwrite: See `run_md`.
        progress: See `run_md`.
        settings: See `MDSettings`.

    Returns:
        The health of each.

    Raises:
        UserError: If the input is wrong; nothing is written then.
        SimulationError: If a replica became unphysical; the others have been run all the same.
    """
    check_whole("replicas", replicas, 1)
    chosen = MDSettings.of(settings)
    seeds = [replace(chosen, seed=chosen.seed + number) for number in range(replicas)]
    folder = check_output(out, () if resume != "never" else (SUMMARY,), overwrite)
    plans = [
        plan(replica_folder(folder, number), "auto" if resume == "must" and number else resume, overwrite, one)
        for number, one in enumerate(seeds)
    ]
    healths: list[dict[str, Any]] = []
    failures: list[str] = []
    for number, ((place, checkpoint), one) in enumerate(zip(plans, seeds, strict=True)):
        line = ProgressLine(one.steps, f"replica {number + 1} of {replicas}", "steps", progress)
        # Once one begins anew, so do the later ones: a resume must not find their checkpoints of an earlier run.
        fresh = [later for later, known in plans[number:] if known is None]
        try:
            healths.append(_run(calculator, atoms, place, checkpoint, one, line, fresh))
        except SimulationError as error:
            healths.append(error.health)
            failures.append(f"replica {number}: {error.health['reason']}")
        write_summary(folder, healths)
    if failures:
        message = (
            f"{len(failures)} of {replicas} replicas were stopped ({'; '.join(failures)}). See {folder / SUMMARY}."
        )
        raise SimulationError(message, {"replicas": healths})
    return healths


def plan(out: str | Path, resume: str, overwrite: bool, settings: MDSettings) -> tuple[Path, Checkpoint | None]:
    """Decide where a simulation lives and whether it goes on; writes nothing.

    Args:
        out: Its folder.
        resume: See `run_md`.
        overwrite: See `run_md`.
        settings: Its settings.

    Returns:
        The folder, and the checkpoint to go on from.

    Raises:
        UserError: If the folder is taken, there is nothing to go on from, or the settings are others now.
    """
    check_word("resume", resume, RESUME)
    check_library(settings.trajectory)
    folder = check_output(out, (), overwrite)
    checkpoint = None if resume == "never" else load_checkpoint(folder)
    if checkpoint is not None:
        settings.check_continues(checkpoint.info["settings"])
        return folder, checkpoint
    if resume == "must":
        raise UserError(f"resume=must: there is no {folder / NAME}.")
    check_output(out, (*_all_files(), NAME), overwrite, can_resume=(folder / NAME).is_file())
    return folder, None


def _run(
    calculator: MaceGauntCalculator,
    atoms: ase.Atoms,
    folder: Path,
    checkpoint: Checkpoint | None,
    settings: MDSettings,
    line: ProgressLine,
    fresh: Sequence[Path],
) -> dict[str, Any]:
    """A planned simulation from its first or next step to its end; clears the fresh folders if it begins anew."""
    check_structure(atoms, calculator.model.atomic_numbers)
    if checkpoint is None:
        simulation = begin_simulation(calculator, atoms, settings)
        for place in fresh:
            _clear(place)
        columns = simulation.sample.columns(settings.ensemble)
        with new_folder(folder), Recorder(folder, settings.interval, settings.trajectory, columns) as recorder:
            simulation.record(recorder, wanted=True)
            simulation.save(recorder)
            return simulation.go(recorder, line)
    simulation = continue_simulation(calculator, atoms, settings, checkpoint)
    marks = Marks(**checkpoint.info["files"])
    with Recorder(folder, settings.interval, settings.trajectory, marks.columns, marks) as recorder:
        return simulation.go(recorder, line)


def _all_files() -> Sequence[str]:
    return sorted({name for trajectory in TRAJECTORIES for name in files(trajectory)})


def _clear(folder: Path) -> None:
    """Remove what an earlier run left; its checkpoint first, which belongs to the rest."""
    for path in (folder / NAME, *drafts(folder / "trajectory"), *(folder / name for name in _all_files())):
        path.unlink(missing_ok=True)
