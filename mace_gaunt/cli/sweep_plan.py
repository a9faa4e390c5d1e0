"""What a sweep trains and what it searches: begun, kept in its folder, and taken from there when it goes on."""

from collections.abc import Collection
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from mace_gaunt.cli.aliases import Known, expand
from mace_gaunt.cli.choices import check_choice
from mace_gaunt.cli.compose import Composed, absolute_path, complete_plain, compose
from mace_gaunt.cli.request import Request, change_paths, leaves, load_yaml, set_nested
from mace_gaunt.cli.resume import is_harmless
from mace_gaunt.cli.run_folder import name_folder
from mace_gaunt.cli.sweep import Parameter, read_parameter, read_space, still_open
from mace_gaunt.errors import UserError
from mace_gaunt.files import write_whole

RECORD, STUDY = "sweep.yaml", "study.log"
HEADER = "# What `mace-gaunt sweep run=... resume=auto` goes on with.\n"
KEPT_PARTS = ("complete", "file_choices", "choices", "file_body", "body", "hydra", "removed")
KEPT_SETTINGS = ("trials", "objective", "prune")
# Keys of the command at hand.
OWN = ("run", "resume", "overwrite")


@dataclass(frozen=True)
class Plan:
    """What a sweep does.

    Attributes:
        request: What every trial trains.
        space: What is searched.
        settings: trials, objective and prune.
    """

    request: Request
    space: list[Parameter]
    settings: dict[str, Any]

    def first(self) -> Composed:
        """The configuration with every key of the space at its first value.

        Raises:
            UserError: If a key or a choice of the space does not exist.
        """
        return compose(with_values(self.request, first_values(self.space)))


def begin(request: Request, settings: dict[str, Any]) -> Plan:
    """The plan of a new sweep.

    Args:
        request: What is trained.
        settings: The keys of the sweep, complete.

    Raises:
        UserError: If the space is wrong.
    """
    kept = {name: settings[name] for name in KEPT_SETTINGS}
    return Plan(request, read_space(settings["space"], request), kept)


def is_sweep(folder: Path) -> bool:
    """Whether a sweep has begun in a folder.

    Args:
        folder: The folder.
    """
    return any((folder / name).is_file() for name in (STUDY, RECORD))


def begun_before(request: Request) -> Path | None:
    """The folder of the sweep that `run=NAME resume=auto` goes on with; None when there is none yet.

    Nothing is composed: what little stands on the command line may make sense together with what is kept alone.

    Args:
        request: What the command line says.
    """
    own = {**request.file_body, **request.body}
    if own.get("resume", "never") == "never" or own.get("run") is None:
        return None
    folder = name_folder(str(own["run"]), "")
    return folder if is_sweep(folder) else None


def go_on(folder: Path, request: Request, settings: dict[str, Any], given: Collection[str]) -> Plan:
    """The plan of a sweep that goes on: as it began, with what the command line adds.

    Args:
        folder: Folder of the sweep.
        request: What the command line says; of a file of its own it says all.
        settings: The keys of the sweep, complete.
        given: Those of them that stand on the command line.

    Raises:
        UserError: If the sweep would become another one; more or fewer trials are none, nor is another device.
    """
    kept = read_plan(folder / RECORD, request)
    merged = request if request.file is not None else _overlay(kept.request, request)
    space = read_space(settings["space"], merged) if "space" in given else still_open(kept.space, merged)
    plan = Plan(merged, space, kept.settings | {name: settings[name] for name in KEPT_SETTINGS if name in given})
    told = _differences(kept, plan)
    if told:
        raise UserError(
            f"the sweep in {folder} would not go on as it began: {'; '.join(told)}. Leave out what it has kept, or "
            "begin another sweep with another run=NAME."
        )
    return plan


def write_plan(folder: Path, plan: Plan) -> None:
    """Keep a plan in the folder of its sweep.

    Args:
        folder: The folder.
        plan: The plan.
    """
    request = {name: deepcopy(getattr(plan.request, name)) for name in KEPT_PARTS}
    for part in ("body", "file_body"):
        request[part] = {key: value for key, value in request[part].items() if key not in OWN}
        change_paths(request[part], plan.request.known, absolute_path)
    request["file"] = plan.request.file and str(plan.request.file)
    request["folders"] = [str(path) for path in plan.request.folders[1:]]
    space = {parameter.key: parameter.entry for parameter in plan.space}
    content = {"settings": plan.settings, "space": space, "request": request}
    write_whole(folder / RECORD, HEADER + OmegaConf.to_yaml(OmegaConf.create(content)))


def read_plan(path: Path, request: Request) -> Plan:
    """The plan that `write_plan` kept.

    Args:
        path: The file.
        request: What the command line says: of the verb and of the program's own choices.

    Raises:
        UserError: If the file is missing or damaged.
    """
    if not path.is_file():
        raise UserError(
            f"there is no {path}: an earlier version began this sweep and did not keep what it trains. Begin another "
            "one, with another run=NAME or with overwrite=true."
        )
    content = load_yaml(path)
    try:
        parts = {name: content["request"][name] for name in KEPT_PARTS}
        file = content["request"]["file"]
        folders = [request.folders[0], *map(Path, content["request"]["folders"])]
        settings = {name: content["settings"][name] for name in KEPT_SETTINGS}
        space = [read_parameter(key, entry, path) for key, entry in content["space"].items()]
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path} is damaged: {type(error).__name__}: {error}.") from error
    return Plan(Request(request.verb, folders, request.known, file and Path(file), **parts), space, settings)


def with_values(request: Request, values: dict[str, Any]) -> Request:
    """The request of one trial.

    Args:
        request: What every trial trains.
        values: Key or group -> value, of the space.

    Raises:
        UserError: If a choice does not exist.
    """
    job = replace(request, choices=dict(request.choices), body=deepcopy(request.body))
    for key, value in values.items():
        if key in request.known.groups:
            check_choice(key, value, request.folders)
            job.choices[key] = value
        else:
            for dotted, entry in expand(key, value, request.known).items():
                set_nested(job.body, dotted, entry)
    return job


def first_values(space: Collection[Parameter]) -> dict[str, Any]:
    """Some value of every parameter.

    Args:
        space: The parameters.
    """
    return {parameter.key: parameter.values[0] if parameter.values else parameter.low for parameter in space}


def _overlay(kept: Request, request: Request) -> Request:
    """A request with what another command line adds to it."""
    body = deepcopy(kept.body)
    for key, value in leaves(request.body):
        set_nested(body, key, value)
    return replace(
        kept,
        folders=request.folders if len(request.folders) > 1 else kept.folders,
        file_choices={**kept.file_choices, **request.file_choices},
        choices={**kept.choices, **request.choices},
        body=body,
        hydra=list(dict.fromkeys([*kept.hydra, *request.hydra])),
        removed=list(dict.fromkeys([*kept.removed, *request.removed])),
    )


def _differences(kept: Plan, now: Plan) -> list[str]:
    """What a continuation would change, in words."""
    settings = [f"{name} was {kept.settings[name]} and is {now.settings[name]} now" for name in ("objective", "prune")
                if kept.settings[name] != now.settings[name]]  # fmt: skip
    old, new = ({parameter.key: parameter.entry for parameter in plan.space} for plan in (kept, now))
    space = [f"{key} was searched in {old.get(key, 'nothing')} and is in {new.get(key, 'nothing')} now"
             for key in dict.fromkeys([*old, *new]) if old.get(key) != new.get(key)]  # fmt: skip
    values = first_values(kept.space)
    known = now.request.known
    before, after = (_trained(compose(with_values(plan.request, values)), known) for plan in (kept, now))
    trained = [
        f"{key} was {before.get(key)} and is {after.get(key)} now"
        for key in sorted({*before, *after})
        if before.get(key) != after.get(key) and not _may_change(key, after)
    ]
    return [*settings, *space, *trained]


def _trained(composed: Composed, known: Known) -> dict[str, Any]:
    """Dotted key -> value of a configuration."""
    return dict(leaves(complete_plain(composed.config, known)))


def _may_change(key: str, config: dict[str, Any]) -> bool:
    """Whether trials can be compared that differ in a key. A run may go on for more epochs; a trial is not the same."""
    return key in OWN or (is_harmless(key, config) and not key.startswith("trainer.max_"))
