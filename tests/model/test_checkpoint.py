"""The model folder: round trip, precision, kernels, refusals."""

import hashlib
import itertools
import json
import shutil
from pathlib import Path

import pytest
import torch
from families import MISSING
from small_models import CHOICES, build, graph, molecule

from mace_gaunt import load_model
from mace_gaunt.errors import UserError
from mace_gaunt.model import probe
from mace_gaunt.model.checkpoint import SCHEMA_VERSION, save_model, sealed
from mace_gaunt.model.gradients import predict
from mace_gaunt.model.mace import MACE


@pytest.fixture(params=list(CHOICES))
def choice(request):
    return request.param


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_model(build("gaunt"), tmp_path_factory.mktemp("saved") / "model", {"note": "x"})


@pytest.mark.parametrize("choice", list(CHOICES))
def test_a_loaded_model_predicts_the_same(choice, tmp_path):
    model = build(choice, zbl=True, max_L=2)
    loaded = load_model(save_model(model, tmp_path / "model"))
    assert loaded.dtype == torch.float64
    assert loaded.hyperparameters == model.hyperparameters
    before, after = predict(model, graph(molecule(), model)), predict(loaded, graph(molecule(), loaded))
    assert torch.equal(before["energy"], after["energy"])
    assert torch.equal(before["forces"], after["forces"])


def test_a_float32_model_loads_in_float64_with_exact_tables(tmp_path):
    """Only the weights were rounded: both precisions agree to rounding and the tables are exact."""
    model = build("gaunt").float()
    loaded = load_model(save_model(model, tmp_path / "model"), dtype="float64")
    energies = [predict(m, graph(molecule(), m))["energy"].item() for m in (model, loaded)]
    assert energies[0] == pytest.approx(energies[1], abs=1e-4)
    kernel = loaded.products[0].node_product.kernel.orders
    identity = kernel.analysis[0] @ kernel.synthesis
    off_diagonal = identity - torch.zeros_like(identity).diagonal_scatter(identity.diagonal())
    assert off_diagonal.abs().max() < 1e-12


def test_metadata_and_families_are_kept(folder):
    assert load_model(folder).metadata == {"note": "x"}
    description = json.loads((folder / "model.json").read_text())
    assert description["edge_product"] == {"family": "gaunt", "kernel": "grid", "options": {}}
    assert sorted(path.name for path in folder.iterdir()) == ["model.json", "weights.safetensors"]


def test_kernel_by_name(folder):
    assert load_model(folder, kernel="grid").products[0].node_product.kernel_name == "grid"
    with pytest.raises(UserError, match=r"'matmul' computes family matrix; this model is of family gaunt"):
        load_model(folder, kernel="matmul")
    with pytest.raises(UserError, match=r"has a kernel 'gird'. Did you mean 'grid'"):
        load_model(folder, kernel="gird")


def test_every_kernel_of_the_family_gives_the_same_energies(tmp_path, choice):
    saved = save_model(build(choice), tmp_path / "model")
    reference = load_model(saved)
    kernels = ([name for name in product.KERNELS if name not in MISSING] for product in last_products(reference))
    for edge, node in itertools.zip_longest(*kernels):
        names = {place: name for place, name in (("edge", edge), ("node", node)) if name}
        model = load_model(saved, kernel=names)
        used = [product.kernel_name for product in last_products(model)]
        assert used == [names.get("edge", used[0]), names.get("node", used[1])]
        found, expected = (predict(m, graph(molecule(), m)) for m in (model, reference))
        for key in ("energy", "forces"):
            assert (found[key] - expected[key]).abs().max() < 1e-9 * expected["forces"].abs().max().clamp(min=1.0)
    assert {name: tuple(w.shape) for name, w in model.state_dict().items()} == {
        name: tuple(w.shape) for name, w in reference.state_dict().items()
    }


def last_products(model):
    return model.interactions[-1].edge_product, model.products[-1].node_product


def test_one_name_goes_to_every_product_that_has_it(tmp_path):
    saved = save_model(build("gaunt"), tmp_path / "model")
    edge, node = last_products(load_model(saved, kernel="aligned"))
    assert (edge.kernel_name, node.kernel_name) == ("aligned", "grid")
    with pytest.raises(UserError, match="'edge', 'node' or 'selfmix', not 'edges'"):
        load_model(saved, kernel={"edges": "grid"})
    with pytest.raises(UserError, match="the model has no selfmix product that could use 'grid': leave 'selfmix' out"):
        load_model(saved, kernel={"edge": "grid", "selfmix": "grid"})
    left_open = last_products(load_model(saved, kernel={"edge": "aligned", "node": None, "selfmix": "auto"}))
    assert [product.asked_for for product in left_open] == ["aligned", "auto"]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: (path / "model.json").unlink(), "is no model folder"),
        (lambda path: (path / "weights.safetensors").unlink(), "incomplete"),
        (lambda path: (path / "weights.safetensors").write_bytes(b"no"), "is not the file that was saved"),
        (lambda path: exchange(path, b"no"), "damaged"),
        (lambda path: (path / "model.json").write_text("{"), "cannot be read"),
        (lambda path: edit(path, schema_version=99), "schema version 99"),
        (lambda path: edit(path, edge_product={"family": "gant", "options": {}}), "Did you mean 'gaunt'"),
        (lambda path: edit(path, hyperparameters={"r_max": 5}), "damaged"),
        (lambda path: change_hyperparameter(path, r_max=-1.0), "damaged: r_max must be positive"),
        (lambda path: drop(path, "metadata"), "has no 'metadata'"),
        (lambda path: drop(path, "probe"), "has no 'probe'"),
        (lambda path: edit(path, probe={"interaction_energy_eV": 1.0}), "has no 'forces_eV_A'"),
        (lambda path: edit(path, probe={"interaction_energy_eV": 1.0, "forces_eV_A": [[0.0] * 3]}), "damaged: probe"),
        (lambda path: drop(path, "weights_sha256"), "has no 'weights_sha256'"),
        (lambda path: flip(path / "weights.safetensors"), r"weights\.safetensors is not the file that was saved"),
        (lambda path: flip(path / "weights.safetensors", -1), r"weights\.safetensors is not the file that was saved"),
        (lambda path: replace(path, '"r_max": 4.0', '"r_max": 4.1'), "was altered since it was saved"),
        (lambda path: replace(path, '"note": "x"', '"note": "y"'), "was altered since it was saved"),
        (lambda path: change_hyperparameter(path, scale=0.91), "test structure differ by"),
    ],
)
def test_a_bad_folder_is_refused_with_the_reason(folder, tmp_path, damage, message):
    copy = tmp_path / "model"
    shutil.copytree(folder, copy)
    damage(copy)
    with pytest.raises(UserError, match=message):
        load_model(copy)


def edit(path, **changes):
    file = path / "model.json"
    file.write_text(sealed(json.loads(file.read_text()) | changes))


def exchange(path, content):
    (path / "weights.safetensors").write_bytes(content)
    edit(path, weights_sha256=hashlib.sha256(content).hexdigest())


def flip(file, position=-100):
    content = bytearray(file.read_bytes())
    content[position] ^= 1
    file.write_bytes(content)


def replace(path, old, new):
    file = path / "model.json"
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


def change_hyperparameter(path, **changes):
    description = json.loads((path / "model.json").read_text())
    edit(path, hyperparameters=description["hyperparameters"] | changes)


def drop(path, key):
    file = path / "model.json"
    description = json.loads(file.read_text())
    del description[key]
    file.write_text(sealed(description))


def test_loading_leaves_the_random_numbers_alone(folder):
    before = torch.get_rng_state()
    load_model(folder, kernel="auto")
    assert torch.equal(before, torch.get_rng_state())


def test_unknown_dtype(folder):
    with pytest.raises(UserError, match="Did you mean 'float32'"):
        load_model(folder, dtype="float23")


@pytest.mark.parametrize("version", range(1, SCHEMA_VERSION + 1))
def test_every_schema_that_was_released_loads(version):
    folder = Path(__file__).parents[1] / "fixtures" / "models" / f"schema_{version}"
    expected = json.loads((folder / "expected.json").read_text())
    assert json.loads((folder / "model.json").read_text())["schema_version"] == version
    model = load_model(folder, dtype="float64")
    found = predict(model, graph(molecule(), model))
    assert model.metadata == {"note": f"schema {version}"}
    assert found["energy"].item() == pytest.approx(expected["energy"][0], abs=1e-9)
    assert (found["forces"] - torch.tensor(expected["forces"], dtype=torch.float64)).abs().max() < 1e-9


@pytest.mark.parametrize("part", ["energy", "forces"])
def test_a_machine_that_computes_something_else_is_told(folder, monkeypatch, part):
    real = probe.values

    def wrong(model):
        energy, forces = real(model)
        return (energy * 1.001, forces) if part == "energy" else (energy, forces * 1.001)

    monkeypatch.setattr(probe, "values", wrong)
    with pytest.raises(UserError, match=rf"the {part} of its test structure differ by .* `mace-gaunt doctor`"):
        load_model(folder)


@pytest.mark.parametrize("device", ["gpu", "cuda:99"])
def test_a_device_that_cannot_be_used_is_named_and_not_the_folder(folder, device):
    with pytest.raises(UserError, match=f"^device='{device}' cannot be used here: .* Try device='cpu'.") as error:
        load_model(folder, device=device)
    assert "damaged" not in str(error.value)


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"), RuntimeError("of a kernel")]
)
def test_what_goes_wrong_in_the_test_structure_is_no_damage(folder, monkeypatch, error):
    def fail(model):
        raise error

    monkeypatch.setattr(probe, "values", fail)
    with pytest.raises(type(error)) as found:
        load_model(folder)
    assert found.value is error


def test_too_little_memory_for_a_device_stays_what_it_is(folder, monkeypatch):
    error, place = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"), MACE.to

    def fail(model, *arguments, **keywords):
        if "device" in keywords:
            raise error
        return place(model, *arguments, **keywords)

    monkeypatch.setattr(MACE, "to", fail)
    with pytest.raises(torch.OutOfMemoryError):
        load_model(folder)
