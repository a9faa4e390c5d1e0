"""What stands on the command line, sorted into flags, files and keys."""

import os
from dataclasses import dataclass, field
from pathlib import Path

from mace_gaunt.cli.choices import config_dir, list_choices, list_groups
from mace_gaunt.errors import UserError, nearest

FLAGS = {
    "--help": "show the help of the verb",
    "--help-keys": "list every legal key, every choice and every alias",
    "--print-config": "print the composed configuration and stop",
    "--validate-only": "check everything short of the work itself and stop",
    "--multirun": "run every combination of comma-separated values",
    "--version": "print the version",
}
SHORT_FLAGS = {"-h": "--help", "-m": "--multirun"}
OPTIONS = {"--config-dir": "folder with your own choices, such as DIR/data/mine.yaml"}


@dataclass
class Arguments:
    """The sorted command line of one verb.

    Attributes:
        flags: Flags without a value, in their long form.
        config_dir: Folder of the user's own choices.
        words: Positional words: the yaml file, or a subverb.
        pairs: (key, text of the value) in their order.
        removed: Keys to take out, written `~key`.
    """

    flags: set[str] = field(default_factory=set)
    config_dir: Path | None = None
    words: list[str] = field(default_factory=list)
    pairs: list[tuple[str, str]] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)


def parse_arguments(tokens: list[str]) -> Arguments:
    """Sort the tokens that follow the verb.

    Args:
        tokens: The command line after the verb.

    Returns:
        The sorted arguments.

    Raises:
        UserError: If a flag does not exist or lacks its value.
    """
    arguments = Arguments()
    rest = list(tokens)
    while rest:
        token = rest.pop(0)
        if token.startswith("-") and not _is_file(token):
            _read_flag(token, rest, arguments)
        elif token.startswith("~"):
            arguments.removed.append(token[1:].split("=")[0])
        elif "=" in token and not _is_file(token):
            key, _, value = token.partition("=")
            arguments.pairs.append((key.strip().lstrip("+"), value))
        else:
            arguments.words.append(token)
    return arguments


def config_file(arguments: Arguments, verb: str) -> Path | None:
    """The yaml file among the positional words, if there is one.

    Args:
        arguments: The sorted command line.
        verb: Named in messages.

    Returns:
        An existing file, or None when no word was given.

    Raises:
        UserError: If there are several words, or the file does not exist.
    """
    if not arguments.words:
        return None
    if len(arguments.words) > 1:
        raise UserError(
            f"'{verb}' takes one configuration file, found {', '.join(arguments.words)}. Keys are written key=value."
        )
    path = Path(os.path.expanduser(arguments.words[0]))
    if os.path.isfile(path):
        return path
    groups = [
        group for group in sorted(list_groups([config_dir()])) if path.name in list_choices(group, [config_dir()])
    ]
    if groups and len(path.parts) == 1:
        raise UserError(f"no configuration file '{path}'. Did you mean {groups[-1]}={path.name}?")
    beside = [entry.name for entry in path.parent.glob("*.y*ml")] if os.path.isdir(path.parent) else []
    hint = nearest(path.name, beside) if beside else ""
    raise UserError(f"no configuration file '{path}'.{hint} Keys are written key=value, such as data=3bpa.")


def _is_file(token: str) -> bool:
    return token.endswith((".yaml", ".yml")) and os.path.isfile(os.path.expanduser(token))


def _read_flag(token: str, rest: list[str], arguments: Arguments) -> None:
    name, has_value, value = token.partition("=")
    name = SHORT_FLAGS.get(name, name)
    if name in OPTIONS:
        if not has_value and not rest:
            raise UserError(f"{name} needs a folder: {name} DIR")
        arguments.config_dir = Path(value if has_value else rest.pop(0)).expanduser()
        if not arguments.config_dir.is_dir():
            raise UserError(f"{name}: no folder '{arguments.config_dir}'.")
    elif name in FLAGS and not has_value:
        arguments.flags.add(name)
    else:
        raise UserError(_unknown_flag(token, name, has_value, value))


def _unknown_flag(token: str, name: str, has_value: str, value: str) -> str:
    """Say what to write instead: people bring `--r_max=5` from other programs."""
    if has_value and name not in FLAGS:
        return f"no flag '{name}'. Keys are written without dashes: {name.lstrip('-')}={value}"
    return f"no flag '{token}'.{nearest(name, [*FLAGS, *OPTIONS])}"
