"""Trainings that start from a model."""

import json
import shutil
from pathlib import Path

import ase.io
import numpy as np
import pytest
import torch
from ase.calculators.singlepoint import SinglePointCalculator
from small_models import CHOICES, build, graph, molecule
from torch_geometric.data import Batch

from mace_gaunt.model.checkpoint import load_model, read_description, save_model
from mace_gaunt.model.gradients import predict
from mace_gaunt.model.package import hash_model
from mace_gaunt.model.transfer import transfer_weights
from mace_gaunt.simulation.calculator import MaceGauntCalculator

QUICK = ["compile=off", "device=cpu", "valid_size=2", "dtype=float64", "scheduler=constant", "trainer.max_steps=1"]


@pytest.fixture
def finetune(trained, data_file, command):
    """Takes one step from the trained model; gives the new model folder."""

    def run(*words, file=data_file):
        status, _, err = command("train", f"train_file={file}", f"init={trained}", "run=new", *QUICK, *words)
        assert status == 0, err
        return Path("runs/new/model")

    return run


def energies(model, frames):
    return np.array([one["energy"] for one in MaceGauntCalculator(model, device="cpu").evaluate(frames)])


@pytest.mark.parametrize("choice", CHOICES)
def test_weights_move_to_a_model_of_other_elements(choice, tmp_path):
    source = build(choice, zbl=True)
    description = read_description(save_model(source, tmp_path))
    target = build(choice, seed=1, zbl=True, atomic_numbers=[1, 6, 7, 8, 17], E0s=[-13.6, -1029.5, 0.0, -2041.9, 0.0])
    assert transfer_weights(source, description, target) == [1, 6, 8]
    batches = [Batch.from_data_list([graph(molecule(), model)]) for model in (source, target)]
    found = [predict(model, batch) for model, batch in zip((source, target), batches, strict=True)]
    for name in ("energy", "forces"):
        torch.testing.assert_close(found[0][name], found[1][name], rtol=1e-12, atol=1e-10)
    back = build(choice, seed=2, zbl=True)
    transfer_weights(target, read_description(save_model(target, tmp_path)), back)
    for name, weight in source.named_parameters():
        torch.testing.assert_close(back.get_parameter(name), weight, rtol=1e-12, atol=0)


def test_without_a_learning_rate_it_stays_the_same_model(finetune, trained, frames):
    folder = finetune("E0s=model", "lr=0.0")
    np.testing.assert_allclose(energies(folder, frames), energies(trained, frames), rtol=0, atol=1e-9)
    description = json.loads((folder / "model.json").read_text())
    assert description["hyperparameters"]["num_channels"] == 2
    assert description["hyperparameters"]["scale"] == load_model(trained / "model").scale
    assert description["metadata"]["started_from"]["name"] == trained.name


def test_frozen_parts_stay(finetune, trained):
    new, old = (load_model(folder) for folder in (finetune("freeze=[embedding,*.radial_mlp]"), trained / "model"))
    same = {
        name for name, weight in new.named_parameters() if torch.equal(weight, old.get_parameter(name).to(weight.dtype))
    }
    expected = {name for name, _ in new.named_parameters() if name.startswith("embedding") or "radial_mlp" in name}
    assert same == expected


def test_E0s_are_fitted_to_what_the_model_leaves(finetune, trained, frames, tmp_path):  # noqa: N802
    """Another level of theory: as the model, but a constant per atom."""
    labelled = [atoms.copy() for atoms in frames if len(atoms) > 1]
    for atoms, energy in zip(labelled, energies(trained, labelled), strict=True):
        atoms.calc = SinglePointCalculator(atoms, energy=energy + 0.7 * len(atoms), forces=np.zeros((len(atoms), 3)))
    ase.io.write(tmp_path / "other.xyz", labelled)
    folder = finetune("E0s=refit", "lr=0.0", file=tmp_path / "other.xyz")
    found = energies(folder, labelled)
    np.testing.assert_allclose(found, [atoms.get_potential_energy() for atoms in labelled], rtol=0, atol=1e-5)
    assert json.loads((folder / "model.json").read_text())["hyperparameters"]["E0s"] != list(
        load_model(trained / "model").E0s
    )


def test_new_elements_are_added_when_asked_for(finetune, trained, frames, tmp_path, refused):
    for atoms in (with_sulfur := [atoms.copy() for atoms in frames if len(atoms) > 1]):
        labels = frames[-1].get_potential_energy(), np.zeros((len(atoms), 3))
        atoms.numbers[np.flatnonzero(atoms.numbers == 8)[0]] = 16
        atoms.calc = SinglePointCalculator(atoms, energy=labels[0], forces=labels[1])
    ase.io.write(tmp_path / "sulfur.xyz", with_sulfur)
    words = ["train", f"train_file={tmp_path}/sulfur.xyz", f"init={trained}", "run=new", *QUICK]
    energies_given = "E0s={H: -13.0, C: -1029.0, N: -1485.0, S: -10800.0}"
    error = refused(*words, energies_given)
    assert "hold S, which" in error
    assert "add_elements=[S]" in error
    assert "cannot determine S" in refused(*words, "add_elements=[S]", "E0s=refit")
    assert "E0s=model has no energy for S" in refused(*words, "add_elements=[S]", "E0s=model")
    folder = finetune(energies_given, "add_elements=[S]", "lr=0.0", file=tmp_path / "sulfur.xyz")
    new, old = load_model(folder), load_model(trained / "model")
    assert new.atomic_numbers == [1, 6, 7, 16]
    ethanol = [molecule()]
    del ethanol[0][[atom.index for atom in ethanol[0] if atom.symbol == "O"]]
    difference = energies(folder, ethanol) - energies(trained, ethanol)
    counts = [sum(ethanol[0].numbers == number) for number in (1, 6)]
    expected = counts @ (new.E0s[:2] - old.E0s[:2]).numpy()
    np.testing.assert_allclose(difference, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["num_channels=3"], "num_channels=3, but {trained}/model has num_channels=2: leave it out"),
        (["tensor_product=clebsch_gordan"], "has the edge_product 'gaunt': leave it out with init="),
        (["freeze=[embeding]"], "freeze: the model has no part 'embeding'. Did you mean 'embedding'?"),
        (["freeze=['*']"], "freeze: nothing is left to train"),
        (["add_elements=[Xx]"], "add_elements: 'Xx' is no element"),
        (["add_elements=[H]", "E0s=refit"], "add_elements names H, which the model knows"),
    ],
)
def test_mistakes(words, message, trained, data_file, refused):
    error = refused("train", f"train_file={data_file}", f"init={trained}", "run=new", *QUICK, *words)
    assert message.format(trained=trained) in error


def test_what_needs_a_model_to_start_from(data_file, refused):
    train = ["train", f"train_file={data_file}", "run=new", *QUICK]
    assert "give init=FOLDER" in refused(*train, "E0s=refit")
    assert "give init=FOLDER" in refused(*train, "add_elements=[Cl]")
    assert "No model folder 'nowhere'" in refused(*train, "init=nowhere")


def test_the_same_command_goes_on_when_the_first_model_is_gone(trained, data_file, command, refused, tmp_path):
    shutil.copytree(trained, tmp_path / "old")
    words = ["train", "debug=fast", f"train_file={data_file}", "init=old", "run=new", "resume=auto", *QUICK]
    words += ["E0s=model", "batch_size=2", "trainer.max_steps=3"]
    status, _, err = command(*words, "stop_after_steps=1")
    assert status == 0, err
    shutil.rmtree(tmp_path / "old")
    assert "model.num_channels was 2 and is 3 now" in refused(*words, "num_channels=3")
    assert "edge_product" in refused(*words, "tensor_product=clebsch_gordan")
    status, out, err = command(*words)
    assert status == 0, err
    assert [line for line in out.splitlines() if "changed on resume" in line] == [
        "changed on resume: stop_after_steps was 1, is None"
    ]
    metadata = read_description(tmp_path / "runs/new/model")["metadata"]
    assert metadata["started_from"] == {"name": "old", "sha256": hash_model(trained / "model")}


def test_the_model_to_start_from_is_not_overwritten(trained, data_file, refused, tmp_path):
    shutil.copytree(trained, tmp_path / "runs/first")
    words = ["train", f"train_file={data_file}", "run=first", "overwrite=true", *QUICK]
    for init in ("runs/first", "runs/first/model"):
        assert f"init={init} lies in runs/first, which overwrite=true clears" in refused(*words, f"init={init}")


def test_it_goes_on(finetune, trained, data_file, command):
    finetune("E0s=refit", "trainer.max_steps=-1", "max_epochs=1")
    status, out, err = command("train", "run=new", "resume=auto", "max_epochs=2")
    assert status == 0, err
    assert "changed on resume: trainer.max_epochs was 1, is 2" in out
    assert out.count("changed on resume") == 1
