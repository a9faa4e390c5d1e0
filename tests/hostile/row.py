"""What a bad input is: a command, what is prepared for it, and what it must be told."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import ase
import ase.io
import pytest

# A model and a training of a second, on few atoms.
TINY = (
    "model.num_channels=2 max_L=1 max_ell=2 correlation=2 radial_MLP=[4] r_max=3.0 compile=off max_epochs=1 "
    "valid_size=2 device=cpu"
)
TRAIN = f"train train_file=bad.xyz run=out {TINY} --validate-only"
EVALUATE = "evaluate model={model} test_file=bad.xyz out=out device=cpu compile=off"
MD = "md model={model} structure=bad.xyz out=out device=cpu compile=off steps=2"
RELAX = "relax model={model} structure=bad.xyz out=out device=cpu steps=2"
PHONONS = "phonons model={model} structure=bad.xyz out=out device=cpu"


@dataclass(frozen=True)
class Place:
    """Where a command runs.

    Attributes:
        path: The empty folder it runs in.
        run: Run folder of a finished training; only to be read.
        frames: Isolated atoms, then labelled frames; only to be read.
        monkeypatch: Changes this process for the time of a test.
    """

    path: Path
    run: Path
    frames: list[ase.Atoms]
    monkeypatch: pytest.MonkeyPatch

    def write(self, name: str, content: str | bytes) -> Path:
        """A file of this content; its folders are made."""
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    def copy_model(self) -> Path:
        """The trained model, as `model/`."""
        return Path(shutil.copytree(self.run / "model", self.path / "model"))

    def copy_run(self) -> Path:
        """The whole run, as `runs/a`."""
        return Path(shutil.copytree(self.run, self.path / "runs" / "a"))


Build = Callable[[Place], object]


@dataclass(frozen=True)
class Row:
    """A bad input.

    Attributes:
        category: What it is a case of.
        words: The command line; {model} is the run folder of a trained model, {data} a good file of labelled frames.
        message: A part of what must be said.
        build: Prepares the folder or the process.
        status: Exit status.
    """

    category: str
    words: str
    message: str
    build: Build | None = None
    status: int = 2

    @property
    def name(self) -> str:
        """For the list of tests."""
        made = getattr(self.build, "__name__", "").strip("_<>")
        return f"{self.category}-{self.words.split()[0]}-{made or self.message}".replace(" ", "_")[:70]


def named(name: str, build: Build) -> Build:
    """A builder under a name of its own, for the list of tests."""
    build.__name__ = name  # type: ignore[attr-defined]
    return build


def file(name: str, content: str | bytes) -> Build:
    """A builder of one file."""
    return named(f"file_{name}", lambda place: place.write(name, content))


def both(*builds: Build) -> Build:
    """Several builders, one after the other."""
    return named(builds[-1].__name__, lambda place: [build(place) for build in builds])  # type: ignore[attr-defined]
