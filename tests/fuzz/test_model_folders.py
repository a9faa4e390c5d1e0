"""Damaged model folders are refused: everything in them has a checksum."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from mutations import COUNTS, FEWER, survive
from small_models import build, graph, molecule

from mace_gaunt import load_model
from mace_gaunt.errors import UserError
from mace_gaunt.model.checkpoint import DESCRIPTION, WEIGHTS, save_model
from mace_gaunt.model.gradients import predict

MODEL = build(num_channels=2, max_L=0, radial_MLP=[4])


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return save_model(MODEL, tmp_path_factory.mktemp("saved") / "model", {"note": "x", "errors": [1.5, 2, None, True]})


def meaning(content: bytes) -> str | None:
    """JSON as one text, however it is laid out; None when it is none."""
    try:
        return json.dumps(json.loads(content.decode()), sort_keys=True)
    except (ValueError, RecursionError):
        return None


def of_file(folder: Path, name: str, original: bytes) -> Callable[[bytes], str]:
    """Puts damaged content into a folder, and fails unless it is refused or means the same."""

    def read(content: bytes) -> str:
        (folder / name).write_bytes(content)
        model = load_model(folder)
        same = content == original or (name == DESCRIPTION and meaning(content) == meaning(original))
        assert same, "a changed file was accepted"
        expected, found = (predict(one, graph(molecule(), one)) for one in (MODEL, model))
        assert torch.equal(found["energy"], expected["energy"]) and torch.equal(found["forces"], expected["forces"])
        return "sound"

    return read


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("name", [DESCRIPTION, WEIGHTS])
def test_model_folders(folder, tmp_path, name, count):
    copy = shutil.copytree(folder, tmp_path / "model")
    original = (folder / name).read_bytes()
    outcomes = survive(original, of_file(copy, name, original), count)
    assert outcomes["refused"] > count // 2


@pytest.mark.parametrize("count", FEWER)
def test_weights_without_a_checksum(tmp_path, count):
    """Folders of the first schema: what safetensors cannot read, or does not fit the model, is refused."""
    saved = Path(__file__).parents[1] / "fixtures" / "models" / "schema_1"
    copy = shutil.copytree(saved, tmp_path / "model")
    shapes = {name: value.shape for name, value in load_model(copy).state_dict().items()}

    def read(content: bytes) -> str:
        (copy / WEIGHTS).write_bytes(content)
        assert {name: value.shape for name, value in load_model(copy).state_dict().items()} == shapes
        return "sound"

    outcomes = survive((saved / WEIGHTS).read_bytes(), read, count)
    assert outcomes["refused"] > count // 2


@pytest.mark.parametrize("version", ["1", "true", "1.0", "2.0"])
def test_another_schema_does_not_switch_the_checksums_off(folder, tmp_path, version):
    copy = shutil.copytree(folder, tmp_path / "model")
    text = (copy / DESCRIPTION).read_text()
    (copy / DESCRIPTION).write_text(text.replace('"schema_version": 2', f'"schema_version": {version}'))
    with pytest.raises(UserError, match=r"schema version|was altered since it was saved"):
        load_model(copy)


@pytest.mark.parametrize("text", ["[" * 100_000, '{"schema_version": ' + "9" * 5000 + "}", "NaN", "[]", '""', "1"])
def test_json_that_no_model_has(tmp_path, text):
    (tmp_path / DESCRIPTION).write_text(text)
    with pytest.raises(UserError, match="cannot be read as a model description"):
        load_model(tmp_path)
