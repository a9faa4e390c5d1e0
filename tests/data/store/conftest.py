"""Small sets of frames in files, and stores made from them in this process."""

from collections.abc import Callable
from pathlib import Path

import ase
import ase.io
import numpy as np
import pytest
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms

from mace_gaunt.data.store.engines import open_engine
from mace_gaunt.data.store.prepare import Prepared, prepare
from mace_gaunt.data.store.request import Request


def make_slab(seed: int, energy: float | None = None, **info) -> ase.Atoms:
    """A shaken periodic slab of 4 to 6 atoms with tags, fixed atoms and labels of eight decimals."""
    rng = np.random.default_rng(seed)
    symbols = ["Cu", "Cu", "Au", "Cu", "O", "H"][: 4 + seed % 3]
    grid = np.array([[0, 0, 5], [2.6, 0, 5], [0, 2.6, 5], [2.6, 2.6, 5], [1.3, 1.3, 7], [1.3, 1.3, 8]])
    positions = (grid[: len(symbols)] + rng.normal(0, 0.1, (len(symbols), 3))).round(8)
    atoms = ase.Atoms(symbols, positions, cell=[5.2, 5.3, 20.1], pbc=True)
    atoms.set_tags([0, 0, 1, 1, 2, 2][: len(atoms)])
    atoms.set_constraint(FixAtoms([0, 1]))
    energy = -3.0 * len(atoms) + rng.normal() if energy is None else energy
    forces = rng.normal(0, 1, (len(atoms), 3)).round(8)
    atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=forces)
    atoms.info.update(info)
    return atoms


@pytest.fixture
def slabs(tmp_path: Path) -> list[Path]:
    """Two extxyz files, of 7 and 5 slabs, in a folder of their own."""
    folder = tmp_path / "sources"
    folder.mkdir()
    paths = [folder / "0.extxyz", folder / "1.extxyz"]
    ase.io.write(paths[0], [make_slab(i) for i in range(7)])
    ase.io.write(paths[1], [make_slab(i) for i in range(7, 12)])
    return paths


Make = Callable[..., Prepared]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Prepares a store in this process: make(paths, name, key=value, ...)."""

    def run(paths: list[Path], name: str = "store", r_max: float = 4.0, **settings) -> Prepared:
        with open_engine("local", 1) as engine:
            return prepare(Request(paths, tmp_path / name, r_max, **settings), engine)

    return run


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of a folder."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}
