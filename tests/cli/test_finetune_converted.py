"""Trainings that start from a converted MACE model, which keeps a radius of each of its elements."""

import ase.build
import ase.io
import numpy as np
import pytest
import torch
from ase.calculators.singlepoint import SinglePointCalculator
from mace_cases import converted
from small_models import graph

from mace_gaunt.cli.finetune import Start
from mace_gaunt.model.checkpoint import save_model
from mace_gaunt.model.gradients import predict


def labelled(name):
    """Displaced copies of a molecule, with any energies."""
    frames = [ase.build.molecule(name) for _ in range(5)]
    for seed, atoms in enumerate(frames):
        atoms.positions += np.random.default_rng(seed).normal(scale=0.05, size=(len(atoms), 3))
        atoms.calc = SinglePointCalculator(atoms, energy=-seed, forces=np.zeros((len(atoms), 3)))
    return frames


@pytest.fixture
def filled(monkeypatch):
    """The models that got their weights."""
    models, fill = [], Start.fill

    def remember(start, model):
        fill(start, model)
        models.append(model)

    monkeypatch.setattr(Start, "fill", remember)
    return models


@pytest.mark.parametrize(
    ("case", "head", "molecule", "words"),
    [
        ("density_agnesi_heads", "pbe", "CH3CH2OH", ["E0s=model"]),
        ("plain_one_layer", None, "CO2", ["E0s=model"]),
        ("density_agnesi_heads", "pbe", "CH3CONH2", ["E0s={H: 1.0, C: 2.0, N: 3.0, O: 4.0}", "add_elements=[N]"]),
    ],
    ids=["the same elements", "fewer elements", "one element more"],
)
def test_a_training_begins_with_the_same_function(case, head, molecule, words, command, tmp_path, filled):
    model = converted(case, head)
    save_model(model, tmp_path / "converted")
    ase.io.write("frames.xyz", labelled(molecule))
    start = ["train_file=frames.xyz", "valid_size=2", "init=converted", "run=new", "dtype=float64", "kernel=dense"]
    status, _, err = command("train", *start, *words, "compile=off", "device=cpu", "--validate-only")
    assert status == 0, err
    (new,) = filled
    assert set(labelled(molecule)[0].numbers) == set(new.atomic_numbers)
    assert len(new.hyperparameters["zbl"]["radii"]) == len(new.atomic_numbers)
    # Close enough for the repulsion, of elements that both know.
    pair = ase.Atoms("CO", [[0, 0, 0], [0, 0.3, 1.1]])
    found, expected = (predict(one, graph(pair, one))["forces"] for one in (new, model))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-9)
