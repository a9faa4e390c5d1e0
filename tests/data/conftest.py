"""Files of small structures."""

from collections.abc import Callable
from pathlib import Path

import ase
import ase.io
import pytest
from waters import make_atom, make_water


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., str]:
    """Write frames to a file in the folder of the test and give its path."""

    def write_file(name: str, *frames: ase.Atoms) -> str:
        path = tmp_path / name
        ase.io.write(path, list(frames), format="extxyz" if ".xyz" in name else None)
        return str(path)

    return write_file


@pytest.fixture
def water_file(write: Callable[..., str]) -> str:
    """Twenty waters and the two isolated atoms."""
    waters = [make_water(i, energy=-2069.0 - 0.1 * i) for i in range(20)]
    return write("water.xyz", make_atom("H"), make_atom("O"), *waters)
