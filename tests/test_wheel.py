"""What a user installs: the wheel, in an environment of its own and away from the checkout."""

import importlib
import json
import os
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import venv
import zipfile
from pathlib import Path
from types import ModuleType

import pytest

import mace_gaunt

ROOT = Path(__file__).resolve().parents[1]

PROBE = """
import json
import ase.io
import mace_gaunt
from mace_gaunt import MaceGauntCalculator
from mace_gaunt.cli.choices import config_dir
from mace_gaunt.data.bundled import bundled_path
atoms = ase.io.read(bundled_path("3bpa_xtb") / "test_300K.xyz.gz", index=0)
expected = atoms.get_potential_energy()
atoms.calc = MaceGauntCalculator(bundled_path("models/3bpa_xtb_gaunt"), kernel="direct")
print(json.dumps({
    "places": [mace_gaunt.__file__, str(config_dir()), str(bundled_path("3bpa_xtb"))],
    "error": atoms.get_potential_energy() - expected,
}))
"""


@pytest.fixture
def backend(monkeypatch) -> ModuleType:
    """What pip calls to build the package; it works in the current folder, the checkout."""
    monkeypatch.chdir(ROOT)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    return importlib.import_module(project["build-system"]["build-backend"])


def contents(wheel: Path) -> dict[str, bytes]:
    """What a wheel holds, by name."""
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def make_environment(folder: Path, wheel: Path) -> Path:
    """An environment that holds the wheel and sees the libraries of this one, but no other mace_gaunt.

    Args:
        folder: Where it goes.
        wheel: The wheel to install.

    Returns:
        The environment's folder of programs.
    """
    venv.create(folder, with_pip=True, symlinks=True)
    programs = folder / "bin"
    install = [programs / "python", "-m", "pip", "install", "-q", "--no-deps", "--no-index", wheel]
    subprocess.run(install, check=True)
    # Only now: with the libraries in sight pip would take the checkout's editable installation for the one to replace.
    # And as a line of a .pth file, since in a folder named so the .pth file of the editable installation is not read.
    site_packages = folder / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
    libraries = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    (site_packages / "libraries.pth").write_text("\n".join(sorted(libraries)), encoding="utf-8")
    return programs


def output_of(command: list[str | Path], folder: Path) -> str:
    """What a command prints in a folder, where nothing of the checkout is in reach."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_wheel_works_where_there_is_no_checkout(tmp_path, backend):
    environment, elsewhere = tmp_path / "environment", tmp_path / "elsewhere"
    elsewhere.mkdir()
    programs = make_environment(environment, tmp_path / backend.build_wheel(str(tmp_path)))

    command = [programs / "mace-gaunt", "--version"]
    assert output_of(command, elsewhere) == f"mace-gaunt {mace_gaunt.__version__}\n"
    # A kernel is named, or all of them would be compiled and measured.
    command = [programs / "mace-gaunt", "train", "experiment=quickstart", "kernel=direct", "--validate-only"]
    printed = output_of(command, elsewhere)
    assert "450 training, 50 validation frames" in printed
    assert "valid: everything is ready for training" in printed
    found = json.loads(output_of([programs / "python", "-c", PROBE], elsewhere).splitlines()[-1])
    assert all(Path(place).is_relative_to(environment) for place in found["places"]), found
    assert abs(found["error"]) < 0.1, "the bundled model, on a frame of the bundled test set (eV)"


def test_the_source_distribution_builds_the_same_wheel(tmp_path, backend, monkeypatch):
    direct = tmp_path / backend.build_wheel(str(tmp_path))
    source = tmp_path / backend.build_sdist(str(tmp_path))
    with tarfile.open(source) as archive:
        archive.extractall(tmp_path / "source", filter="data")
    (unpacked,) = (tmp_path / "source").iterdir()
    monkeypatch.chdir(unpacked)
    through_source = contents(tmp_path / "source" / backend.build_wheel(str(tmp_path / "source")))

    assert through_source == contents(direct)
    for name in ("cli/main.py", "configs/train.yaml", "bundled/3bpa_xtb/iso_atoms.xyz"):
        assert f"mace_gaunt/{name}" in through_source
    assert not [name for name in through_source if name.startswith(("tests/", "data/", "configs/"))]
