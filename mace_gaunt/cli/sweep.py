"""`mace-gaunt sweep`: Optuna searches settings; every trial is a training of its own."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mace_gaunt.cli.arguments import Arguments, parse_arguments
from mace_gaunt.errors import UserError, nearest

if TYPE_CHECKING:
    from mace_gaunt.cli.request import Request

HELP = """\
usage: mace-gaunt sweep [file.yaml] run=NAME [space=CHOICE_OR_FILE] [trials=N] [key=value ...]

Optuna draws settings from a search space and trains with them, trial by trial, towards the smallest validation error.
All other keys are those of `mace-gaunt train` and hold for every trial. Needs: pip install 'mace-gaunt[sweep]'.

keys:
  space       choice of configs/space, or a yaml file: learning (rate, loss weights, averaging, batch size), model
              (tensor product, sizes) (learning)
  trials      trainings in all; with resume=auto those already done count (20)
  objective   column of a run's report/metrics.csv, on the validation frames (forces_rmse_meV_A)
  prune       stop a trial whose errors are worse than the median of the others at the same epoch (true)
  run         the sweep lives in runs/<run>/: trials in 0/, 1/, ..., sweep.csv, sweep.yaml (all keys), study.log
  resume      auto continues with the keys that the sweep began with; trials may be another number. Several processes
              may work on one sweep, each with resume=auto (never)

A space is a yaml file of keys, each with a list of values or bounds:

  optimizer.lr: {low: 0.001, high: 0.03, log: true}
  model.num_channels: [32, 64]

examples:
  mace-gaunt sweep data=3bpa_xtb tensor_product=gaunt max_epochs=20 run=rates trials=10
  mace-gaunt sweep data=3bpa space=model trials=50 max_epochs=50 run=sizes resume=auto
  mace-gaunt sweep run=rates resume=auto trials=20"""

DEFAULTS: dict[str, Any] = {"space": "learning", "trials": 20, "objective": "forces_rmse_meV_A", "prune": True}
BOUNDS = {"low", "high", "log", "step"}


@dataclass(frozen=True)
class Parameter:
    """One key of a search space: values to choose from, or bounds.

    Attributes:
        key: Dotted key, or a group such as "tensor_product".
        values: Choices; empty where there are bounds.
        low: Lower bound.
        high: Upper bound, included.
        log: Whether to draw the logarithm evenly.
        step: Distance of the values that are drawn; None draws all between.
    """

    key: str
    values: tuple[Any, ...] = ()
    low: float = 0.0
    high: float = 0.0
    log: bool = False
    step: float | None = None

    @property
    def entry(self) -> list[Any] | dict[str, Any]:
        """As a space has it: values or bounds."""
        if self.values:
            return list(self.values)
        bounds = {"low": self.low, "high": self.high, "log": self.log}
        return bounds if self.step is None else bounds | {"step": self.step}

    def draw(self, trial: Any) -> Any:
        """A value for an Optuna trial."""
        if self.values:
            # Optuna's choices are plain values; lists and dicts travel as text.
            return json.loads(trial.suggest_categorical(self.key, [json.dumps(value) for value in self.values]))
        if all(isinstance(bound, int) for bound in (self.low, self.high)) and self.step in (None, int(self.step or 1)):
            return trial.suggest_int(self.key, self.low, self.high, log=self.log, step=int(self.step or 1))
        return trial.suggest_float(self.key, self.low, self.high, log=self.log, step=self.step)


def help_text() -> str:
    """What `mace-gaunt sweep --help` prints."""
    return HELP


def run(argv: list[str]) -> int:
    """Run the verb.

    Args:
        argv: The words after the verb.

    Returns:
        Exit status: 1 when no trial succeeded.

    Raises:
        UserError: If a key or the search space is wrong, the folder is taken, or Optuna is not there.
    """
    arguments = parse_arguments(argv)
    given = DEFAULTS.keys() & {key for key, _ in arguments.pairs}
    settings, arguments = split_keys(arguments)
    from mace_gaunt.cli.quiet import quiet
    from mace_gaunt.cli.request import read_request
    from mace_gaunt.cli.study import run_study

    quiet()
    request = read_request("train", arguments)
    if request.sweeps or arguments.flags:
        found = request.sweeps[0].removeprefix("++") if request.sweeps else sorted(arguments.flags)[0]
        raise UserError(f"'sweep' cannot do with {found}: values to choose from belong into the space.")
    return run_study(request, settings, given)


def split_keys(arguments: Arguments) -> tuple[dict[str, Any], Arguments]:
    """The keys of the sweep itself, and the command line of every training.

    Args:
        arguments: The sorted command line.

    Returns:
        Keys of DEFAULTS, complete and checked; the rest.

    Raises:
        UserError: If a value is of the wrong kind.
    """
    from dataclasses import replace

    from mace_gaunt.cli.values import parse_value

    given = {key: parse_value(text) for key, text in arguments.pairs if key in DEFAULTS}
    settings = DEFAULTS | given
    if isinstance(settings["trials"], bool) or not isinstance(settings["trials"], int) or settings["trials"] < 1:
        raise UserError(f"trials is a number of trainings, not {settings['trials']}.")
    if not isinstance(settings["prune"], bool):
        raise UserError(f"prune is true or false, not {settings['prune']}.")
    return settings, replace(arguments, pairs=[pair for pair in arguments.pairs if pair[0] not in DEFAULTS])


def read_space(space: Any, request: "Request") -> list[Parameter]:
    """The search space of a choice or a file.

    Args:
        space: A choice of the group `space`, or a yaml file.
        request: What is trained; a key that it sets is taken out of the space.

    Returns:
        At least one parameter.

    Raises:
        UserError: If there is no such file, or an entry is neither values nor bounds.
    """
    from mace_gaunt.cli.aliases import expand
    from mace_gaunt.cli.choices import check_choice
    from mace_gaunt.cli.request import load_yaml

    path = Path(str(space)).expanduser()
    if not path.is_file():
        check_choice("space", space, request.folders)
        path = next(folder / "space" / f"{space}.yaml" for folder in reversed(request.folders)
                    if (folder / "space" / f"{space}.yaml").is_file())  # fmt: skip
    parameters = []
    for key, entry in load_yaml(path).items():
        full = key if key in request.known.groups else ",".join(expand(key, None, request.known))
        parameters.append(read_parameter(full, entry, path))
    left = still_open(parameters, request)
    if not left:
        raise UserError(f"nothing is left to search: the command line sets all keys of {path}.")
    return left


def still_open(space: list[Parameter], request: "Request") -> list[Parameter]:
    """The parameters that the command line does not set.

    Args:
        space: Some parameters.
        request: What is trained.
    """
    from mace_gaunt.cli.request import leaves

    fixed = {*request.choices, *(key for key, _ in leaves(request.body))}
    return [parameter for parameter in space if parameter.key not in fixed]


def read_parameter(key: str, entry: Any, path: Path) -> Parameter:
    """One entry of a space.

    Args:
        key: Its key.
        entry: A list of values, or a dict of bounds.
        path: Its file, for messages.

    Raises:
        UserError: If it is neither, or the bounds are impossible.
    """
    where = f"{path}, {key}"
    if isinstance(entry, list) and entry:
        return Parameter(key, values=tuple(entry))
    if not isinstance(entry, dict) or not {"low", "high"} <= entry.keys():
        raise UserError(f"{where}: expected a list of values, or {{low: ..., high: ...}} with log or step.")
    for name in entry:
        if name not in BOUNDS:
            raise UserError(f"{where}: no '{name}'.{nearest(str(name), BOUNDS)}")
    low, high = entry["low"], entry["high"]
    numbers = all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in (low, high))
    if not numbers or not low < high or (entry.get("log") and low <= 0):
        raise UserError(
            f"{where}: low {low} and high {high} are no bounds{' of a logarithm' * bool(entry.get('log'))}."
        )
    if entry.get("log") and entry.get("step"):
        raise UserError(f"{where}: log and step exclude each other.")
    return Parameter(key, low=low, high=high, log=bool(entry.get("log")), step=entry.get("step"))
