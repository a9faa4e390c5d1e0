"""A subset of frames as a file of its own, labels and all."""

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ase
from ase.io.extxyz import write_xyz

from mace_gaunt.data.records import RecordFile
from mace_gaunt.data.sources.contract import BadRecord
from mace_gaunt.errors import UserError
from mace_gaunt.files import check_writable, write_whole

SUFFIXES = (".xyz", ".extxyz")


def check_out(out: str, overwrite: bool) -> Path:
    """The file to write, before anything is read.

    Args:
        out: Its name.
        overwrite: Whether it may exist.

    Raises:
        UserError: If it is no extxyz file, its folder does not exist, or it exists and may not be replaced.
    """
    path = Path(out).expanduser()
    if path.suffix not in SUFFIXES:
        raise UserError(f"out={out}: frames are written as {' or '.join(SUFFIXES)}.")
    if not path.parent.is_dir():
        raise UserError(f"out={out}: there is no folder {path.parent}.")
    for file in (path, record_file(path)):
        if file.exists() and not overwrite:
            raise UserError(f"{file} exists; give another out, or overwrite=true.")
    check_writable(path)
    return path


def record_file(out: Path) -> Path:
    """The JSON file beside a subset that tells where its frames come from."""
    return out.with_suffix(".json")


def write_subset(
    out: Path, files: Sequence[RecordFile], origins: Sequence[tuple[int, int]], record: dict[str, Any]
) -> None:
    """Write frames to an extxyz file, in the order given, and their origin to a JSON file beside it.

    Energies, forces, stress, tags, fixed atoms, info and arrays are kept; positions and forces are rounded to eight
    decimals, as the format has them.

    Args:
        out: The file.
        files: Where the frames are.
        origins: Number of the file and position in it, of each frame.
        record: What else is written to the JSON file.

    Raises:
        UserError: If a frame is not there any more.
    """
    texts: dict[tuple[int, int], str] = {}
    for number, file in enumerate(files):
        wanted = {index for where, index in origins if where == number}
        if not wanted:
            continue
        first = min(wanted)
        for index, atoms in enumerate(file.source.read(first, max(wanted) + 1), first):
            if index in wanted and not isinstance(atoms, BadRecord):
                texts[number, index] = frame_text(atoms)
    if any(origin not in texts for origin in origins):
        raise UserError("the files have changed since they were described.")
    frames = [{"path": str(files[number].source.path), "record": index} for number, index in origins]
    write_whole(out, "".join(texts[origin] for origin in origins))
    write_whole(record_file(out), json.dumps({**record, "frames": frames}, indent=1) + "\n")


def frame_text(atoms: ase.Atoms) -> str:
    """A frame in the extxyz format."""
    atoms = _without_doubles(atoms)
    text = io.StringIO()
    write_xyz(text, [atoms])
    return text.getvalue()


def _without_doubles(atoms: ase.Atoms) -> ase.Atoms:
    """The frame without results of a calculator that its own info or arrays have as well: the writer refuses both."""
    if atoms.calc is None:
        return atoms
    double = [name for name in atoms.calc.results if name in atoms.info or name in atoms.arrays]
    if not double:
        return atoms
    copy = atoms.copy()
    copy.calc = type(atoms.calc)(copy)
    copy.calc.results = {name: value for name, value in atoms.calc.results.items() if name not in double}
    return copy
