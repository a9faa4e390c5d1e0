"""`mace-gaunt doctor`."""

import importlib.metadata

import pytest

from mace_gaunt.benchmark import building, health
from mace_gaunt.cli import doctor
from mace_gaunt.tensor_products.gaunt import GauntNodeProduct


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    """One operation; the others are built alike."""
    real = health.check_kernels
    monkeypatch.setattr(health, "check_kernels", lambda operation, device: real("node", device)[:4])


def test_a_machine_that_works(command):
    status, out, err = command("doctor")
    assert (status, err) == (0, "")
    assert "everything that is needed works" in out and "\n!" not in out
    for title in ("program", "python", "libraries", "processor", "memory", "devices", "compiler", "cache", "data"):
        assert f"\n  {title} " in f"\n{out}"
    line = next(line for line in out.splitlines() if line.startswith("  cpu node"))
    assert line.split()[2:] == ["gaunt", "grid,", "fourier,", "direct,", "fused"]


def test_a_kernel_that_is_wrong(command, monkeypatch):
    class Wrong(GauntNodeProduct.KERNELS["direct"]):
        def forward(self, *inputs):
            return 1.001 * super().forward(*inputs)

    monkeypatch.setitem(GauntNodeProduct.KERNELS, "direct", Wrong)
    status, out, _ = command("doctor")
    assert status == 1 and "\n3 problems" in out  # one for each operation, which are the same here
    assert "! cpu node    gaunt           direct: disagrees with 'grid': values differ by 1.0e-03 of the largest" in out


def test_a_kernel_that_cannot_be_built(command, monkeypatch):
    def refuse(name, cell):
        if name[1] == "fused":
            raise ImportError("no compiler")
        return real(name, cell)

    real = building.make
    monkeypatch.setattr(health, "make", refuse)
    status, out, _ = command("doctor")
    assert status == 0 and "direct; not here: fused (no compiler)" in out


def test_libraries(monkeypatch):
    versions = {"torch": "1.0", "ase": None, "optuna": None}
    real = importlib.metadata.version
    monkeypatch.setattr(doctor, "version_of", lambda name: versions[name] if name in versions else real("torch"))
    monkeypatch.setattr(importlib.metadata, "requires", lambda name: ["torch>=2.11", "ase", 'h5py; extra == "hdf5"'])
    found = {title: (text, bad) for title, text, bad in doctor.missing_libraries()}
    assert found["missing"] == ("ase: pip install ase", True)
    assert found["versions"] == ("untested: torch 1.0 (needed: >=2.11)", True)
    assert "optuna [sweep]" in found["optional"][0] and not found["optional"][1]


def test_no_compiler_and_no_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("CXX", "absent")
    assert doctor.compiler()[2]
    monkeypatch.setattr(doctor.os, "access", lambda path, mode: False)
    assert "cannot be written" in doctor.caches()[1]


def test_a_user_without_a_home(monkeypatch):
    def no_home() -> None:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr("mace_gaunt.cache.cache_folder", no_home)
    _, told, is_wrong = doctor.caches()
    assert "without a home" in told and "XDG_CACHE_HOME" in told and is_wrong


def test_it_takes_no_words(refused):
    assert "doctor takes no 'run=a'" in refused("doctor", "run=a")
