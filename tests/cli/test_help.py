import subprocess
import sys

import pytest

from mace_gaunt import __version__
from mace_gaunt.cli.benchmark import INSTRUMENTS
from mace_gaunt.cli.main import VERBS

HEAVY = ("torch", "hydra", "omegaconf", "lightning", "ase", "numpy", "e3nn")


@pytest.mark.parametrize("verb", VERBS)
def test_help_has_a_worked_example(verb, command):
    status, out, _ = command(verb, "--help")
    assert status == 0
    assert out.count(f"mace-gaunt {verb}") >= 3


def test_the_verbs_and_the_version(command):
    status, out, _ = command("--help")
    assert status == 0
    assert all(verb in out for verb in VERBS)
    assert command("--version")[:2] == (0, f"mace-gaunt {__version__}\n")
    assert command()[0] == 2


def test_help_imports_nothing_heavy():
    code = (
        "import sys; from mace_gaunt.cli.main import main\n"
        f"for verb in {tuple(VERBS)}: main([verb, '--help'])\n"
        f"for name in {tuple(INSTRUMENTS)}: main(['benchmark', name, '--help'])\n"
        f"loaded = [name for name in {HEAVY} if name in sys.modules]\n"
        "sys.exit(', '.join(loaded) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_help_keys_lists_arguments_choices_and_aliases(command):
    status, out, _ = command("train", "--help-keys")
    assert status == 0
    for text in ("trainer.accumulate_grad_batches=1", "tensor_product=", "cutoff -> model.r_max", "optimizer.betas="):
        assert text in out
    assert "temperature_K=300.0" in command("md", "--help-keys")[1]


@pytest.mark.parametrize("name", INSTRUMENTS)
def test_each_instrument_has_a_help_of_its_own(name, command):
    status, out, _ = command("benchmark", name, "--help")
    assert status == 0
    assert out.count(f"mace-gaunt benchmark {name}") >= 3
    assert "\n  out " in out
