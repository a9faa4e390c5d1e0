"""deterministic=true: the same command gives the same bits."""

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from mace_gaunt.model.checkpoint import WEIGHTS
from mace_gaunt.tensor_products import selection
from mace_gaunt.training import compilation


@pytest.fixture(autouse=True)
def _as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Lightning sets both for the whole process."""
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.use_deterministic_algorithms(False)
    torch.set_num_threads(threads)


def check_twice(words: list[str], command: Any, folder: Path) -> str:
    """Train twice; all bits of the model and all figures are the same. What was printed."""
    for name in ("one", "two"):
        status, out, err = command("train", *words, f"run={name}")
        assert status == 0, err
    one, two = (folder / "runs" / name for name in ("one", "two"))
    assert (one / "model" / WEIGHTS).read_bytes() == (two / "model" / WEIGHTS).read_bytes()
    with (one / "metrics.csv").open() as first, (two / "metrics.csv").open() as second:
        for row, other in zip(csv.DictReader(first), csv.DictReader(second), strict=True):
            assert {name for name in row if row[name] != other[name]} <= {"seconds", "data_wait"}
    return str(out)


def test_nothing_is_chosen_by_a_measurement(data_file, command, tmp_path, monkeypatch):
    def measured(*arguments: Any) -> None:
        raise AssertionError("a time was measured")

    monkeypatch.setattr(selection, "timed", measured)
    monkeypatch.setattr(compilation, "timed", measured)
    words = ["debug=fast", f"train_file={data_file}", "data.valid_size=2", "data.batch_size=2", "device=cpu"]
    out = check_twice([*words, "kernel=auto", "compile=auto", "deterministic=true"], command, tmp_path)
    assert "measured" not in out


@pytest.mark.slow
@pytest.mark.parametrize("family", ["gaunt", "clebsch_gordan"])
def test_compiled_on_two_threads(family, data_file, command, tmp_path):
    words = [f"tensor_product={family}", f"train_file={data_file}", "data.valid_size=2", "data.batch_size=4"]
    words += ["num_channels=16", "max_epochs=20", "compile=on", "device=cpu", "deterministic=true"]
    check_twice(words, command, tmp_path)
