"""docs/reference.md: every verb, every key, every choice, every alias, from the configs and the code."""

import inspect
import re
from importlib.metadata import version
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin

from mace_gaunt.cli.aliases import legal_aliases
from mace_gaunt.cli.arguments import FLAGS, OPTIONS, parse_arguments
from mace_gaunt.cli.choices import config_dir, list_choices, list_groups
from mace_gaunt.cli.compose import Composed, compose
from mace_gaunt.cli.help_keys import value_text
from mace_gaunt.cli.keys import MISSING, legal_keys, to_plain
from mace_gaunt.cli.main import VERBS
from mace_gaunt.cli.request import read_request

HEAD = """\
# Every key

Made by `python scripts/make_reference.py` from the configs and the signatures that they fill; a test compares it with
the code. `mace-gaunt VERB --help` explains a verb with examples, `mace-gaunt VERB --help-keys` lists the keys of a
configuration that you have composed. The keys of `data`, `sweep`, `benchmark` and `doctor` are in their `--help`.

Keys are written `key=value` on the command line, or nested in a yaml file. `null` is nothing.
"""
# Groups that write into others: their keys are those of the groups they fill.
WITHOUT_KEYS = ("experiment", "debug")
# Where the keys of a group lie, if not below its name.
PLACES = {"tensor_product": ("model.edge_product.", "model.node_product.")}


def reference_page() -> str:
    """The page as Markdown; the same on every machine with the same `library_versions`."""
    parts = [HEAD, library_versions(), "", _verbs()]
    parts += [_plain_keys(verb) for verb in sorted(VERBS) if (config_dir() / f"{verb}.yaml").is_file()]
    parts.append(
        "## Groups of `train`\n\nChosen as `GROUP=CHOICE`; every key of a choice is set as `GROUP.KEY=VALUE`.\n"
    )
    parts += [_group(group) for group in sorted(list_groups([config_dir()]))]
    parts.append(_aliases())
    return "\n".join(parts)


def library_versions() -> str:
    """Whose arguments are listed: a sentence."""
    versions = [f"{name} {version(name).partition('+')[0]}" for name in ("torch", "lightning", "wandb")]
    return f"Arguments of other libraries are those of {', '.join(versions)}."


def _verbs() -> str:
    rows = [f"| `{verb}` | {what} |" for verb, what in VERBS.items()]
    flags = [f"| `{flag}` | {what} |" for flag, what in {**FLAGS, **OPTIONS}.items()]
    return "\n".join(
        ["## Verbs", "", "| verb | what |", "|---|---|", *rows, "", "| flag | what |", "|---|---|", *flags, ""]
    )


def _plain_keys(verb: str) -> str:
    """The keys at the top level of a verb, with the comments of its yaml file."""
    rows = []
    for line in (config_dir() / f"{verb}.yaml").read_text(encoding="utf-8").splitlines():
        match = re.match(r"(\w+):\s*(.*?)\s*(?:#\s*(.*))?$", line)
        if match and match[1] != "defaults":
            rows.append(_row(match[1], match[2], match[3] or ""))
    return "\n".join([f"## `mace-gaunt {verb}`", "", "| key | default | what |", "|---|---|---|", *rows, ""])


def _group(group: str) -> str:
    choices = list_choices(group, [config_dir()])
    lines = [f"### `{group}`", "", f"{', '.join(f'`{choice}`' for choice in choices)}.", ""]
    if group in WITHOUT_KEYS:
        return "\n".join(lines)
    for title, keys in _keys_by_target(group, choices).items():
        rows = [_row(key, value, kind) for key, value, kind in keys]
        lines += [title, "", "| key | default | type |", "|---|---|---|", *rows, ""]
    return "\n".join(lines)


def _keys_by_target(group: str, choices: list[str]) -> dict[str, list[tuple[str, str, str]]]:
    """Title -> (key, default, type) of each choice; choices with the same keys and defaults stand together."""
    found: dict[tuple[tuple[str, str, str], ...], list[str]] = {}
    for choice in choices:
        keys = tuple(_keys_of(group, _composed(group, choice)))
        if keys:
            found.setdefault(keys, []).append(choice)
    return {" and ".join(f"`{group}={name}`" for name in names) + ":": list(keys) for keys, names in found.items()}


def _keys_of(group: str, composed: Composed) -> list[tuple[str, str, str]]:
    plain = to_plain(composed.config)
    found = []
    for key, parameter in legal_keys(plain, composed.request.known).items():
        node: Any = plain
        for name in key.split("."):
            node = node.get(name) if isinstance(node, dict) else None
        if key.startswith(PLACES.get(group, (f"{group}.",))) and not (isinstance(node, dict) and "_target_" in node):
            found.append((key, str(value_text(key, plain, parameter)), _kind(parameter)))
    return found


def _composed(group: str, choice: str) -> Composed:
    return compose(read_request("train", parse_arguments([f"{group}={choice}"])))


def _kind(parameter: inspect.Parameter | None) -> str:
    if parameter is None or parameter.annotation is inspect.Parameter.empty:
        return ""
    return _type_text(parameter.annotation)


def _type_text(kind: Any) -> str:
    """A type without the modules in which it is defined; members of a union in one order, since Python keeps that in
    which an equal union was first written anywhere."""
    if get_origin(kind) in (Union, UnionType):
        members = {_type_text(member) for member in get_args(kind)}
        return " | ".join([*sorted(members - {"None"}), *(members & {"None"})])
    if kind is NoneType:
        return "None"
    text = kind if isinstance(kind, str) else str(kind) if get_origin(kind) else getattr(kind, "__name__", str(kind))
    return re.sub(r"\b(?:\w+\.)+(\w+)", r"\1", text)


def _aliases() -> str:
    known = compose(read_request("train", parse_arguments([]))).request.known
    rows = [f"| `{name}` | `{key}` |" for name, key in sorted(legal_aliases(known).items())]
    head = "## Other names\n\nLegal at the top level of a file and of the command line; most are MACE's.\n"
    return "\n".join([head, "| name | key |", "|---|---|", *rows, ""])


def _row(key: str, value: str, what: str) -> str:
    shown = value.replace(str(Path.home()), "~").replace("|", "\\|") or "null"
    kind = what.replace("|", "\\|")
    return f"| `{key}` | {'required or filled' if shown == MISSING else f'`{shown}`'} | {kind} |"
