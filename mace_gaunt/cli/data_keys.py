"""Keys that the subverbs of `mace-gaunt data` share. Imports nothing heavy."""

import sys
from typing import TYPE_CHECKING, Any

from mace_gaunt.benchmark.keys import Key, choice, integer, positive, split, word
from mace_gaunt.cli.arguments import parse_arguments
from mace_gaunt.errors import UserError, nearest

if TYPE_CHECKING:
    from pathlib import Path

    from mace_gaunt.data.descriptors import Descriptor

SETS = {"3bpa": None, "3bpa_xtb": "bundled"}
"""Data sets that `data=` names, and the folder of each where none is given."""


def label_key(text: str) -> str | None:
    """Reads the name of a label; "null" is none."""
    return None if text == "null" else word(text)


PATH = Key(split, "files or folders of structures, with commas between them; slices as train.xyz[:100]")
LABELS = {
    f"{name}_key": Key(label_key, f"name of the {name} in the files; null reads none (auto)")
    for name in ("energy", "forces", "stress")
}
# Of those that describe frames by numbers.
DESCRIBING = {
    "model": Key(word, "folder of a model whose invariant features describe frames (distances and angles do)"),
    "device": Key(word, "where the model runs (auto)"),
    "r_max": Key(positive, "cut-off of distances and angles in Å, without a model (5.0)"),
    "seed": Key(integer(least=0), "of all that is drawn at random (0)"),
    "on_bad_frame": Key(choice("stop", "skip"), "at a record that cannot be used: stop, or leave it out (stop)"),
}


def read_words(argv: list[str], command: str) -> list[tuple[str, str]]:
    """The keys of a subverb; words without a key are files.

    Args:
        argv: The words after its name.
        command: The words up to there; named in messages.

    Returns:
        (key, text) in their order.

    Raises:
        UserError: If there are flags, or files and `path`.
    """
    arguments = parse_arguments(argv)
    config_dir = ["--config-dir"] if arguments.config_dir else []
    wrong = [*sorted(arguments.flags), *config_dir, *arguments.removed]
    if wrong:
        raise UserError(f"'{command}' has no '{wrong[0]}'. Keys are written key=value: mace-gaunt {command} --help")
    if not arguments.words:
        return [(key.removeprefix("data."), text) for key, text in arguments.pairs]
    if any(key == "path" for key, _ in arguments.pairs):
        raise UserError(f"'{command}': '{arguments.words[0]}' and path=... are given; give one of them.")
    return [("path", ",".join(arguments.words)), *arguments.pairs]


def find_files(values: dict[str, Any]) -> "list[str | Path]":
    """The files that `path` names, or all splits of a data set.

    Args:
        values: path; or data, and root.

    Raises:
        UserError: If neither is given, or there is no such set.
    """
    if values.get("path") is not None:
        return list(values["path"])
    if values.get("data") is None:
        raise UserError("what is to be looked at? Give path=FILE or data=3bpa.")
    if values["data"] not in SETS:
        raise UserError(f"no data set '{values['data']}'.{nearest(str(values['data']), SETS)}")
    from mace_gaunt.data.threebpa import WHERE_TO_GET, find_root, list_splits

    root = find_root(values.get("root") or SETS[values["data"]])
    splits = list_splits(root)
    if not splits:
        raise UserError(f"no splits in {root}. {WHERE_TO_GET}")
    return list(splits.values())


def descriptor(values: dict[str, Any]) -> "Descriptor":
    """What describes frames, by the keys of DESCRIBING.

    Raises:
        UserError: If the model cannot be loaded, or keys of both kinds are given.
    """
    if "model" not in values:
        if "device" in values:
            raise UserError("device is where a model runs; give model=FOLDER as well.")
        from mace_gaunt.data.descriptors import RadialAngularDescriptor

        return RadialAngularDescriptor(values.get("r_max", 5.0))
    if "r_max" in values:
        raise UserError("r_max is the model's own where a model describes the frames; leave it out.")
    from mace_gaunt.simulation.descriptors import ModelDescriptor

    return ModelDescriptor(values["model"], values.get("device", "auto"))


def tell_bad(bad: list[str]) -> int:
    """Name records that were left out, on standard error; gives the exit status."""
    for reason in bad[:20]:
        print(f"left out: {reason}", file=sys.stderr)
    if len(bad) > 20:
        print(f"left out: {len(bad) - 20} more", file=sys.stderr)
    return int(bool(bad))
