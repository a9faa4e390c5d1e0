"""`mace-gaunt data`: look into data files, fetch data sets."""

from typing import TYPE_CHECKING, Any

from mace_gaunt.cli.arguments import Arguments, parse_arguments
from mace_gaunt.errors import UserError, nearest

if TYPE_CHECKING:
    from pathlib import Path

HELP = """\
usage: mace-gaunt data inspect path=FILE [r_max=5.0] [energy_key=NAME forces_key=NAME stress_key=NAME]
       mace-gaunt data inspect data=3bpa_xtb [root=DIR] [r_max=5.0]
       mace-gaunt data download data=3bpa [root=DIR] [address=URL]

inspect    labels found in how many frames, elements, sizes, energies, forces, and what would stop a training;
           exit status 1 when something would
download   fetch a public data set and check it; without a network, says what to do by hand

examples:
  mace-gaunt data inspect path=my.xyz r_max=5
  mace-gaunt data inspect path=[train.xyz,test.xyz]
  mace-gaunt data download data=3bpa root=data/3bpa"""

KEYS = {
    "inspect": ("path", "data", "root", "r_max", "energy_key", "forces_key", "stress_key"),
    "download": ("data", "root", "address"),
}


def help_text() -> str:
    """What `mace-gaunt data --help` prints."""
    return HELP


def run(argv: list[str]) -> int:
    """Run a subverb.

    Args:
        argv: The words after the verb.

    Returns:
        Exit status.

    Raises:
        UserError: If a key, a file or a data set is wrong, or cannot be fetched.
    """
    arguments = parse_arguments(argv)
    if arguments.flags or arguments.config_dir or arguments.removed:
        wrong = [*sorted(arguments.flags), *(["--config-dir"] if arguments.config_dir else []), *arguments.removed]
        raise UserError(f"'data' has no {wrong[0]}. See: mace-gaunt data --help")
    subverb, *files = arguments.words or [""]
    if subverb not in KEYS:
        found = f" '{subverb}'" if subverb else ""
        raise UserError(f"no 'data' subverb{found}.{nearest(subverb, KEYS)} See: mace-gaunt data --help")
    values = read_keys(subverb, arguments)
    if files and subverb == "inspect":
        values.setdefault("path", files)
    elif files:
        raise UserError(f"'{files[0]}': keys are written key=value, such as data=3bpa.")
    return inspect(values) if subverb == "inspect" else fetch(values)


def read_keys(subverb: str, arguments: Arguments) -> dict[str, Any]:
    """The keys of a subverb.

    Args:
        subverb: "inspect" or "download".
        arguments: The command line.

    Returns:
        Key -> value.

    Raises:
        UserError: If a key does not exist.
    """
    from mace_gaunt.cli.values import Sweep, parse_value

    values: dict[str, Any] = {}
    for key, text in arguments.pairs:
        name = key.removeprefix("data.")
        if name not in KEYS[subverb]:
            raise UserError(f"no key '{key}' in 'data {subverb}'.{nearest(name, KEYS[subverb])}")
        value = parse_value(text)
        values[name] = list(value.choices) if isinstance(value, Sweep) else value
    return values


def inspect(values: dict[str, Any]) -> int:
    """Print what is in some files.

    Args:
        values: The keys.

    Returns:
        1 when something would stop a training, else 0.
    """
    r_max = values.get("r_max")
    if r_max is not None and (isinstance(r_max, bool) or not isinstance(r_max, (int, float)) or r_max <= 0):
        raise UserError(f"r_max is a positive length in Å, not {r_max}.")
    from mace_gaunt.data.inspection import inspect_files
    from mace_gaunt.data.labels import LabelKeys

    keys = [values.get(f"{quantity}_key", "auto") for quantity in ("energy", "forces", "stress")]
    report = inspect_files(_files(values), LabelKeys(*keys), r_max)
    print(report)
    return 1 if report.problems else 0


def fetch(values: dict[str, Any]) -> int:
    """Fetch a data set and say what arrived.

    Args:
        values: The keys.

    Returns:
        0.
    """
    if not values.get("data"):
        raise UserError("which data set? Give data=3bpa.")
    from mace_gaunt.cli.quiet import quiet
    from mace_gaunt.data.download import download
    from mace_gaunt.data.threebpa import find_root

    quiet()
    download(str(values["data"]), values.get("root"), values.get("address"))
    print(f"data set in {find_root(values.get('root'))}")
    return 0


def _files(values: dict[str, Any]) -> "list[str | Path]":
    """The files that `path` names, or all splits of a data set."""
    path = values.get("path")
    if path is not None:
        return path if isinstance(path, list) else [str(path)]
    from mace_gaunt.data.threebpa import WHERE_TO_GET, find_root, list_splits

    sets = {"3bpa": None, "3bpa_xtb": "bundled"}
    if values.get("data") is None:
        raise UserError("what is to be inspected? Give path=FILE or data=3bpa.")
    if values["data"] not in sets:
        raise UserError(f"no data set '{values['data']}'.{nearest(str(values['data']), sets)}")
    root = find_root(values.get("root") or sets[values["data"]])
    splits = list_splits(root)
    if not splits:
        raise UserError(f"no splits in {root}. {WHERE_TO_GET}")
    return list(splits.values())
