"""What importing the package does, and what it does not."""

import json
import subprocess
import sys

import pytest

PROBE = """
import json, os, random, sys
before = dict(os.environ)
state = random.getstate()
import mace_gaunt
light = sorted({"torch", "numpy", "ase", "hydra", "lightning"} & set(sys.modules))
from mace_gaunt import MaceGauntCalculator, load_model
import numpy, torch
print(json.dumps({
    "light": light,
    "environment": before == dict(os.environ),
    "random": state == random.getstate(),
    "dtype": str(torch.get_default_dtype()),
    "grad": torch.is_grad_enabled(),
    "heavy": sorted({"lightning", "hydra", "wandb"} & set(sys.modules)),
    "version": mace_gaunt.__version__,
}))
"""


def test_importing_is_light_and_changes_no_global_state():
    found = json.loads(subprocess.run([sys.executable, "-c", PROBE], capture_output=True, text=True, check=True).stdout)
    assert found["light"] == []
    assert found["environment"]
    assert found["random"]
    assert found["dtype"] == "torch.float32"
    assert found["grad"]
    assert found["version"]


def test_unknown_names_are_attribute_errors():
    import mace_gaunt

    with pytest.raises(AttributeError, match="no attribute 'Calculator'"):
        _ = mace_gaunt.Calculator
