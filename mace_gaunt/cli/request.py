"""What the user asks for: a yaml file and the command line, sorted into choices, keys and sweeps."""

import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mace_gaunt.cli.aliases import Known, expand
from mace_gaunt.cli.arguments import Arguments, config_file
from mace_gaunt.cli.choices import check_choice, check_user_folder, config_dir, list_choices
from mace_gaunt.cli.values import Sweep, parse_value
from mace_gaunt.cli.yaml_bounds import check_bounds
from mace_gaunt.errors import UserError

# Keys that hold paths: in a file, relative ones are looked for from here and then beside the file.
PATH_KEYS = {
    "data.train_file", "data.valid_file", "data.test_file", "data.isolated_atoms_file", "data.root",
    "model", "init", "input", "mace", "structure", "package", "path",
}  # fmt: skip


# Keys whose value is a name, also where it looks like a number: 2024_01_15 would become 20240115, and 1e3 1000.0.
NAME_KEYS = {"run", "out", *PATH_KEYS}


@dataclass
class Request:
    """A sorted request.

    Attributes:
        verb: Name of the primary config.
        folders: Config folders, ours first.
        known: What the verb has at its top level.
        file: The user's yaml file.
        complete: The file says everything; no defaults of groups are added.
        file_choices: Group -> choice, from the file; None keeps the group out.
        choices: Group -> choice, from the command line.
        file_body: Nested keys of the file.
        body: Nested keys of the command line.
        sweeps: Overrides with several values, in Hydra's form.
        hydra: Hydra's own overrides.
        removed: Dotted keys to take out.
    """

    verb: str
    folders: list[Path]
    known: Known
    file: Path | None = None
    complete: bool = False
    file_choices: dict[str, Any] = field(default_factory=dict)
    choices: dict[str, Any] = field(default_factory=dict)
    file_body: dict[str, Any] = field(default_factory=dict)
    body: dict[str, Any] = field(default_factory=dict)
    sweeps: list[str] = field(default_factory=list)
    hydra: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)

    def where(self, key: str) -> str:
        """Where the user wrote a key, in words for a message; empty for the command line.

        Args:
            key: Dotted key.
        """
        node: Any = self.file_body
        for name in key.split("."):
            if not isinstance(node, dict) or name not in node:
                return ""
            node = node[name]
        return f" in {self.file}"


def read_request(verb: str, arguments: Arguments, file: Path | None = None) -> Request:
    """Sort a command line and the file it names.

    Args:
        verb: Name of the primary config, such as "train".
        arguments: The sorted command line.
        file: A file to start from when the command line names none.

    Returns:
        The request; choices are checked, keys are checked after composition.

    Raises:
        UserError: If a file, a choice or a value is wrong.
    """
    folders = [config_dir()]
    if arguments.config_dir:
        check_user_folder(arguments.config_dir)
        folders.append(arguments.config_dir.resolve())
    request = Request(verb, folders, read_known(verb, folders[0]), removed=list(arguments.removed))
    request.file = config_file(arguments, verb) or file
    if request.file:
        _read_file(request, request.file)
    for key, text in arguments.pairs:
        _read_pair(request, key, text)
    _choose_files(request)
    return request


def read_known(verb: str, folder: Path) -> Known:
    """The top level of a verb, read from its yaml file.

    Args:
        verb: Name of the primary config.
        folder: Folder of the configs.
    """
    content = load_yaml(folder / f"{verb}.yaml")
    entries = [entry for entry in content.get("defaults", []) if isinstance(entry, dict)]
    groups = {str(key).removeprefix("optional ") for entry in entries for key in entry}
    return Known(frozenset(set(content) - {"defaults"} - groups), frozenset(groups))


def load_yaml(path: Path) -> dict[str, Any]:
    """A yaml file as a dict.

    Args:
        path: The file.

    Raises:
        UserError: If it is not yaml, holds more or other things than a configuration can, or no mapping.
    """
    from omegaconf import OmegaConf

    try:
        check_bounds(path.read_text(encoding="utf-8"))
        content = OmegaConf.to_container(OmegaConf.load(path))
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {path}: {error}") from error
    except Exception as error:  # the loader raises whatever it stumbles over where a value does not fit its tag
        raise UserError(f"{path} is not valid yaml: {' '.join(str(error).split())[:500]}") from error
    if not isinstance(content, dict):
        raise UserError(f"{path} holds no keys: expected lines such as 'data: 3bpa'.")
    return {str(key): value for key, value in content.items()}


def set_nested(tree: dict[str, Any], dotted: str, value: Any) -> None:
    """Put a value at a dotted key; dicts are merged.

    Args:
        tree: Nested dict, changed in place.
        dotted: Key.
        value: Anything.
    """
    *parents, leaf = dotted.split(".")
    for name in parents:
        if not isinstance(tree.get(name), dict):
            tree[name] = {}
        tree = tree[name]
    if isinstance(value, dict) and isinstance(tree.get(leaf), dict):
        for name, entry in value.items():
            tree[leaf][name] = entry
    else:
        tree[leaf] = value


def leaves(tree: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """(dotted key, value) pairs; dicts with keys that are no plain names stay whole.

    Args:
        tree: Nested keys.
        prefix: What the dotted keys begin with.
    """
    pairs: list[tuple[str, Any]] = []
    for key, value in tree.items():
        nested = isinstance(value, dict) and value and all(isinstance(name, str) and "." not in name for name in value)
        pairs += leaves(value, f"{prefix}{key}.") if nested else [(f"{prefix}{key}", value)]
    return pairs


def _read_file(request: Request, path: Path) -> None:
    content = load_yaml(path)
    request.complete = bool(content.pop("complete", False))
    for entry in content.pop("defaults", None) or []:
        if not isinstance(entry, dict):
            raise UserError(f"{path}: 'defaults' lists choices such as '- data: 3bpa', found '{entry}'.")
        content = {**{str(key).removeprefix("override /"): value for key, value in entry.items()}, **content}
    hydra = content.pop("hydra", None)
    if hydra is not None:
        request.file_body["hydra"] = hydra
    for key, value in content.items():
        try:
            _place(request, key, value, request.file_choices, request.file_body)
        except UserError as error:
            raise UserError(f"{path}: {error}") from error
    folder = path.resolve().parent
    change_paths(request.file_body, request.known, lambda name: _beside(name, folder))


def _choose_files(request: Request) -> None:
    """Files named without a data set are a data set of their own: nothing of the default one is mixed in."""
    chosen = {"data", "experiment"} & {*request.choices, *request.file_choices, *_swept_groups(request)}
    given = {*(request.body.get("data") or {}), *(request.file_body.get("data") or {})}
    if "data" in request.known.groups and not chosen and not request.complete and given & {"train_file", "test_file"}:
        request.file_choices["data"] = "files"


def _swept_groups(request: Request) -> set[str]:
    return {text.partition("=")[0] for text in request.sweeps if not text.startswith("++")}


def _read_pair(request: Request, key: str, text: str) -> None:
    """One `key=value` of the command line."""
    if key.split(".")[0].split("/")[0] == "hydra":
        request.hydra.append(f"{key}={text}")
        return
    value = read_value(key, text, request.known)
    if isinstance(value, Sweep):
        _read_sweep(request, key, value)
    else:
        _place(request, key, value, request.choices, request.body)


def read_value(key: str, text: str, known: Known) -> Any:
    """The value of one `key=value` of the command line.

    Args:
        key: As the user wrote it.
        text: What stands behind the first `=`.
        known: What the verb has; `model` is a name only where it is a plain key.

    Raises:
        UserError: If it cannot be read.
    """
    try:
        value = parse_value(text)
    except UserError as error:
        raise UserError(f"{key}: {error}") from error
    if not isinstance(value, bool | int | float) or key in known.groups:
        return value
    return text.strip() if not NAME_KEYS.isdisjoint(expand(key, value, known)) else value


def _read_sweep(request: Request, key: str, sweep: Sweep) -> None:
    if key in request.known.groups:
        check_choice(key, sweep.choices, request.folders)
        request.sweeps.append(f"{key}={sweep.text}")
        return
    targets = list(expand(key, sweep.choices[0] if sweep.choices else None, request.known))
    if len(targets) > 1:
        raise UserError(f"{key} cannot be swept: sweep {' and '.join(targets)} instead.")
    request.sweeps.append(f"++{targets[0]}={sweep.text}")


def _place(request: Request, key: str, value: Any, choices: dict[str, Any], body: dict[str, Any]) -> None:
    """File one key under choices or keys."""
    known = request.known
    if key not in known.groups:
        for dotted, entry in expand(key, value, known).items():
            set_nested(body, dotted, entry)
    elif isinstance(value, dict):
        if "_target_" in value and key not in choices:
            choices[key] = None
        if not value:
            body[key] = {}
        for name, entry in value.items():
            for dotted, part in expand(f"{key}.{name}", entry, known).items():
                set_nested(body, dotted, part)
    elif value is None:
        choices[key] = None
        if not list_choices(key, request.folders) or key not in ("experiment", "debug"):
            body[key] = None
    else:
        check_choice(key, value, request.folders)
        choices[key] = value
        body.pop(key, None) if body.get(key, 0) is None else None


def change_paths(tree: dict[str, Any], known: Known, change: Callable[[str], str]) -> None:
    """Apply a function to every path of a configuration, in place.

    Args:
        tree: Nested keys.
        known: What the verb has at its top level; `model` is a path only where it is a plain key.
        change: Path -> path.
    """
    for key in PATH_KEYS:
        parent, _, leaf = key.rpartition(".")
        node = tree.get(parent) if parent else tree
        if isinstance(node, dict) and leaf in node and (parent or leaf in known.keys):
            node[leaf] = _map_paths(node[leaf], change)


def split_slice(path: str) -> tuple[str, str]:
    """A file expression and its slice of frames: "a.xyz[10:]" -> ("a.xyz", "[10:]").

    Args:
        path: File, possibly with a python slice behind it.
    """
    match = re.fullmatch(r"(.*?)(\[[-\d:]*\])?", path)
    return (match[1], match[2] or "") if match else (path, "")


def _map_paths(value: Any, change: Callable[[str], str]) -> Any:
    """A path, a list of them, or {name: path}."""
    if isinstance(value, list):
        return [_map_paths(entry, change) for entry in value]
    if isinstance(value, dict):
        return {name: _map_paths(entry, change) for name, entry in value.items()}
    return change(value) if isinstance(value, str) else value


def _beside(path: str, folder: Path) -> str:
    """The path beside the file, when it leads somewhere there and nowhere from here."""
    name, part = split_slice(path)
    # Other than those of Path, these raise nothing where there is no such user or the name is too long for a file.
    here, beside = os.path.exists(os.path.expanduser(name)), folder / name
    return f"{beside}{part}" if not here and os.path.exists(beside) else path
