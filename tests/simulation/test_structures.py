"""Reading structures."""

import gzip

import ase.io
import pytest
from ase import Atoms

from mace_gaunt.errors import UserError
from mace_gaunt.simulation.structures import read_structure


@pytest.fixture
def trajectory(tmp_path):
    frames = [Atoms("OH", positions=[[0, 0, 0], [0, 0, 1 + 0.1 * i]]) for i in range(3)]
    ase.io.write(tmp_path / "water.xyz", frames)
    return tmp_path / "water.xyz"


def test_the_last_frame_by_default(trajectory):
    assert read_structure(trajectory).positions[1, 2] == pytest.approx(1.2)
    assert read_structure(str(trajectory), 0).positions[1, 2] == pytest.approx(1.0)
    assert read_structure(trajectory, -3).positions[1, 2] == pytest.approx(1.0)


def test_compressed_files(trajectory, tmp_path):
    (tmp_path / "packed.xyz.gz").write_bytes(gzip.compress(trajectory.read_bytes()))
    assert len(read_structure(tmp_path / "packed.xyz.gz")) == 2


@pytest.mark.parametrize("index", [3, -4, 100])
def test_frames_that_are_not_there(trajectory, index):
    with pytest.raises(UserError, match=rf"no frame {index}: it holds 3 frames"):
        read_structure(trajectory, index)


def test_files_that_are_not_there(trajectory, tmp_path):
    with pytest.raises(UserError, match=r"No structure file .*Did you mean 'water.xyz'"):
        read_structure(tmp_path / "watr.xyz")
    with pytest.raises(UserError, match="No structure file"):
        read_structure(tmp_path / "no_folder" / "water.xyz")
    with pytest.raises(UserError, match="is a folder: give one file"):
        read_structure(tmp_path)


@pytest.mark.parametrize("content", ["", "this is no structure\n", "2\n\nO 0 0 0\n"])
def test_files_that_are_no_structures(tmp_path, content):
    (tmp_path / "broken.xyz").write_text(content)
    with pytest.raises(UserError, match=r"broken\.xyz"):
        read_structure(tmp_path / "broken.xyz")


def test_frames_without_atoms(tmp_path):
    (tmp_path / "none.xyz").write_text("0\n\n")
    with pytest.raises(UserError, match=r"none\.xyz"):
        read_structure(tmp_path / "none.xyz")
