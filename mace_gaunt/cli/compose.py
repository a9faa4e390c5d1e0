"""A request -> a checked configuration, through Hydra."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from mace_gaunt.cli.aliases import Known
from mace_gaunt.cli.keys import MISSING, check_keys, fill_defaults, nearest_key, to_plain
from mace_gaunt.cli.request import Request, change_paths, leaves, load_yaml, set_nested, split_slice
from mace_gaunt.cli.signatures import misfit
from mace_gaunt.errors import UserError

JOB = "_mace_gaunt_job"
# What a data set fills in the model; forgotten when a complete file is given other data.
FILLED = ("atomic_numbers", "E0s", "avg_num_neighbors", "scale", "shift")
# Other keys that what is filled depends on: the neighbours counted, and the frames that are trained on (data.seed).
FILLED_BY = ("model.r_max", "seed")
# Data keys that leave the training set as it is.
SAME_DATA = {"batch_size", "valid_batch_size", "num_workers", "max_edges_per_batch", "test", "test_file", "cache_dir"}
# Groups that write into other groups or the top level.
WITHOUT_KEY = {"tensor_product", "experiment", "debug"}
PLAIN_TYPES = (bool, int, float)
KEPT_REFERENCES = ("${run}", "${seed}")
PRODUCTS = ("edge_product", "node_product")


@dataclass
class Composed:
    """A checked configuration.

    Attributes:
        config: The configuration; `???` marks what the data will fill.
        choices: Group -> choice, as far as known.
        request: What it was composed from.
    """

    config: DictConfig
    choices: dict[str, Any]
    request: Request


def compose(request: Request) -> Composed:
    """Compose and check the configuration of one run.

    Args:
        request: The sorted request, without sweeps.

    Returns:
        The configuration.

    Raises:
        UserError: If a key does not exist, a value does not fit, or several values were given for one run.
    """
    if request.sweeps:
        name = request.sweeps[0].removeprefix("++").partition("=")[0]
        raise UserError(
            f"{name} has several values: add --multirun to run each of them, or write a list as {name}=[a,b]."
        )
    register(request)
    try:
        with initialize_config_dir(str(request.folders[0]), version_base="1.3", job_name="mace-gaunt"):
            config = hydra_compose(JOB, overrides=overrides(request), return_hydra_config=True)
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(explain(error)) from error
    choices = OmegaConf.to_container(config.hydra.runtime.choices)
    OmegaConf.set_struct(config, False)
    del config["hydra"]
    assert isinstance(choices, dict)
    return finish(config, choices, request)


def register(request: Request) -> None:
    """Hand Hydra a primary config that holds the verb's defaults, the file and the command line.

    Args:
        request: The sorted request.

    Raises:
        UserError: If an experiment is put on top of a complete file.
    """
    body: dict[str, Any] = {}
    for source in (_kept_of_file(request), request.body):
        for key, value in leaves(source):
            set_nested(body, key, value)
    if request.complete:
        # A complete file may still lack a plain key that a later version has added.
        plain = load_yaml(request.folders[0] / f"{request.verb}.yaml")
        body.update({key: value for key, value in plain.items() if key in request.known.keys and key not in body})
        defaults: list[Any] = [{group: None} for group in sorted(_chosen(request))]
    else:
        defaults = [request.verb, *({f"override {key}": choice} for key, choice in request.file_choices.items())]
    ConfigStore.instance().store(name=JOB, node={"defaults": [*defaults, "_self_"], **body})


def overrides(request: Request) -> list[str]:
    """The request's choices from the command line, and where the user's own choices are, as Hydra overrides.

    Args:
        request: The sorted request.
    """
    result = [f"{group}={_written(choice)}" for group, choice in request.choices.items() if choice is not None]
    result += [f"~{group}" for group, choice in request.choices.items() if choice is None and not request.complete]
    if len(request.folders) > 1:
        folders = ",".join(f"'file://{folder}'" for folder in request.folders[1:])
        result.append(f"hydra.searchpath=[{folders}]")
    return result + request.hydra


def finish(config: DictConfig, choices: Mapping[Any, Any], request: Request) -> Composed:
    """Take out what is to be removed, unify spellings, check every key.

    Args:
        config: A composed configuration without Hydra's own part; changed in place.
        choices: Hydra's record of choices.
        request: What it was composed from.

    Returns:
        The checked configuration.

    Raises:
        UserError: At the first wrong key.
    """
    OmegaConf.set_struct(config, False)
    to_plain(config)
    for group in sorted(request.known.groups):
        # `none` switches a group off, also where an experiment has set keys of it. Keys of the user are a mistake then.
        off = choices.get(group) == "none" and group not in {**request.file_body, **request.body}
        if group not in WITHOUT_KEY and (group not in config or off):
            config[group] = None
    for key in request.removed:
        _remove(config, key, request)
    if isinstance(config.get("compile"), bool):
        # yaml reads on and off as booleans.
        config["compile"] = "on" if config["compile"] else "off"
    _check_words(config, request)
    check_keys(config, request.known, request.where)
    own = {group: choices[group] for group in sorted(request.known.groups) if choices.get(group)}
    return Composed(config, own, request)


def _check_words(config: DictConfig, request: Request) -> None:
    """Refuse a plain key whose value is of another type than its default."""
    defaults = load_yaml(request.folders[0] / f"{request.verb}.yaml")
    for key in sorted(request.known.keys & set(config)):
        kind = type(defaults[key])
        if kind in PLAIN_TYPES and not OmegaConf.is_missing(config, key):
            why = misfit(config[key], kind)
            if why:
                raise UserError(f"{key}={config[key]} is not possible: {why}")


def complete_text(config: DictConfig, known: Known, header: str = "") -> str:
    """The configuration as a yaml file that says everything and can be run again from anywhere.

    Args:
        config: A composed configuration.
        known: What the verb has at its top level.
        header: Comment for its first lines.

    Returns:
        Text of the file.
    """
    comment = "".join(f"# {line}\n" for line in header.splitlines())
    return comment + OmegaConf.to_yaml(OmegaConf.create({"complete": True, **complete_plain(config, known)}))


def complete_plain(config: DictConfig, known: Known) -> dict[str, Any]:
    """The configuration with the defaults of our targets written out and with absolute paths.

    Args:
        config: A composed configuration.
        known: What the verb has at its top level.

    Returns:
        Nested keys. References to the run and the seed stay references: a later run has its own.
    """
    config = config.copy()
    fill_defaults(config)
    plain: dict[str, Any] = to_plain(config)
    for key, value in leaves(OmegaConf.to_container(config)):  # type: ignore[arg-type]
        if value in KEPT_REFERENCES:
            set_nested(plain, key, value)
    change_paths(plain, known, absolute_path)
    return plain


def _kept_of_file(request: Request) -> dict[str, Any]:
    """The keys of the file; from a complete one without what the command line chooses anew."""
    body = {**request.file_body}
    if not request.complete:
        return body
    for group in _chosen(request):
        if group in ("experiment", "debug"):
            raise UserError(
                f"{request.file} says everything, so {group}= cannot go under it. Give single keys, or start from "
                f"{group}= without the file."
            )
        model = body.get("model") or {}
        if group == "tensor_product":
            body["model"] = {name: value for name, value in model.items() if name not in PRODUCTS}
        elif group == "model":
            body["model"] = {name: model[name] for name in PRODUCTS if name in model}
        else:
            body.pop(group, None)
    if _changes_what_is_filled(request) and isinstance(body.get("model"), dict):
        filled = [name for name in FILLED if name in body["model"]]
        body["model"] = {**body["model"], **dict.fromkeys(filled, MISSING)}
    return body


def _changes_what_is_filled(request: Request) -> bool:
    given = {key for key, _ in leaves(request.body)} | {
        item.removeprefix("++").partition("=")[0] for item in request.sweeps if item.startswith("++")
    }
    data = {key.split(".")[1] for key in given if key.startswith("data.")}
    return "data" in _chosen(request) or bool(data - SAME_DATA) or not given.isdisjoint(FILLED_BY)


def _chosen(request: Request) -> set[str]:
    """Groups that the command line chooses, sweeps included."""
    swept = {text.partition("=")[0] for text in request.sweeps if not text.startswith("++")}
    return set(request.choices) | swept


def _written(choice: Any) -> str:
    return f"[{','.join(map(str, choice))}]" if isinstance(choice, list) else str(choice)


def _remove(config: DictConfig, key: str, request: Request) -> None:
    parent, _, leaf = key.rpartition(".")
    node = OmegaConf.select(config, parent) if parent else config
    if not isinstance(node, DictConfig) or leaf not in node:
        raise UserError(f"no key '{key}' to remove.{nearest_key(key, to_plain(config), request.known)}")
    node[leaf] = None


def absolute_path(path: str) -> str:
    """An existing path from anywhere; what is no path here (a split, a name) stays.

    Args:
        path: File or folder, maybe with a slice.
    """
    name, part = split_slice(path)
    found = Path(name).expanduser()
    return f"{found.resolve()}{part}" if found.exists() else path


def explain(error: Exception) -> str:
    """Hydra's message: its first line and the first line of what caused it.

    Args:
        error: What Hydra raised.
    """
    causes = [error, error.__cause__]
    lines = [str(cause).strip().splitlines()[0] for cause in causes if cause and str(cause).strip()]
    return f"the configuration cannot be composed: {'; '.join(dict.fromkeys(lines))}"
