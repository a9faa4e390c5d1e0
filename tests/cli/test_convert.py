"""`mace-gaunt convert`: what it says, what it writes, and what it refuses without writing anything."""

import gzip
import json
import shutil

import pytest
import torch
from mace_cases import ROOT, files, reference, structures
from safetensors.torch import save_file

from mace_gaunt.cli import convert as convert_module
from mace_gaunt.errors import UserError
from mace_gaunt.interop import mace_pickle
from mace_gaunt.model.checkpoint import load_model
from mace_gaunt.simulation.calculator import MaceGauntCalculator

CASE = ROOT / "density_agnesi_heads"


def test_a_folder_becomes_a_model_folder(command, tmp_path):
    status, out, _ = command("convert", f"mace={CASE}", "out=new/model")
    assert status == 0
    for words in ("ScaleShiftMACE", "density with correlation 3", "agnesi, ZBL", "H, C, O", "Default is used", "eV"):
        assert words in out
    model = load_model(tmp_path / "new" / "model")
    assert model.metadata["converted_from"]["file"] == "density_agnesi_heads"
    atoms = structures()[1]
    atoms.calc = MaceGauntCalculator(tmp_path / "new" / "model", device="cpu", head="pbe")
    expected = reference("density_agnesi_heads", "energy", "pbe")[1]
    assert atoms.get_potential_energy() == pytest.approx(expected, abs=1e-10)


def test_one_head_and_nothing_written(command, tmp_path):
    assert command("convert", f"mace={CASE}", "out=one", "head=pbe")[0] == 0
    assert load_model(tmp_path / "one").heads == ["pbe"]
    status, out, _ = command("convert", f"mace={CASE / 'config.json'}", "out=two", "--validate-only")
    assert status == 0 and "nothing was written" in out and not (tmp_path / "two").exists()


@pytest.mark.parametrize("kind", ["npz", "pt", "pt.gz", "safetensors"])
def test_every_kind_of_state_dict(kind, command, tmp_path):
    settings, tensors = files("order_4")
    tensors = {name: torch.as_tensor(value) for name, value in tensors.items()}
    path = tmp_path / "case" / f"weights.{kind}"
    path.parent.mkdir()
    (path.parent / "config.json").write_text(json.dumps(settings))
    if kind == "npz":
        shutil.copy(ROOT / "order_4" / "state_dict.npz", path)
    elif kind == "safetensors":
        save_file({name: value.contiguous() for name, value in tensors.items()}, path)
    else:
        torch.save(tensors, path.with_name("weights.pt"))
        if kind == "pt.gz":
            path.write_bytes(gzip.compress(path.with_name("weights.pt").read_bytes()))
    assert command("convert", f"mace={path}", "out=model", "--validate-only")[0] == 0


@pytest.fixture
def peer(monkeypatch, tmp_path):
    """In the place of mace-torch: what it would extract of a file."""

    def extract(path, python, folder):
        assert path.read_bytes() == b"pickle"
        for source in (ROOT / "order_4").iterdir():
            shutil.copy(source, folder)
        shutil.copy(ROOT / "inputs.npz", folder)

    monkeypatch.setattr(mace_pickle, "extract", extract)
    (tmp_path / "env" / "bin").mkdir(parents=True)
    (tmp_path / "env" / "bin" / "python").touch()
    (tmp_path / "a.model").write_bytes(b"pickle")


def test_a_pickled_model_is_opened_on_request_alone_and_compared(command, refused, peer, tmp_path):
    message = refused("convert", "mace=a.model", "out=model", "peer_env=env")
    assert "runs code" in message and "trust=true" in message
    status, out, _ = command("convert", "mace=a.model", "out=model", "peer_env=env", "trust=true")
    assert status == 0 and "runs code that is in it" in out
    assert "largest difference from mace-torch in float64: energy" in out
    assert load_model(tmp_path / "model").metadata["converted_from"]["file"] == "a.model"


def test_a_difference_from_mace_torch_is_refused(refused, peer, monkeypatch):
    monkeypatch.setattr(convert_module, "TOLERANCE", 1e-30)
    words = refused("convert", "mace=a.model", "out=model", "peer_env=env", "trust=true")
    assert "differs from the MACE model (energy" in words


def test_pickles_are_found_whatever_they_are_called(refused, tmp_path):
    torch.save(torch.nn.Linear(2, 2), tmp_path / "state_dict.pt")
    assert "pickled model" in refused("convert", "mace=state_dict.pt", "out=model")
    message = refused("convert", "mace=state_dict.pt", "out=model", "trust=true", "peer_env=nowhere")
    assert "no environment with mace-torch in nowhere" in message and "make_peer_env.sh" in message


def test_what_the_environment_says_is_passed_on(tmp_path):
    (tmp_path / "bin").mkdir()
    python = tmp_path / "bin" / "python"
    python.write_text("#!/bin/sh\necho first >&2\necho 'ModuleNotFoundError: no mace' >&2\nexit 1\n")
    python.chmod(0o755)
    with pytest.raises(UserError, match=r"cannot be read by mace-torch in .*ModuleNotFoundError: no mace"):
        mace_pickle.extract(tmp_path / "a.model", python, tmp_path)
    with pytest.raises(UserError, match="cannot be started"):
        mace_pickle.extract(tmp_path / "a.model", tmp_path / "bin" / "none", tmp_path)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("out=model", "mace is missing"),
        ("mace=CASE", "out is missing"),
        ("mace=nowhere out=model", "No file or folder 'nowhere'"),
        ("mace=none.model out=model", "No file 'none.model'"),
        ("mace=CASE out=model head=pbee", "no head 'pbee'"),
        ("mace=CASE out=model hed=pbe", "Did you mean 'head'"),
        ("mace=CASE out=taken", "already holds model.json"),
        ("mace=empty out=model", "has no state dict"),
        ("mace=broken.npz out=model", "cannot be read as a state dict"),
        ("mace=alone/state_dict.npz out=model", "tensors alone"),
        ("mace=refused out=model", "cannot be converted: use_so3=True of a MACE model is not supported"),
        ("mace=words out=model", "holds no settings"),
    ],
)
def test_refused_without_a_trace(words, message, refused, tmp_path):
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "model.json").touch()
    for name, content in (("empty", {}), ("refused", {"use_so3": True}), ("words", "[1]")):
        (tmp_path / name).mkdir()
        config = content if isinstance(content, str) else json.dumps({"config": files("order_4")[0] | content})
        (tmp_path / name / "config.json").write_text(config)
    (tmp_path / "alone").mkdir()
    for name in ("refused", "words", "alone"):
        shutil.copy(ROOT / "order_4" / "state_dict.npz", tmp_path / name)
    (tmp_path / "broken.npz").write_bytes(b"nothing")
    assert message in refused("convert", *words.replace("CASE", str(CASE)).split())
    assert not (tmp_path / "model").exists()


@pytest.mark.slow
def test_the_pickled_model_of_the_shared_data(command, shared_data, bundled_data):
    python = bundled_data.parents[1] / ".venv-peer"
    path = shared_data / "mace_reference" / "dev1_small_l1" / "whole_model.model"
    if not python.is_dir() or not path.is_file():
        pytest.skip("needs an environment with mace-torch and the shared model")
    status, out, _ = command("convert", f"mace={path}", "out=model", "trust=true", f"peer_env={python}")
    assert status == 0 and "forces" in out and "stress" in out
