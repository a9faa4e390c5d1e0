"""The Optuna study behind `mace-gaunt sweep`."""

import csv
import logging
from collections.abc import Collection
from pathlib import Path
from typing import Any

import lightning
import numpy as np

from mace_gaunt.cli.build import refuse_limits
from mace_gaunt.cli.compose import Composed, compose
from mace_gaunt.cli.main import report_error
from mace_gaunt.cli.request import Request
from mace_gaunt.cli.run_folder import check_free, name_folder
from mace_gaunt.cli.sweep_plan import STUDY, Plan, begin, begun_before, go_on, is_sweep, with_values, write_plan
from mace_gaunt.cli.train import default_stem, train
from mace_gaunt.errors import UserError, nearest
from mace_gaunt.evaluation.metrics import COLUMNS
from mace_gaunt.files import write_csv

SUMMARY = "sweep.csv"
# Trials that are trained to their end before any is stopped early.
STARTUP_TRIALS = 4


class Report(lightning.Callback):
    """Tells Optuna the objective after every validation, and ends a trial that it gives up."""

    def __init__(self, trial: Any, objective: str, prune: bool) -> None:
        self.trial, self.objective, self.prune = trial, objective, prune

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Report.

        Raises:
            TrialPruned: If the trial is worse than the others were at this epoch.
        """
        import optuna

        value = trainer.callback_metrics.get(f"valid/{self.objective}")
        if trainer.sanity_checking or value is None or not self.prune:
            return
        self.trial.report(float(value), trainer.current_epoch)
        if self.trial.should_prune():
            raise optuna.TrialPruned()


def run_study(request: Request, settings: dict[str, Any], given: Collection[str]) -> int:
    """Run the trials and compare them.

    Args:
        request: What is trained.
        settings: Keys of the sweep, complete.
        given: Those of them that stand on the command line.

    Returns:
        Exit status: 1 when no trial succeeded.

    Raises:
        UserError: If Optuna is not there, the folder is taken, the space does not fit the training, or a sweep that
            goes on would become another one.
    """
    optuna = import_optuna()
    if settings["objective"] not in COLUMNS[2:]:
        raise UserError(f"no objective '{settings['objective']}'.{nearest(str(settings['objective']), COLUMNS[2:])}")
    begun = begun_before(request)
    plan = begin(request, settings) if begun is None else go_on(begun, request, settings, given)
    first = plan.first()
    folder = name_folder(first.config.run, default_stem(first))
    anew = begins_anew(first.config.resume, first.config.run)
    check_free(folder, first.config.overwrite or not anew, "never")
    if not anew and begun is None and is_sweep(folder):
        raise UserError(f"to go on with the sweep in {folder}, write run= and resume=auto on the command line.")
    refuse_limits(first.config, "end trials before they have a result")
    train(alone(first, folder), validate_only=True)
    folder.mkdir(parents=True, exist_ok=True)
    if anew:
        (folder / STUDY).unlink(missing_ok=True)
    write_plan(folder, plan)
    study = open_study(optuna, folder, plan.settings["prune"])
    trial_of = Trials(plan, folder, int(first.config.seed))
    while len(finished(optuna, study)) < plan.settings["trials"]:
        trial_of(optuna, study)
        write_summary(optuna, study, folder / SUMMARY)
    return tell(optuna, study, folder, plan.settings["objective"])


def begins_anew(resume: str, run: str | None) -> bool:
    """Whether a sweep begins, rather than going on.

    Args:
        resume: "never" or "auto".
        run: Name of the sweep.

    Raises:
        UserError: If `resume` is neither, or there is no name to go on with.
    """
    if resume not in ("never", "auto"):
        raise UserError(f"resume={resume} is not possible: a sweep goes on with resume=auto.")
    if resume == "auto" and run is None:
        raise UserError("resume=auto needs run=NAME: which sweep is to be continued?")
    return resume == "never"


def import_optuna() -> Any:
    """Optuna, silent.

    Raises:
        UserError: If it is not installed.
    """
    try:
        import optuna
    except ImportError as error:
        raise UserError(f"a sweep needs Optuna ({error}): pip install 'mace-gaunt[sweep]'") from error
    optuna.logging.set_verbosity(logging.ERROR)
    return optuna


def open_study(optuna: Any, folder: Path, prune: bool) -> Any:
    """The study of a folder, made or continued; its sampler is set for every trial (`sampler_of`)."""
    from optuna.storages.journal import JournalFileBackend

    return optuna.create_study(
        study_name="sweep",
        storage=optuna.storages.JournalStorage(JournalFileBackend(str(folder / STUDY))),
        pruner=optuna.pruners.MedianPruner(STARTUP_TRIALS) if prune else optuna.pruners.NopPruner(),
        load_if_exists=True,
    )


def sampler_of(optuna: Any, seed: int, number: int) -> Any:
    """What draws the values of one trial.

    A sampler for a whole sweep would begin with the same random values in every process that works on it.

    Args:
        optuna: The library.
        seed: Of the sweep.
        number: Of the trial.
    """
    return optuna.samplers.TPESampler(seed=int(np.random.SeedSequence((seed, number)).generate_state(1)[0]))


class Trials:
    """Trains one trial after the other."""

    def __init__(self, plan: Plan, folder: Path, seed: int) -> None:
        self.plan, self.folder, self.seed = plan, folder, seed

    def __call__(self, optuna: Any, study: Any) -> None:
        """Ask for settings, train with them, tell the result.

        Raises:
            UserError: If the space is not the one that the study began with.
        """
        trial = study.ask()
        study.sampler = sampler_of(optuna, self.seed, trial.number)
        try:
            values = {parameter.key: parameter.draw(trial) for parameter in self.plan.space}
        except ValueError as error:
            study.tell(trial, state=optuna.trial.TrialState.FAIL)
            raise UserError(f"{self.folder} holds a sweep of another space: {error}") from error
        print(f"\ntrial {trial.number}: {' '.join(f'{key}={value}' for key, value in values.items())}", flush=True)
        try:
            value = self.train(values, trial)
        except optuna.TrialPruned:
            print("stopped: worse than the median of the others at this epoch")
            study.tell(trial, state=optuna.trial.TrialState.PRUNED)
        except Exception as error:
            report_error(error)
            trial.set_user_attr("error", " ".join(str(error).split()))
            study.tell(trial, state=optuna.trial.TrialState.FAIL)
        except BaseException:
            study.tell(trial, state=optuna.trial.TrialState.FAIL)
            raise
        else:
            study.tell(trial, value)

    def train(self, values: dict[str, Any], trial: Any) -> float:
        """Train with some values.

        Returns:
            The objective of the best model on the validation frames.
        """
        composed = compose(with_values(self.plan.request, values))
        folder = self.folder / str(trial.number)
        objective = self.plan.settings["objective"]
        train(alone(composed, folder), callbacks=[Report(trial, objective, self.plan.settings["prune"])])
        return read_objective(folder, objective)


def alone(composed: Composed, folder: Path) -> Composed:
    """A configuration that is trained anew in a folder of its own."""
    composed.config.run = str(folder) if folder.is_absolute() else f"./{folder}"
    composed.config.resume, composed.config.overwrite = "never", True
    return composed


def read_objective(folder: Path, objective: str) -> float:
    """A column of the report on the validation frames.

    Args:
        folder: Run folder.
        objective: Name of the column.

    Raises:
        UserError: If there is no such column, or no value in it.
    """
    with (folder / "report" / "metrics.csv").open(newline="") as file:
        valid = next(row for row in csv.DictReader(file) if row["split"] == "valid")
    if not valid.get(objective):
        known = [name for name, value in valid.items() if value and name != "split"]
        raise UserError(f"no objective '{objective}' in the report.{nearest(objective, known)}")
    return float(valid[objective])


def finished(optuna: Any, study: Any) -> list[Any]:
    """The trials that are done, in whatever way."""
    return [trial for trial in study.get_trials(deepcopy=False) if trial.state.is_finished()]


def write_summary(optuna: Any, study: Any, path: Path) -> None:
    """One row per trial: number, state, objective, seconds, its values, and why it failed."""
    rows = []
    for trial in finished(optuna, study):
        row = {"trial": trial.number, "state": trial.state.name.lower(), "objective": trial.value}
        row |= {"seconds": trial.duration and round(trial.duration.total_seconds(), 1)}
        rows.append(row | trial.params | {"error": trial.user_attrs.get("error", "")})
    write_csv(path, rows, floats="")


def tell(optuna: Any, study: Any, folder: Path, objective: str) -> int:
    """Print the best trials and how to repeat the first."""
    done = [trial for trial in finished(optuna, study) if trial.value is not None]
    done.sort(key=lambda trial: trial.value)
    print(
        f"\n{len(finished(optuna, study))} trials in {folder}, {len(done)} of them to their end; see {folder / SUMMARY}"
    )
    for trial in done[:5]:
        values = " ".join(f"{key}={value}" for key, value in trial.params.items())
        print(f"  {trial.number:>3}  {objective} {trial.value:.3f}  {values}")
    if done:
        print(f"again: mace-gaunt train {folder / str(done[0].number) / 'config.yaml'} run=NAME")
    return 0 if done else 1
