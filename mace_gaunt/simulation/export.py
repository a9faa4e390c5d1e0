"""A model as a compiled package, compared with the model itself before it gets its name."""

import os
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import ase
import numpy as np

from mace_gaunt.data.atomic_data import AtomicData
from mace_gaunt.errors import UserError
from mace_gaunt.model.ahead_of_time import SUFFIX, missing_compiler, write_package
from mace_gaunt.model.compiled import CompileError, check_agreement
from mace_gaunt.model.kernels import KernelChoice
from mace_gaunt.model.mace import MACE
from mace_gaunt.model.package import hash_model, open_package
from mace_gaunt.simulation.loading import find_model_folder, open_model

QUANTITIES = ("interaction_energy", "forces", "virials")


@dataclass(frozen=True)
class Exported:
    """What an export made.

    Attributes:
        path: The package.
        metadata: See `describe_package`.
        seconds: How long tracing and compiling took.
        size: Bytes.
        differences: Of each structure it was tried on, the largest of each quantity relative to the eager model.
    """

    path: Path
    metadata: dict[str, str]
    seconds: float
    size: int
    differences: dict[str, dict[str, float]]


def export_model(
    model: str | Path,
    out: str | Path,
    *,
    dtype: str = "float64",
    device: str = "auto",
    kernel: KernelChoice = "auto",
    parallel: bool | None = None,
    overwrite: bool = False,
    head: str | None = None,
) -> Exported:
    """Compile a model ahead of time; takes about a minute.

    The file appears under its name only after it was loaded again and gave the energies, forces and virials of the
    eager model for structures of several sizes, with and without a cell.

    Args:
        model: Model folder or run folder.
        out: The package, ending in .pt2.
        dtype: "float64" or "float32".
        device: "auto", "cpu" or "cuda".
        kernel: See `open_model`; "auto" takes kernels of torch's own operators, so that any program with libtorch can
            load the package. "fused" is faster on a CPU and confines it to Python with this package imported.
        parallel: See `write_package`.
        overwrite: Whether a file that is there may be replaced.
        head: See `open_model`; a package has one.

    Raises:
        UserError: If the model cannot be loaded or compiled, `out` cannot be written, or the package gives other
            results; nothing is left behind.
    """
    path, potential = check_request(
        model, out, dtype=dtype, device=device, kernel=kernel, overwrite=overwrite, head=head
    )
    sha256 = hash_model(find_model_folder(model))
    # In the same file system as `out`, so that renaming is all that is left to do.
    with tempfile.TemporaryDirectory(prefix=".mace-gaunt-export-", dir=existing_folder(path)) as scratch:
        draft = Path(scratch) / path.name
        begin = time.perf_counter()
        try:
            metadata = write_package(potential, draft, sha256, parallel=parallel)
            seconds = time.perf_counter() - begin
            gradient = open_package(draft, potential, sha256)
            differences = {
                name: check_agreement(potential, graph.to(potential.device), gradient, QUANTITIES)
                for name, graph in probes(potential)
            }
        except CompileError as error:
            raise UserError(f"the model cannot be exported: {error}") from error
        path.parent.mkdir(parents=True, exist_ok=True)
        draft.replace(path)
    return Exported(path, metadata, seconds, path.stat().st_size, differences)


def check_request(
    model: str | Path,
    out: str | Path,
    *,
    dtype: str,
    device: str,
    kernel: KernelChoice,
    overwrite: bool,
    head: str | None = None,
) -> tuple[Path, MACE]:
    """Everything that can be refused before the compiler starts; makes nothing.

    Args:
        model: See `export_model`, as all others.

    Returns:
        The file to write, and the model.

    Raises:
        UserError: See `export_model`.
    """
    folder, path = find_model_folder(model), check_file(out, overwrite)
    potential = open_model(folder, device, dtype, kernel, head)
    check_compiler()
    return path, potential


def check_file(out: str | Path, overwrite: bool) -> Path:
    """Refuse a file that cannot be written; makes nothing.

    Raises:
        UserError: If it has another ending, is there already, or its folder cannot be written.
    """
    path = Path(out).expanduser()
    if path.suffix != SUFFIX:
        raise UserError(f"out='{out}' is a package, whose name ends in {SUFFIX}, as in out={path.stem}{SUFFIX}.")
    if path.is_dir():
        raise UserError(f"out='{out}' is a folder: give a file in it.")
    if path.exists() and not overwrite:
        raise UserError(f"'{out}' is there already. Choose another out, or set overwrite=true.")
    folder = existing_folder(path)
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        raise UserError(f"out='{out}' cannot be written: '{folder}' is no folder that can be written to.")
    return path


def existing_folder(path: Path) -> Path:
    """The innermost folder above a file that exists."""
    return next(parent for parent in path.absolute().parents if parent.exists())


def check_compiler() -> None:
    """Refuse to begin without a C++ compiler.

    Raises:
        UserError: Naming it.
    """
    compiler = missing_compiler()
    if compiler:
        raise UserError(f"an export needs the C++ compiler '{compiler}', which is not here: install it, or set CXX.")


def probes(model: MACE) -> Iterator[tuple[str, AtomicData]]:
    """Structures of the model's elements to try a package on, of other sizes than those that it was traced with.

    A compiler treats sizes of 0 and 1 and equal sizes as special, so these are there: of 1 atom there are no pairs, of
    2 atoms one, and of 3 in a row three.
    """
    spacing = 0.4 * model.r_max
    skewed = np.array([[2.0, 0.0, 0.0], [0.3, 2.0, 0.0], [-0.2, 0.4, 3.0]])
    for name, shape, cell in (
        ("1 atom", (1, 1, 1), None),
        ("2 atoms", (2, 1, 1), None),
        ("3 atoms", (3, 1, 1), None),
        ("18 atoms", (3, 3, 2), None),
        ("12 atoms in a periodic cell", (2, 2, 3), skewed),
        ("80 atoms", (4, 4, 5), None),
    ):
        atoms = lattice(model.atomic_numbers, shape, spacing, cell)
        yield name, AtomicData.from_atoms(atoms, model.r_max, model.atomic_numbers)


def lattice(numbers: list[int], shape: tuple[int, int, int], spacing: float, cell: np.ndarray | None) -> ase.Atoms:
    """A piece of a simple lattice, displaced at random, with the elements in turns.

    Args:
        numbers: Atomic numbers.
        shape: Atoms along each direction.
        spacing: Between neighbours (Å).
        cell: In units of spacing, for a periodic lattice.
    """
    rng = np.random.default_rng(0)
    places = np.indices(shape).reshape(3, -1).T + rng.uniform(-0.1, 0.1, (int(np.prod(shape)), 3))
    if cell is not None:
        places = places / np.array(shape) @ cell
    kinds = [numbers[index % len(numbers)] for index in range(len(places))]
    box = None if cell is None else spacing * cell
    return ase.Atoms(numbers=kinds, positions=spacing * places, cell=box, pbc=cell is not None)
