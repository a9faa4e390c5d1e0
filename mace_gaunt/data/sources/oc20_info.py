"""What OC20 tells about a frame beside its atoms: system, step, and what its energy refers to."""

import re
from functools import lru_cache
from pathlib import Path
from typing import Any

import ase
import numpy as np

from mace_gaunt.data.sources.names import bare_stem

RELAXATION = re.compile(r"random(\d{1,18})")
REFERENCE = re.compile(r"(random\d{1,18}),\s*([-+]?\d+\.?\d*(?:[eE][-+]?\d+)?)")
IDENTIFIER = re.compile(r"(?:random|frame)?(\d{1,18})")


def whole_number(value: Any) -> int | None:
    """The number of a system or step: 123 of 123, "123" and "random123"; None of anything else."""
    match = IDENTIFIER.fullmatch(str(value)) if isinstance(value, str | int | np.integer) else None
    return int(match[1]) if match else None


def number_identifiers(atoms: ase.Atoms) -> None:
    """Turn `sid` and `fid` such as "random123" into numbers; what is none stays as it is, to be named later."""
    for name in ("sid", "fid"):
        number = whole_number(atoms.info[name]) if name in atoms.info else None
        if number is not None:
            atoms.info[name] = number


def mark_relaxation(atoms: ase.Atoms, path: Path, step: int) -> None:
    """Fill in what a relaxation of OC20, random<sid>.extxyz, tells by its name: system, step, total energies.

    The reference energy comes from `system.txt` beside it (lines "random<sid>,<energy>"), as the release has it.
    """
    match = RELAXATION.fullmatch(bare_stem(path))
    if match is None:
        return
    atoms.info.setdefault("sid", int(match[1]))
    atoms.info.setdefault("fid", step)
    atoms.info.setdefault("energy_reference", "total")
    reference = _references(path.with_name("system.txt")).get(match[0])
    if reference is not None:
        atoms.info.setdefault("reference_energy", reference)


@lru_cache(maxsize=8)
def _references(path: Path) -> dict[str, float]:
    """System -> reference energy (eV); none where there is no such file."""
    try:
        lines = path.read_text(errors="replace").splitlines()
    except OSError:
        return {}
    return {match[1]: float(match[2]) for line in lines if (match := REFERENCE.fullmatch(line.strip()))}
