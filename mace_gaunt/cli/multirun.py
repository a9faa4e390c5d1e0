"""`--multirun`: every combination of comma-separated values, through Hydra's sweeper and launchers."""

import csv
import importlib.util
import itertools
import json
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_config_search_path
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hydra.version import setbase
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from mace_gaunt.cli.arguments import Arguments
from mace_gaunt.cli.build import refuse_limits
from mace_gaunt.cli.compose import JOB, Composed, compose, explain, finish, overrides, register
from mace_gaunt.cli.main import report_error
from mace_gaunt.cli.quiet import quiet
from mace_gaunt.cli.request import Request, read_request, set_nested
from mace_gaunt.cli.run_folder import RunFolder, check_free, name_folder
from mace_gaunt.cli.train import default_stem, train
from mace_gaunt.cli.values import parse_value
from mace_gaunt.errors import UserError, nearest
from mace_gaunt.files import write_csv

SUMMARY = "sweep.csv"
# What a job leaves when it has failed, and when it has come to its end.
ERROR, OVERRIDES = "error.txt", "overrides.txt"
TETRIS = "tetris.json"
# Launchers that run jobs side by side: package, and what installs it.
LAUNCHERS = {
    "joblib": ("hydra_plugins.hydra_joblib_launcher", "mace-gaunt[joblib]"),
    "submitit_local": ("hydra_plugins.hydra_submitit_launcher", "mace-gaunt[slurm]"),
    "submitit_slurm": ("hydra_plugins.hydra_submitit_launcher", "mace-gaunt[slurm]"),
}


def run_multirun(arguments: Arguments) -> int:
    """Train every combination; job n lives in runs/<run>/<n>, and sweep.csv compares them.

    Args:
        arguments: The command line of `train`.

    Returns:
        Exit status: 1 when a job failed.

    Raises:
        UserError: If nothing has several values, a combination is wrong, or the folder is taken.
    """
    quiet()
    request = read_request("train", arguments)
    if not request.sweeps:
        raise UserError("--multirun needs a key with several values, such as tensor_product=gaunt,clebsch_gordan.")
    if "--print-config" in arguments.flags:
        raise UserError("--print-config shows one configuration: leave --multirun out and choose one value per key.")
    check_launcher(request.hydra)
    jobs = check_jobs(request)
    first = jobs[0]
    folder = name_folder(first.config.run, default_stem(first))
    # Beyond these the folder may hold jobs of an earlier, longer sweep.
    launched = [folder / str(number) for number in range(len(jobs))]
    for job, path in zip(jobs, launched, strict=True):
        refuse_limits(job.config, "end jobs before they have a result")
        check_start(job, path)
    if "--validate-only" in arguments.flags:
        train(first, validate_only=True)
        return 0
    check_free(folder, first.config.overwrite or first.config.resume != "never", "never")
    for path in launched:
        forget(path)
    launch(request, folder)
    return summarize(folder, launched)


def check_launcher(words: list[str]) -> None:
    """Refuse a launcher that is misspelt or not installed, naming what installs it.

    Args:
        words: Hydra's own overrides, such as "hydra/launcher=joblib"; other plugins than ours are left to Hydra.

    Raises:
        UserError: If it cannot be used.
    """
    for name in (word.partition("=")[2] for word in words if word.startswith("hydra/launcher=")):
        if name not in LAUNCHERS:
            hint = nearest(name, LAUNCHERS)
            if "Did you mean" in hint:
                raise UserError(f"there is no launcher '{name}'.{hint}")
            continue
        package, extra = LAUNCHERS[name]
        try:
            found = importlib.util.find_spec(package)
        except ModuleNotFoundError:
            found = None
        if found is None:
            raise UserError(f"hydra/launcher={name} needs: pip install '{extra}'")


def check_jobs(request: Request) -> list[Composed]:
    """Compose every combination, so that a mistake stops the sweep before its first job.

    Args:
        request: The sorted request.

    Returns:
        The jobs, in the order of their numbers.

    Raises:
        UserError: At the first wrong combination.
    """
    parser = OverridesParser.create()
    values = []
    for text in request.sweeps:
        override = parser.parse_override(text)
        if not override.is_discrete_sweep():
            raise UserError(f"{text.removeprefix('++')}: only values with commas, choice() and range() can be swept.")
        values.append([f"{override.get_key_element()}={value}" for value in override.sweep_string_iterator()])
    return [compose(one_job(request, list(combination))) for combination in itertools.product(*values)]


def check_start(job: Composed, folder: Path) -> None:
    """Refuse what contradicts the model that a job starts from; a job that goes on has one of its own.

    Args:
        job: The job; it is not changed.
        folder: Its folder.

    Raises:
        UserError: If there is no such model, or a setting of the job is not that of the model.
    """
    if job.config.init is not None:
        from mace_gaunt.cli.finetune import find_start

        last = folder / "checkpoints" / "last.ckpt"
        goes_on = job.config.resume != "never" and last.is_file()
        run = RunFolder(folder, last if goes_on else None, job.config.overwrite)
        find_start(job.config.copy(), job.request, run)


def forget(job: Path) -> None:
    """Remove what an earlier sweep noted of a job, so that all of it is of this one.

    Args:
        job: Folder of the job; it may not be there.
    """
    for name in (ERROR, OVERRIDES):
        (job / name).unlink(missing_ok=True)


def one_job(request: Request, chosen: list[str]) -> Request:
    """The request of one combination.

    Args:
        request: The request of the sweep.
        chosen: One override for each of its sweeps.
    """
    job = replace(request, sweeps=[], choices=dict(request.choices), body=deepcopy(request.body))
    for text in chosen:
        key, _, value = text.partition("=")
        if key.startswith("++"):
            set_nested(job.body, key[2:], parse_value(value))
        else:
            job.choices[key] = parse_value(value)
    return job


def launch(request: Request, folder: Path) -> None:
    """Run the jobs through Hydra.

    Args:
        request: The request of the sweep.
        folder: Folder of the jobs.

    Raises:
        UserError: If Hydra refuses the sweep.
    """
    register(request)
    settings = [
        f"hydra.sweep.dir='{folder}'",
        "hydra.sweep.subdir=${hydra.job.num}",
        "hydra.output_subdir=null",
        "hydra/job_logging=none",
        "hydra/hydra_logging=none",
    ]
    setbase("1.3")
    hydra = Hydra.create_main_hydra2("mace-gaunt", create_config_search_path(str(request.folders[0])))
    try:
        hydra.multirun(
            config_name=JOB,
            task_function=Job(request, folder),
            overrides=[*overrides(request), *request.sweeps, *settings],
            with_log_configuration=False,
        )
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(explain(error)) from error
    finally:
        GlobalHydra.instance().clear()


class Job:
    """One training of a sweep; an object, so that launchers can send it to other processes."""

    def __init__(self, request: Request, folder: Path) -> None:
        self.request, self.folder = request, folder

    def __call__(self, config: DictConfig) -> float:
        """Train what the sweeper composed.

        Returns:
            The best validation loss, for sweepers that optimise; infinite for a failed job.
        """
        hydra = HydraConfig.get()
        folder = self.folder / str(hydra.job.num)
        swept = {text.partition("=")[0] for text in self.request.sweeps}
        words = [str(word) for word in hydra.overrides.task if str(word).partition("=")[0] in swept]
        chosen = " ".join(word.removeprefix("++") for word in words)
        print(f"\njob {hydra.job.num}: {chosen}", flush=True)
        config = config.copy()
        try:
            composed = finish(config, hydra.runtime.choices, one_job(self.request, words))
            config.run = f"./{folder}" if not folder.is_absolute() else str(folder)
            loss = train(composed)
        except Exception as error:
            report_error(error)
            folder.mkdir(parents=True, exist_ok=True)
            (folder / ERROR).write_text(f"{type(error).__name__}: {error}\n")
            return float("inf")
        (folder / OVERRIDES).write_text(chosen + "\n")
        return float("nan") if loss is None else loss


def summarize(folder: Path, jobs: Sequence[Path]) -> int:
    """Compare the jobs: a table on the terminal and sweep.csv.

    Args:
        folder: Folder of the sweep.
        jobs: Folders of its jobs.

    Returns:
        1 when a job failed, else 0.
    """
    rows = [_row(job) for job in jobs]
    write_csv(folder / SUMMARY, rows, floats="")
    failed = [row["job"] for row in rows if "error" in row]
    print(f"\n{len(rows)} jobs in {folder}; compared in {folder / SUMMARY}")
    for row in rows:
        print(f"  {row['job']:>3}  {row.get('overrides', '')}  {row.get('error') or _errors(row)}")
    return 1 if failed else 0


def _errors(row: dict[str, Any]) -> str:
    """Validation errors in words; cells are empty where there are no labels. Of the Tetris task what was learned."""
    if "pieces_right" in row:
        apart = "told apart" if row["chiral_pair_separated"] else "not told apart"
        return f"{row['pieces_right']} of 8 pieces named right, mirror images {apart}"
    names = {"E": ("energy_rmse_meV", "meV"), "F": ("forces_rmse_meV_A", "meV/Å")}
    words = [f"{name} {float(row[key]):.1f} {unit}" for name, (key, unit) in names.items() if row.get(key)]
    return f"validation RMSE {'  '.join(words)}"


def _row(job: Path) -> dict[str, Any]:
    """Job number, its overrides, and its errors on the validation frames or in the Tetris task, or why it failed."""
    if (job / ERROR).is_file():
        return {"job": job.name, "error": (job / ERROR).read_text().strip()}
    if not (job / OVERRIDES).is_file():
        return {"job": job.name, "error": "not finished"}
    told = {"job": job.name, "overrides": (job / OVERRIDES).read_text().strip()}
    if (job / TETRIS).is_file():
        return {**told, **json.loads((job / TETRIS).read_text())}
    with (job / "report" / "metrics.csv").open(newline="") as file:
        valid = next(row for row in csv.DictReader(file) if row["split"] == "valid")
    return {**told, **valid}
