"""Damaged yaml files: keys and values, or a refusal that names the file."""

from collections.abc import Callable
from pathlib import Path

import pytest
from mutations import COUNTS, FEWER, bounded, survive

from mace_gaunt.cli.arguments import parse_arguments
from mace_gaunt.cli.compose import Composed, compose
from mace_gaunt.cli.request import load_yaml, read_request
from mace_gaunt.errors import UserError

RECIPE = b"""\
# A recipe with what files hold: choices, numbers, lists, mappings, references, text.
defaults:
  - data: files
  - override /optimizer: adam
train_file: [water.xyz, 'more water.xyz[10:]']
model: {r_max: 5.0, num_channels: 64, max_L: 1}
hidden_irreps: 8x0e + 8x1o
loss: {energy_weight: 4.0e+1, forces_weight: 1000}
E0s: {H: -13.6, O: -2041}
optimizer:
  lr: 0.01
  amsgrad: true
stage_two: null
seed: 17
data: &data
  valid_fraction: 0.1
  config_type_weights: {Default: 1.0}
run: "runs/first ${seed}"
callbacks:
  ema: {decay: 0.99}
trainer:
  max_epochs: 200
"""
PLAIN = (str, int, float, bool, type(None))


def plain(value: object) -> bool:
    """Whether a value is made of mappings, lists and single values alone."""
    if isinstance(value, dict):
        return all(isinstance(key, PLAIN) and plain(entry) for key, entry in value.items())
    return all(map(plain, value)) if isinstance(value, list) else isinstance(value, PLAIN)


def reads(path: Path, compose_too: bool) -> Callable[[bytes], str]:
    def read(content: bytes) -> str:
        path.write_bytes(content)
        found = load_yaml(path)
        assert all(isinstance(key, str) for key in found) and plain(found)
        request = read_request("train", parse_arguments([str(path)]))
        if compose_too:
            assert isinstance(compose(request), Composed)
        return "sound"

    return read


@pytest.mark.parametrize("count", COUNTS)
def test_reading(tmp_path, count):
    outcomes = survive(RECIPE, reads(tmp_path / "recipe.yaml", compose_too=False), count)
    assert outcomes["refused"] > count // 10 and outcomes["sound"]


@pytest.mark.parametrize("count", FEWER)
def test_composing(tmp_path, count):
    outcomes = survive(RECIPE, reads(tmp_path / "recipe.yaml", compose_too=True), count)
    assert outcomes["refused"] > count // 10


BOMB = "a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 12)
)


@pytest.mark.parametrize(
    "text",
    [
        "seed: " + "[" * 100_000,
        "seed: " + "9" * 5000,
        "seed: 0x_",
        "seed: &a [*a]",
        "seed: *a",
        "seed: ${",
        "run: !!python/object/apply:os.system [echo]",
        "run: !!binary aGk=",
        "run: !!set {a, b}",
        "run: !!timestamp 2001-99-99",
        "? [1, 2]\n: 3",
        "seed: 1\nseed: 2",
        "run: \ud800",
        BOMB,
    ],
    ids=lambda text: text[:20],
)
def test_yaml_that_means_nothing(tmp_path, text):
    path = tmp_path / "recipe.yaml"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    with bounded(), pytest.raises(UserError, match=str(path)):
        load_yaml(path)
