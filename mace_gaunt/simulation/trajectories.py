"""Trajectory files: extxyz, ASE's .traj, and HDF5 after the H5MD convention. All can be cut back and gone on with."""

import os
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ase
import numpy as np
from ase import units
from ase.io.extxyz import write_xyz
from ase.io.trajectory import Trajectory

from mace_gaunt.errors import UserError

# H5MD: time-dependent element -> its shape behind the frames (with the number of atoms n), and unit.
ELEMENTS: dict[str, tuple[tuple[Any, ...], str]] = {
    "particles/all/position": (("n", 3), "Angstrom"),
    "particles/all/velocity": (("n", 3), "Angstrom ps-1"),
    "particles/all/force": (("n", 3), "eV Angstrom-1"),
    "particles/all/box/edges": ((3, 3), "Angstrom"),
    "observables/potential_energy": ((), "eV"),
    "observables/kinetic_energy": ((), "eV"),
}

# While a file is cut back: what it is made anew from, and what it will be.
EARLIER, SHORTER = ".earlier", ".tmp"


class TrajectoryFile(ABC):
    """A file that frames are added to.

    A frame is an `ase.Atoms` with momenta, `info` step and time_ps, and a SinglePointCalculator with energy, forces and
    perhaps stress.
    """

    @abstractmethod
    def write(self, frame: ase.Atoms) -> None:
        """Add a frame; a reader sees it at once."""

    @abstractmethod
    def sync(self) -> int:
        """Put all frames on the disk; gives a mark that `open_trajectory` cuts the file back to."""

    @abstractmethod
    def close(self) -> None:
        """Close the file."""


def open_trajectory(path: Path, mark: int | None = None) -> TrajectoryFile:
    """Open a trajectory for writing.

    Args:
        path: The file; its suffix is one of .extxyz, .traj, .h5.
        mark: Of an earlier `sync`: what was written after it is cut off. None begins a new file.

    Returns:
        The open file.

    Raises:
        UserError: If it is to be HDF5 and h5py is not installed, or it is shorter than the mark.
    """
    kinds: dict[str, Callable[[Path, int | None], TrajectoryFile]]
    kinds = {".extxyz": ExtxyzFile, ".traj": TrajFile, ".h5": H5MDFile}
    return kinds[path.suffix](path, mark)


def drafts(path: Path) -> tuple[Path, ...]:
    """What a kill while a trajectory was cut back may have left beside it; the next `open_trajectory` looks for it.

    Args:
        path: The trajectory.
    """
    return path.with_suffix(EARLIER), path.with_suffix(SHORTER)


def check_library(trajectory: str) -> None:
    """Refuse a format whose library is not installed.

    Args:
        trajectory: "extxyz", "traj" or "h5".

    Raises:
        UserError: Saying what to install.
    """
    if trajectory == "h5":
        _h5py()


class ExtxyzFile(TrajectoryFile):
    """Extended XYZ, text: positions to 1e-8 Å. The mark is a number of bytes."""

    def __init__(self, path: Path, mark: int | None) -> None:
        if mark is not None:
            check_length(path, mark)
        self._file = path.open("w" if mark is None else "r+", encoding="utf-8")
        if mark is not None:
            self._file.truncate(mark)
            self._file.seek(0, os.SEEK_END)

    def write(self, frame: ase.Atoms) -> None:
        write_xyz(self._file, frame, write_results=True)
        self._file.flush()

    def sync(self) -> int:
        self._file.flush()
        os.fsync(self._file.fileno())
        return os.fstat(self._file.fileno()).st_size

    def close(self) -> None:
        self._file.close()


class TrajFile(TrajectoryFile):
    """ASE's own binary format, all digits. The mark is a number of frames."""

    def __init__(self, path: Path, mark: int | None) -> None:
        self._path, self._count = path, mark or 0
        if mark is not None:
            self._cut(mark)
        self._file = Trajectory(str(path), "w" if mark is None else "a")

    def write(self, frame: ase.Atoms) -> None:
        self._file.write(frame)
        self._count += 1

    def sync(self) -> int:
        _to_disk(self._path)
        return self._count

    def close(self) -> None:
        self._file.close()

    def _cut(self, mark: int) -> None:
        check_length(self._path, 1)
        with Trajectory(str(self._path)) as old:
            check_length(self._path, mark, len(old))
            if len(old) == mark:
                return
            shorter = self._path.with_suffix(SHORTER)
            with Trajectory(str(shorter), "w") as new:
                for index in range(mark):
                    new.write(old[index])
        _to_disk(shorter)
        shorter.replace(self._path)


class H5MDFile(TrajectoryFile):
    """HDF5 after H5MD 1.1 (de Buyl et al., Computer Physics Communications 185, 1546, 2014), all digits.

    Group particles/all holds species (atomic numbers), mass (u), position (Å), velocity (Å/ps), force (eV/Å) and
    box/edges (Å); group observables potential_energy and kinetic_energy (eV). Every time-dependent element has value,
    step and time (ps). Written as single writer, multiple readers (SWMR), so that a kill leaves a file that can be read
    and cut back. The mark is a number of frames.
    """

    def __init__(self, path: Path, mark: int | None) -> None:
        self._h5py = _h5py()
        self._path, self._count = path, 0
        earlier = None
        if mark is not None:
            earlier = path.with_suffix(EARLIER)
            # An interrupted cut is done again from the file that it had set aside.
            if not earlier.exists():
                self._check(mark)
                path.replace(earlier)
        self._file = self._h5py.File(path, "w", libver="latest")
        self._ready = False
        if earlier is not None and mark is not None:
            self._take(earlier, mark)
            self.sync()
            earlier.unlink()

    def write(self, frame: ase.Atoms) -> None:
        results = frame.calc.results
        values = {
            "particles/all/position": frame.positions,
            "particles/all/velocity": frame.get_velocities() * (1000 * units.fs),
            "particles/all/force": results["forces"],
            "particles/all/box/edges": frame.cell.array,
            "observables/potential_energy": results["energy"],
            "observables/kinetic_energy": frame.get_kinetic_energy(),
        }
        if not self._ready:
            self._create(frame.numbers, frame.get_masses(), frame.pbc)
        self._append(values, frame.info["step"], frame.info["time_ps"])

    def sync(self) -> int:
        self._file.flush()
        _to_disk(self._path)
        return self._count

    def close(self) -> None:
        self._file.close()

    def _create(self, numbers: np.ndarray, masses: np.ndarray, pbc: np.ndarray) -> None:
        """All groups and empty datasets; then the switch to SWMR, after which none can be added."""
        file = self._file
        meta = file.create_group("h5md")
        meta.attrs["version"] = np.array([1, 1])
        meta.create_group("author").attrs["name"] = "mace_gaunt"
        meta.create_group("creator").attrs.update(name="mace_gaunt", version="1")
        meta.create_group("modules/units").attrs["version"] = np.array([1, 0])
        particles = file.create_group("particles/all")
        particles["species"] = numbers
        particles["mass"] = masses
        particles["mass"].attrs["unit"] = "u"
        particles.create_group("box").attrs.update(
            dimension=3, boundary=["periodic" if flag else "none" for flag in pbc]
        )
        for name, (shape, unit) in ELEMENTS.items():
            sizes = tuple(len(numbers) if size == "n" else size for size in shape)
            _growing(file, f"{name}/value", sizes, np.float64).attrs["unit"] = unit
            _growing(file, f"{name}/step", (), np.int64)
            _growing(file, f"{name}/time", (), np.float64).attrs["unit"] = "ps"
        file.swmr_mode = True
        self._ready = True

    def _append(self, values: dict[str, Any], step: int, time_ps: float) -> None:
        self._count += 1
        for name, value in values.items():
            for leaf, entry in (("value", value), ("step", step), ("time", time_ps)):
                dataset = self._file[f"{name}/{leaf}"]
                dataset.resize(self._count, axis=0)
                dataset[-1] = entry
        self._file.flush()

    def _check(self, count: int) -> None:
        check_length(self._path, 1)
        with self._h5py.File(self._path, "r", libver="latest", swmr=True) as old:
            check_length(self._path, count, min(len(old[f"{name}/value"]) for name in ELEMENTS))

    def _take(self, path: Path, count: int) -> None:
        """Copy the first frames of another file."""
        with self._h5py.File(path, "r", libver="latest", swmr=True) as old:
            particles = old["particles/all"]
            pbc = np.array([word == "periodic" for word in particles["box"].attrs["boundary"]])
            self._create(particles["species"][:], particles["mass"][:], pbc)
            for index in range(count):
                values = {name: old[f"{name}/value"][index] for name in ELEMENTS}
                position = old["particles/all/position"]
                self._append(values, position["step"][index], position["time"][index])


def _growing(file: Any, name: str, shape: tuple[int, ...], dtype: type) -> Any:
    """An empty dataset that grows along its first axis, in chunks of about 64 kB."""
    rows = max(1, 65536 // (8 * int(np.prod(shape, initial=1))))
    return file.create_dataset(name, (0, *shape), dtype, maxshape=(None, *shape), chunks=(rows, *shape))


def _h5py() -> Any:
    try:
        import h5py
    except ImportError as error:
        raise UserError(
            "trajectory=h5 needs h5py: pip install 'mace-gaunt[hdf5]', or choose extxyz or traj."
        ) from error
    return h5py


def _to_disk(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def check_length(path: Path, wanted: int, found: int | None = None) -> None:
    """Refuse a file that is gone, or shorter than a checkpoint says.

    Args:
        path: The file.
        wanted: Its length at the checkpoint.
        found: Its length now, in the same units; None takes its bytes.

    Raises:
        UserError: Naming it.
    """
    if not path.is_file():
        raise UserError(f"there is no '{path}' to continue: put it back, or start anew with overwrite=true.")
    found = path.stat().st_size if found is None else found
    if found < wanted:
        raise UserError(
            f"'{path}' is shorter than its checkpoint says ({found} < {wanted}): it cannot be continued. Start anew "
            "with overwrite=true."
        )
