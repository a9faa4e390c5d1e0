"""The model in the repository: small, readable, and as good as its report says."""

from pathlib import Path

import numpy as np
from ase.io import read

from mace_gaunt import MaceGauntCalculator
from mace_gaunt.data.bundled import bundled_path

FOLDER = Path(__file__).resolve().parents[2] / "data" / "models" / "3bpa_xtb_gaunt"


def test_it_is_small_and_complete():
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < 1_000_000
    assert {path.name for path in FOLDER.iterdir()} == {"model.json", "weights.safetensors"}


def test_it_reproduces_the_bundled_labels():
    frames = read(bundled_path("3bpa_xtb") / "test_300K.xyz.gz", ":25")
    results = MaceGauntCalculator(FOLDER).evaluate(frames)
    forces = np.concatenate([frame.calc.results["forces"] for frame in frames])
    predicted = np.concatenate([result["forces"] for result in results])
    assert np.sqrt(np.mean((forces - predicted) ** 2)) < 0.06
    energies = np.array([frame.calc.results["energy"] for frame in frames])
    assert np.sqrt(np.mean((energies - [result["energy"] for result in results]) ** 2)) < 0.06
