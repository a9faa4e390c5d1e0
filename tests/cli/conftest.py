"""Small data and a command line that runs inside the test process."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import ase
import ase.io
import pytest
import torch

from mace_gaunt.cli.main import main

# A model and a training that take a second.
TINY = [
    "model.num_channels=2",
    "max_L=1",
    "max_ell=2",
    "correlation=2",
    "radial_MLP=[4]",
    "r_max=3.0",
    "compile=off",
    "max_epochs=2",
    "valid_size=2",
    "device=cpu",
]

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs `mace-gaunt WORDS` in an empty folder; gives exit status, standard output and standard error."""
    monkeypatch.chdir(tmp_path)

    def run(*words: str) -> tuple[int, str, str]:
        capsys.readouterr()
        status = main(list(words))
        out, err = capsys.readouterr()
        return status, out, err

    return run


HOLDS_A_LOCK = """
import sys, time
from pathlib import Path
from mace_gaunt.locks import held
with held(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def training_in() -> Iterator[Callable[[Path], subprocess.Popen[bytes]]]:
    """Starts a process that holds the lock of a folder as one that trains in it does."""
    started: list[subprocess.Popen[bytes]] = []

    def start(folder: Path) -> subprocess.Popen[bytes]:
        folder.mkdir(parents=True, exist_ok=True)
        process = subprocess.Popen([sys.executable, "-c", HOLDS_A_LOCK, str(folder)], stdout=subprocess.PIPE)
        started.append(process)
        assert process.stdout is not None and process.stdout.readline() == b"held\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def refused(command: Command, tmp_path: Path) -> Callable[..., str]:
    """Runs a command that must be refused: status 2, one line of error, nothing written; gives the line."""

    def run(*words: str) -> str:
        before = sorted(tmp_path.rglob("*"))
        status, _, err = command(*words)
        assert status == 2, err
        assert "Traceback" not in err
        assert err.startswith("error: ")
        assert err.count("\n") == 1
        assert sorted(tmp_path.rglob("*")) == before
        return err

    return run


@pytest.fixture(scope="session")
def frames(bundled_data: Path) -> list[ase.Atoms]:
    """Isolated atoms and ten labelled frames."""
    return [*ase.io.read(bundled_data / "iso_atoms.xyz", ":"), *ase.io.read(bundled_data / "train_300K.xyz.gz", ":10")]


@pytest.fixture(scope="session")
def data_file(frames: list[ase.Atoms], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training file."""
    path = tmp_path_factory.mktemp("data") / "frames.xyz"
    ase.io.write(path, frames)
    return path


@pytest.fixture(scope="session")
def energies_only(frames: list[ase.Atoms], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same frames without forces."""
    path = tmp_path_factory.mktemp("data") / "energies.xyz"
    bare = [atoms.copy() for atoms in frames]
    for atoms, labelled in zip(bare, frames, strict=True):
        atoms.info["energy"] = labelled.get_potential_energy()
    ase.io.write(path, bare)
    return path


@pytest.fixture(scope="session")
def chlorine_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A molecule with an element that no model here knows."""
    path = tmp_path_factory.mktemp("data") / "chlorine.xyz"
    atoms = ase.Atoms("HCl", [[0.0, 0.0, 0.0], [0.0, 0.0, 1.27]])
    atoms.info["energy"] = -1.0
    ase.io.write(path, atoms)
    return path


@pytest.fixture(scope="session")
def trained(data_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of a finished training of two epochs."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    assert main(["train", f"train_file={data_file}", f"test_file={data_file}", f"run={folder}", *TINY]) == 0
    return folder
