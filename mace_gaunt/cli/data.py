"""`mace-gaunt data SUBVERB key=value ...`: look into data, choose from it, store it, fetch it."""

import importlib
from types import ModuleType

from mace_gaunt.errors import UserError, nearest

SUBVERBS = {
    "inspect": "what is in files of structures, and what is wrong with it",
    "vendi": "how many distinct frames a set has",
    "select": "a diverse subset of n frames",
    "prepare": "any files of structures into a store with neighbour lists",
    "verify": "whether a store is whole",
    "download": "fetch a public data set and check it",
}
"""Each is a module `data_NAME` beside this one, with `help_text()` and `run(argv)`."""

HELP = """\
usage: mace-gaunt data SUBVERB [key=value ...]

{subverbs}

  mace-gaunt data SUBVERB --help    keys and examples

examples:
  mace-gaunt data inspect path=my.xyz r_max=5
  mace-gaunt data inspect path=[train.xyz,test.xyz] json=report.json strict=true
  mace-gaunt data select path=train.xyz n=200 out=diverse.extxyz
  mace-gaunt data prepare path=s2ef_train_200K out=store r_max=6
  mace-gaunt data download data=3bpa root=data/3bpa"""


def help_text() -> str:
    """What `mace-gaunt data --help` prints."""
    return HELP.format(subverbs="\n".join(f"  {name:10} {what}" for name, what in SUBVERBS.items()))


def subverb(name: str) -> ModuleType:
    """The module of a subverb.

    Args:
        name: Its name.

    Raises:
        UserError: If there is none of this name.
    """
    if name.startswith("-"):
        raise UserError(f"'data' has no {name}. See: mace-gaunt data --help")
    if name not in SUBVERBS:
        raise UserError(f"no 'data' subverb '{name}'.{nearest(name, SUBVERBS)} See: mace-gaunt data --help")
    return importlib.import_module(f"mace_gaunt.cli.data_{name}")


def run(argv: list[str]) -> int:
    """Run a subverb.

    Args:
        argv: The words after the verb: the subverb and its own words.

    Returns:
        Exit status.

    Raises:
        UserError: If there is no such subverb; and whatever it refuses.
    """
    if not argv:
        raise UserError(f"which 'data' subverb?{nearest('', SUBVERBS)} See: mace-gaunt data --help")
    name, *words = argv
    return int(subverb(name).run(words))
