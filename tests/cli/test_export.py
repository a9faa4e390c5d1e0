"""`mace-gaunt export` and what its file is used for. One tiny model is compiled; everything else ends before that."""

import functools
import json
import os
import shutil
import zipfile

import ase.io
import numpy as np
import pytest
from small_models import build, crystal, molecule

from mace_gaunt.errors import UserError
from mace_gaunt.model.checkpoint import load_model, save_model
from mace_gaunt.model.gradients import edge_gradient
from mace_gaunt.model.package import describe_package, hash_model, read_metadata
from mace_gaunt.simulation import export as export_module
from mace_gaunt.simulation import loading
from mace_gaunt.simulation.calculator import MaceGauntCalculator

SMALL = {"num_channels": 2, "max_L": 0, "max_ell": 1, "correlation": 1, "radial_MLP": [2], "num_interactions": 1}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_model(build("gaunt", **SMALL), tmp_path_factory.mktemp("export") / "model")


@pytest.fixture
def no_compile(monkeypatch):
    """In the place of the compiler: a file of nothing."""

    def write(model, path, sha256, *, parallel):
        path.write_bytes(b"nothing")
        return {}

    monkeypatch.setattr(export_module, "write_package", write)


@pytest.fixture
def package(folder, tmp_path):
    """A file with the metadata of a package of the model, and nothing to run."""
    info = describe_package(load_model(folder), ["aten"], hash_model(folder))
    with zipfile.ZipFile(tmp_path / "small.pt2", "w") as archive:
        archive.writestr("small/data/aotinductor/model/abc.wrapper_metadata.json", json.dumps(info))
    return tmp_path / "small.pt2"


def wrong_gradient(path, model, sha256):
    """In the place of a package: one percent more than the model gives."""
    return lambda *inputs: tuple(1.01 * value for value in edge_gradient(model, *inputs))


def test_from_export_to_molecular_dynamics(folder, command, tmp_path):
    """One test, so that there is one compilation, however many processes share the suite."""
    status, out, _ = command("export", f"model={folder}", "out=new/small.pt2", "device=cpu")
    assert status == 0
    assert "torch 2" in out and "any program with libtorch" in out
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["new", "small.pt2"]
    package = tmp_path / "new" / "small.pt2"
    info = read_metadata(package)
    assert (info["operators"], info["edge_family"], info["dtype"]) == ("aten", "gaunt", "float64")

    eager = MaceGauntCalculator(folder, device="cpu", kernel="grid")
    fast = MaceGauntCalculator(folder, device="cpu", package=package)
    for atoms in (molecule(), crystal(), molecule()[:1], crystal().repeat((2, 2, 1))):
        for name in ("energy", "forces", "stress") if atoms.pbc.all() else ("energy", "forces"):
            expected = eager.get_property(name, atoms)
            np.testing.assert_allclose(fast.get_property(name, atoms), expected, atol=1e-9, rtol=1e-9)
    frames = [molecule(), crystal()]
    for one, other in zip(fast.evaluate(frames), eager.evaluate(frames), strict=True):
        np.testing.assert_allclose(one["forces"], other["forces"], atol=1e-9)

    ase.io.write(tmp_path / "start.xyz", molecule())
    words = ["md", f"model={folder}", "structure=start.xyz", "steps=3", "timestep_fs=0.1", "device=cpu"]
    assert command(*words, "out=eager", "compile=off", "kernel=grid")[0] == 0
    assert command(*words, "out=fast", "package=new/small.pt2")[0] == 0
    last, expected = (ase.io.read(tmp_path / out / "trajectory.extxyz") for out in ("fast", "eager"))
    np.testing.assert_allclose(last.positions, expected.positions, atol=1e-7)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("model=other", "made from another model"),
        ("model=MODEL dtype=float32", "give dtype=float64"),
        ("model=MODEL kernel=grid", "without compile and kernel"),
        ("model=MODEL package=smal.pt2", "mace-gaunt export"),
    ],
)
def test_simulations_refuse_a_misfit(words, message, package, folder, refused, tmp_path):
    ase.io.write(tmp_path / "start.xyz", molecule())
    other = shutil.copytree(folder, tmp_path / "other")
    (other / "model.json").write_text((other / "model.json").read_text().replace('"metadata"', '"metadata" '))
    words = words.replace("MODEL", str(folder)).split()
    assert message in refused("md", "structure=start.xyz", "out=md", f"package={package}", "device=cpu", *words)


def test_a_package_needs_its_folder(package, folder):
    with pytest.raises(UserError, match="give the folder, not a loaded model"):
        MaceGauntCalculator(load_model(folder), device="cpu", package=package)


def test_a_package_is_not_compiled_again(package, folder, refused, tmp_path, monkeypatch):
    monkeypatch.setattr(loading, "open_package", lambda path, model, sha256: functools.partial(edge_gradient, model))
    ase.io.write(tmp_path / "start.xyz", molecule())
    words = [f"model={folder}", "structure=start.xyz", "out=md", f"package={package}", "device=cpu", "compile=on"]
    assert "without compile=on" in refused("md", *words)


def test_a_package_that_differs_is_not_used(package, folder, monkeypatch):
    monkeypatch.setattr(loading, "open_package", wrong_gradient)
    calculator = MaceGauntCalculator(folder, device="cpu", package=package)
    with pytest.raises(UserError, match=r"other results than its model: .*differ by 1.0e-02.*Export it again"):
        calculator.get_potential_energy(molecule())


def test_a_package_that_differs_is_not_kept(folder, refused, no_compile, monkeypatch):
    monkeypatch.setattr(export_module, "open_package", wrong_gradient)
    message = refused("export", f"model={folder}", "out=a/b/small.pt2", "device=cpu")
    assert "cannot be exported: compiled and eager interaction_energy differ by 1.0e-02" in message


def test_a_compiler_that_fails_is_told(folder, refused, monkeypatch):
    def fail(*inputs, **options):
        raise RuntimeError("it broke\nin many lines")

    monkeypatch.setattr("mace_gaunt.model.ahead_of_time.Standalone", fail)
    assert "cannot be exported: RuntimeError: it broke" in refused("export", f"model={folder}", "out=small.pt2")


def test_a_file_without_code_leaves_nothing(folder, refused, no_compile):
    assert "cannot be read as a package" in refused("export", f"model={folder}", "out=small.pt2")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("out=a.pt2", "model is missing"),
        ("model=MODEL", "out is missing"),
        ("model=MODEL out=a.pth", "out=a.pt2"),
        ("model=MODEL out=there.pt2", "set overwrite=true"),
        ("model=MODEL out=folder.pt2", "is a folder"),
        ("model=MODEL out=there.pt2/a.pt2", "no folder that can be written to"),
        ("model=modle out=a.pt2", "Did you mean 'model'"),
        ("model=empty out=a.pt2", "holds no model"),
        ("model=MODEL out=a.pt2 dtype=float16", "dtype is 'float32' or 'float64'"),
        ("model=MODEL out=a.pt2 device=mps", "Use device=cpu"),
        ("model=MODEL out=a.pt2 device=cuda:99", "cannot be used here"),
        ("model=MODEL out=a.pt2 kernel=fuzed", "Did you mean 'fused'"),
        ("model=MODEL out=a.pt2 kernel=matmul", "computes family matrix"),
        ("model=MODEL out=a.pt2 overwrit=true", "Did you mean 'overwrite'"),
        ("model=MODEL out=a.pt2 --multirun", "has no --multirun"),
    ],
)
def test_mistakes_are_told_before_compiling(words, message, folder, refused, no_compile, tmp_path):
    (tmp_path / "there.pt2").write_text("mine")
    (tmp_path / "folder.pt2").mkdir()
    (tmp_path / "empty").mkdir()
    (tmp_path / "model").mkdir()
    assert message in refused("export", *words.replace("MODEL", str(folder)).split())
    assert (tmp_path / "there.pt2").read_text() == "mine"


def test_without_a_compiler(folder, refused, monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert "needs the C++ compiler 'no-such-compiler'" in refused("export", f"model={folder}", "out=a.pt2")


def test_a_folder_that_cannot_be_written(folder, refused, monkeypatch):
    monkeypatch.setattr(os, "access", lambda *inputs: False)
    assert "no folder that can be written to" in refused("export", f"model={folder}", "out=a.pt2")


def test_validate_only_writes_nothing(folder, command, tmp_path, no_compile):
    status, out, _ = command("export", f"model={folder}", "out=a.pt2", "--validate-only")
    assert (status, out) == (0, "valid: the model can be read and the file written; nothing was written\n")
    assert not list(tmp_path.iterdir())
