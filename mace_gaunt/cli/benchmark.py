"""`mace-gaunt benchmark INSTRUMENT key=value ...`: what things cost, and what they can express."""

import importlib
from types import ModuleType

from mace_gaunt.errors import UserError, nearest

INSTRUMENTS = {
    "tensor_product": "time and memory of feature, edge and node products: every family and kernel, e3nn beside them",
    "expressivity": "which degrees a feature product couples, how many maps it reaches, and at what cost",
    "step": "a training step, and energies and forces, of this program and of mace-torch side by side",
    "md": "molecular dynamics of this program and of mace-torch side by side",
}
"""Each is a module `benchmark_NAME` beside this one, with `help_text()` and `run(argv)`."""

HELP = """\
usage: mace-gaunt benchmark INSTRUMENT out=FOLDER [key=value ...]

{instruments}

  mace-gaunt benchmark INSTRUMENT --help    keys and examples

examples:
  mace-gaunt benchmark tensor_product preset=small threads=1 out=tensor_product
  mace-gaunt benchmark expressivity degrees_x=0..2 degrees_y=0..2 degrees_out=0..2 out=expressivity"""


def help_text() -> str:
    """What `mace-gaunt benchmark --help` prints."""
    return HELP.format(instruments="\n".join(f"  {name:15} {what}" for name, what in INSTRUMENTS.items()))


def instrument(name: str) -> ModuleType:
    """The module of an instrument.

    Args:
        name: Its name.

    Raises:
        UserError: If there is none of this name.
    """
    if name not in INSTRUMENTS:
        raise UserError(f"no instrument '{name}'.{nearest(name, INSTRUMENTS)} See: mace-gaunt benchmark --help")
    return importlib.import_module(f"mace_gaunt.cli.benchmark_{name}")


def run(argv: list[str]) -> int:
    """Run an instrument.

    Args:
        argv: The words after the verb: the instrument and its own words.

    Returns:
        Exit status.

    Raises:
        UserError: If there is no such instrument; and whatever it refuses.
    """
    if not argv:
        raise UserError(f"which instrument? Give one of {', '.join(INSTRUMENTS)}. See: mace-gaunt benchmark --help")
    name, *words = argv
    return int(instrument(name).run(words))
