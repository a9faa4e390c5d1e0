"""Predictions in files: read back a part at a time, and written frame by frame for other programs."""

import zipfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from itertools import chain
from pathlib import Path
from typing import IO, Any

import ase
import ase.io
import numpy as np
from ase.calculators.singlepoint import SinglePointCalculator

from mace_gaunt.data.atomic_data import AtomicData
from mace_gaunt.errors import UserError
from mace_gaunt.evaluation.metrics import LAYOUT, Predictions
from mace_gaunt.evaluation.split_report import SplitReport
from mace_gaunt.evaluation.streams import Spool, Streamed, write_npz

SUFFIXES = (".extxyz", ".xyz", ".npz")
FRAMES_AT_ONCE = 1000
OF_FRAMES = ("n_atoms", "frame_index", "sid", "fid", "energy", "energy_label")


def read_predictions(path: str | Path, frames: int = FRAMES_AT_ONCE) -> Iterator[Predictions]:
    """Read predictions/SPLIT.npz of a report, a part at a time: memory does not grow with the file.

    Args:
        path: The file.
        frames: How many frames make a part.

    Yields:
        Predictions, in order.

    Raises:
        UserError: If the file is not one that a report wrote; names what it lacks.
    """
    with ExitStack() as stack:
        try:
            archive = stack.enter_context(zipfile.ZipFile(path))
        except (OSError, zipfile.BadZipFile) as error:
            raise UserError(f"{path} cannot be read: {error}.") from error
        missing = [name for name in LAYOUT if f"{name}.npy" not in archive.namelist()]
        if missing:
            raise UserError(
                f"{path} holds no {', '.join(missing)}: it is not of a report of this version; predict again."
            )
        arrays = {name: _Reader(stack.enter_context(archive.open(f"{name}.npy"))) for name in LAYOUT}
        for start in range(0, arrays["n_atoms"].length, frames):
            found = {"n_atoms": arrays["n_atoms"].read(min(frames, arrays["n_atoms"].length - start))}
            counts = {True: len(found["n_atoms"]), False: int(found["n_atoms"].sum())}
            for name in LAYOUT:
                if name != "n_atoms":
                    found[name] = arrays[name].read(counts[name in OF_FRAMES])
            yield Predictions(**found)


def check_predictions_file(path: str | Path, overwrite: bool) -> Path:
    """The file that predictions go to.

    Args:
        path: What the user wrote.
        overwrite: Whether an earlier one may be replaced.

    Returns:
        The file.

    Raises:
        UserError: If its name does not tell the format, it is there already, or its folder is not.
    """
    path = Path(path).expanduser()
    if path.suffix not in SUFFIXES:
        raise UserError(f"predictions={path}: the name of the file ends in .extxyz or .npz.")
    if path.exists() and not overwrite:
        raise UserError(f"predictions={path}: the file exists already. Choose another name, or overwrite=true.")
    if not path.parent.is_dir():
        raise UserError(f"predictions={path}: there is no folder '{path.parent}'.")
    return path


def write_predictions(
    path: str | Path, reports: Mapping[str, SplitReport], frames_by_split: Mapping[str, Iterable[AtomicData]]
) -> Path:
    """Write what a model says about every frame of every split into one file.

    `.extxyz`: the structures with `energy` and `forces` (eV, eV/Å) as predicted, `REF_energy` and `REF_forces` where
    there are labels, `split`, and `frame_index`, the position in its file. `.npz`: the arrays of `Predictions`, all
    splits one behind the other, and `split` [n_frames].

    Args:
        path: The file; see `check_predictions_file`.
        reports: The predictions, by split.
        frames_by_split: The frames; read once more for their structures, which only `.extxyz` needs.

    Returns:
        The file as a path.
    """
    path = Path(path)
    if path.suffix == ".npz":
        return _write_npz(path, reports)
    part = path.with_name(f"{path.name}.part")
    with part.open("w", encoding="utf-8") as file:
        for split, report in reports.items():
            spools, node = report.spools, 0
            for index, frame in enumerate(frames_by_split[split]):
                rows = (node, node + len(frame.positions))
                _write_frame(file, split, frame, {**_rows(spools, index, rows)})
                node = rows[1]
    part.replace(path)
    return path


class _Reader:
    """Rows of an array in a .npy stream, in order."""

    def __init__(self, stream: IO[bytes]) -> None:
        version = np.lib.format.read_magic(stream)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, self.dtype = read(stream)
        self.length, self.row, self.stream = shape[0], shape[1:], stream

    def read(self, count: int) -> np.ndarray:
        size = count * int(np.prod(self.row, dtype=int)) * self.dtype.itemsize
        # A bytearray, since torch wants memory that may be written.
        return np.frombuffer(bytearray(self.stream.read(size)), dtype=self.dtype).reshape(count, *self.row)


def _rows(spools: Mapping[str, Spool], index: int, nodes: tuple[int, int]) -> dict[str, np.ndarray]:
    found = {name: spools[name].read(index, index + 1)[0] for name in ("frame_index", "energy", "energy_label")}
    return found | {name: spools[name].read(*nodes) for name in ("forces", "forces_label")}


def _write_frame(file: IO[str], split: str, frame: AtomicData, found: dict[str, Any]) -> None:
    cell, pbc = frame.cell.numpy().reshape(3, 3), frame.pbc.numpy().ravel()
    atoms = ase.Atoms(frame.atomic_numbers.numpy(), frame.positions.numpy(), cell=cell, pbc=pbc)
    atoms.info.update(split=split, frame_index=int(found["frame_index"]))
    if np.isfinite(found["energy_label"]):
        atoms.info["REF_energy"] = float(found["energy_label"])
    if np.isfinite(found["forces_label"]).all():
        atoms.arrays["REF_forces"] = np.array(found["forces_label"])
    atoms.calc = SinglePointCalculator(atoms, energy=float(found["energy"]), forces=np.array(found["forces"]))
    ase.io.write(file, atoms, format="extxyz")


def _write_npz(path: Path, reports: Mapping[str, SplitReport]) -> Path:
    splits = np.repeat(list(reports), [report.errors.n_frames for report in reports.values()])
    arrays: dict[str, np.ndarray | Streamed] = {"split": splits}
    for name, (kind, row) in LAYOUT.items():
        spools = [report.spools[name] for report in reports.values()]
        length = sum(spool.length for spool in spools)
        chunks = chain.from_iterable(spool.chunks() for spool in spools)
        arrays[name] = Streamed(np.dtype(kind), (length, *row), chunks)
    return write_npz(path, arrays)
