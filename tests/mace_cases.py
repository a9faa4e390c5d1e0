"""The MACE models of tests/fixtures/mace (scripts/make_mace_cases.py) as this program reads them."""

import functools
from pathlib import Path

import numpy as np

from mace_gaunt.interop.mace import from_state_dict
from mace_gaunt.interop.mace_files import read_files
from mace_gaunt.interop.mace_probe import read_structures

ROOT = Path(__file__).parent / "fixtures" / "mace"
CASES = sorted(path.name for path in ROOT.iterdir() if path.is_dir())


@functools.cache
def files(name):
    """Config and tensors of a case."""
    return read_files(ROOT / name)


def converted(name, head=None):
    """Our model of a case."""
    return from_state_dict(*files(name), head)


def structures():
    """A molecule, a crystal, a close and a distant dimer, an isolated atom."""
    return read_structures(ROOT)


def reference(name, quantity, head=None):
    """What mace-torch computed for all structures, one after the other."""
    with np.load(ROOT / name / "reference.npz") as data:
        return data[quantity if head is None else f"{head}/{quantity}"]
