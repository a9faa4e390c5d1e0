"""Small sets of frames in files, and stores made from them in this process."""

from collections.abc import Callable
from pathlib import Path

import ase.io
import pytest
from slabs import make_slab

from mace_gaunt.data.store.engines import open_engine
from mace_gaunt.data.store.prepare import Prepared, prepare
from mace_gaunt.data.store.request import Request


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
