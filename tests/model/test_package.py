"""Packages: what their metadata refuse before anything runs, how they are called, and (slow) what they compute."""

import json
import shutil
import zipfile

import pytest
import torch
from small_models import CHOICES, build, crystal, graph, molecule

from mace_gaunt.errors import UserError
from mace_gaunt.model import ahead_of_time, package
from mace_gaunt.model.checkpoint import save_model
from mace_gaunt.model.compiled import CompileError
from mace_gaunt.model.gradients import edge_gradient, predict
from mace_gaunt.tensor_products.gaunt import GauntEdgeProduct, GauntNodeProduct
from mace_gaunt.tensor_products.kernels import edge_loop, node_loop
from mace_gaunt.tensor_products.selection import products_of


@pytest.fixture(scope="module")
def model():
    return build("gaunt")


@pytest.fixture
def loaded(monkeypatch):
    """What would have been loaded, and so run; loads nothing."""
    paths = []
    monkeypatch.setattr(torch._inductor, "aoti_load_package", lambda path, **options: paths.append(path))
    return paths


def write(path, metadata):
    """A file with metadata where AOTInductor puts them, and nothing to run."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{path.stem}/data/aotinductor/model/abc.wrapper_metadata.json", json.dumps(metadata))
    return path


def metadata_of(model, **changes):
    return package.describe_package(model, ["aten"], "0" * 64) | changes


def test_the_metadata_say_what_a_host_needs(model, tmp_path):
    info = package.read_metadata(write(tmp_path / "a.pt2", metadata_of(model)))
    assert info["atomic_numbers"].split() == ["1", "6", "8"]
    assert [float(energy) for energy in info["E0s"].split()] == model.E0s.tolist()
    assert float(info["r_max"]) == model.r_max
    assert (info["dtype"], info["device"], info["units"]) == ("float64", "cpu", "eV, Angstrom")
    assert (info["edge_family"], info["node_family"]) == ("gaunt", "gaunt")
    assert json.loads(info["kernels"])["products.0.node_product"] == "grid"
    assert all(isinstance(value, str) for value in info.values())


def test_a_fitting_package_is_loaded(model, tmp_path, loaded):
    path = write(tmp_path / "a.pt2", metadata_of(model))
    package.open_package(path, model, "0" * 64)
    assert loaded == [str(path)]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"torch": "2.0.1"}, r"for torch 2\.0\.1, and here it is .*: export the model again with the torch that runs"),
        ({"dtype": "float32"}, "for dtype float32, and here it is float64: give dtype=float32"),
        ({"device": "cuda"}, "for device cuda, and here it is cpu: give device=cuda"),
        ({"model_sha256": "1" * 64}, "made from another model"),
        ({"instructions": "sse2 avx1024"}, "a processor with avx1024, which this one has not"),
        ({"mace_gaunt_schema": "99"}, "schema version 99, this program .* reads 1"),
    ],
)
def test_a_misfit_is_named_and_nothing_is_loaded(changes, message, model, tmp_path, loaded):
    path = write(tmp_path / "a.pt2", metadata_of(model, **changes))
    with pytest.raises(UserError, match=message):
        package.open_package(path, model, "0" * 64)
    assert loaded == []


def test_other_files_are_no_packages(tmp_path):
    with pytest.raises(UserError, match=r"No package '.*absent.pt2'.*mace-gaunt export"):
        package.read_metadata(tmp_path / "absent.pt2")
    (tmp_path / "text.pt2").write_text("not an archive")
    with pytest.raises(UserError, match="cannot be read as a package"):
        package.read_metadata(tmp_path / "text.pt2")
    with pytest.raises(UserError, match="no package that mace-gaunt export wrote"):
        package.read_metadata(write(tmp_path / "other.pt2", {"AOTI_DEVICE_KEY": "cpu"}))


def test_a_package_without_code_is_refused(model, tmp_path):
    with pytest.raises(UserError, match="cannot be loaded"):
        package.open_package(write(tmp_path / "a.pt2", metadata_of(model)), model, "0" * 64)


def test_the_hash_is_that_of_the_content(model, tmp_path):
    save_model(model, tmp_path / "one")
    shutil.copytree(tmp_path / "one", tmp_path / "copy")
    save_model(build("gaunt", seed=1), tmp_path / "other")
    one, copy, other = (package.hash_model(tmp_path / name) for name in ("one", "copy", "other"))
    assert one == copy != other


def test_inputs_are_made_contiguous(monkeypatch):
    calls = []
    monkeypatch.setattr(
        torch._inductor, "aoti_load_package", lambda path, **options: lambda *x: calls.append(x) or x[:2]
    )
    gradient = package.PackagedGradient("a.pt2")
    pair_index = torch.zeros(5, 2, dtype=torch.int64).T
    gradient(torch.zeros(3, 5).T, torch.zeros(4, dtype=torch.int64), pair_index, False)
    assert not pair_index.is_contiguous()
    assert all(value.is_contiguous() for value in calls[0])
    with pytest.raises(ValueError, match="train with the model itself"):
        gradient(torch.zeros(5, 3), torch.zeros(4), pair_index, True)


def test_foreign_operators_are_refused(model, monkeypatch, tmp_path):
    class Foreign(torch.nn.Module):
        operators = ("aten", "someone")

    monkeypatch.setattr(ahead_of_time, "Standalone", lambda model: Foreign())
    with pytest.raises(CompileError, match="operators of someone"):
        ahead_of_time.write_package(model, tmp_path / "a.pt2", "0" * 64)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kernel", ["fused", pytest.param("grid", marks=pytest.mark.slow)])
def test_the_exported_graph_serves_all_sizes(kernel):
    """The traced module with its weights inside, before any compiler."""
    model = build("gaunt", num_interactions=1, correlation=2, zbl=True)
    for _, product in products_of(model):
        product.use_kernel(kernel)
    module = ahead_of_time.Standalone(model)
    assert ("mace_gaunt" in module.operators) == (kernel == "fused")
    for atoms in (molecule(), crystal(), molecule()[:1]):
        batch = graph(atoms, model)
        expected = predict(model, batch, stress=True)
        found = predict(model, batch, stress=True, gradient=lambda *inputs: module(*inputs[:3]))
        torch.testing.assert_close(found["virials"], expected["virials"], atol=1e-9, rtol=1e-9)
        torch.testing.assert_close(found["energy"], expected["energy"], atol=1e-9, rtol=0)


def test_loops_have_numbers_that_any_process_gives_them():
    """Compiled code holds these numbers: they stand for the content, in any order of registering."""
    for family, plans, arguments in (
        (GauntEdgeProduct, edge_loop.PLANS, (1, 2, 2)),
        (GauntNodeProduct, node_loop.PLANS, (2, 1, 3, 4, 5)),
    ):
        first = family(*arguments, "fused", **({"num_channels": 5} if family is GauntEdgeProduct else {})).kernel
        count = len(plans)
        again = family(*arguments, "fused", **({"num_channels": 5} if family is GauntEdgeProduct else {})).kernel
        assert first.plan == again.plan
        assert len(plans) == count
    kernels = [GauntNodeProduct(2, l_out, 3, 4, 5, "fused").kernel for l_out in (0, 1, 2)]
    assert len({kernel.plan for kernel in kernels}) == 3
    table = [0.1, -2.5, 1e-17, 3]
    assert node_loop.rounded(table) == node_loop.rounded([value * (1 + 1e-12) for value in table[:3]] + [3])
    assert node_loop.rounded([0.1]) != node_loop.rounded([0.101])


@pytest.mark.slow
@pytest.mark.parametrize("choice", CHOICES)
def test_every_family_can_be_packaged(choice, tmp_path):
    export_and_compare(build(choice, zbl=True), tmp_path, kernel="auto")


@pytest.mark.slow
@pytest.mark.parametrize("choice", ["gaunt", "clebsch_gordan"])
def test_fused_kernels_can_be_packaged(choice, tmp_path):
    export_and_compare(build(choice, num_interactions=1), tmp_path, kernel="fused")


def export_and_compare(model, folder, kernel):
    """Export through a file; `export_model` compares structures of its own, here come others, and larger ones."""
    from mace_gaunt.simulation.export import export_model

    save_model(model, folder / "model")
    exported = export_model(folder / "model", folder / "a.pt2", kernel=kernel, device="cpu")
    assert max(error for errors in exported.differences.values() for error in errors.values()) < 1e-9
    gradient = package.open_package(exported.path, model, package.hash_model(folder / "model"))
    for atoms in (molecule(), crystal(), crystal().repeat((3, 2, 2))):
        batch = graph(atoms, model)
        found = predict(model, batch, stress=True, gradient=gradient)
        expected = predict(model, batch, stress=True)
        for name in ("energy", "forces", "virials"):
            torch.testing.assert_close(found[name], expected[name], atol=1e-8, rtol=1e-9)
    vectors = torch.zeros(0, 3, dtype=torch.float64)
    nothing = vectors, torch.tensor([0, 2]), torch.zeros(2, 0, dtype=torch.int64), False
    torch.testing.assert_close(gradient(*nothing), edge_gradient(model, *nothing), atol=1e-12, rtol=0)
