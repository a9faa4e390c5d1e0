"""Selfmix: what it computes, its symmetry, and models that have it."""

import json
import math

import numpy as np
import pytest
import torch
from ase import Atoms
from rotations import random_rotation, rotate
from small_models import build, crystal, graph, molecule
from torch_geometric.data import Batch

from mace_gaunt.errors import UserError
from mace_gaunt.model.checkpoint import load_model, save_model, sealed
from mace_gaunt.model.compiled import trace_gradient
from mace_gaunt.model.gradients import predict
from mace_gaunt.model.kernels import select_kernels, use_kernels
from mace_gaunt.model.selfmix import Selfmix
from mace_gaunt.so3.coefficients import wigner_3j
from mace_gaunt.so3.layout import degree_slice
from mace_gaunt.so3.quadrature import analysis_matrix, smallest_rule, synthesis_matrix
from mace_gaunt.tensor_products.families import FAMILIES
from mace_gaunt.tensor_products.gaunt import normalizers

PAIR = ["gaunt", "clebsch_gordan"]


def block(family, l_max, channels=3, **options):
    torch.manual_seed(0)
    return Selfmix(family, l_max, channels, **options).double()


def features(*shape):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("inversion", [False, True])
@pytest.mark.parametrize("pseudo_in", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_block_is_equivariant(family, pseudo_in, inversion):
    selfmix = block(family, 2, pseudo_in=pseudo_in)
    matrix, h = random_rotation(inversion=inversion), features(5, *((2,) if pseudo_in else ()), 9, 3)
    result = selfmix(h)
    assert (result.dim() == 4) == selfmix.pseudo_out
    assert (rotate(result, matrix) - selfmix(rotate(h, matrix))).abs().max() < 1e-11


def test_the_gaunt_block_multiplies_signals_on_the_sphere():
    """h plus the analysis of the product of two mixed signals, on a grid of its own."""
    selfmix, h = block("gaunt", 2), features(4, 9, 3)
    rule = smallest_rule(12)
    synthesis, analysis = synthesis_matrix(rule, 2), analysis_matrix(rule, 2)
    product = analysis @ ((synthesis @ selfmix.linear_x(h)) * (synthesis @ selfmix.linear_y(h)))
    factors = normalizers(range(3), range(3), range(3))
    for l in range(3):
        mixed = factors[l] * product[:, degree_slice(l)] @ selfmix.linear.weight[l] / math.sqrt(3)
        torch.testing.assert_close(selfmix(h)[:, degree_slice(l)], h[:, degree_slice(l)] + mixed, atol=1e-12, rtol=0)


def test_the_clebsch_gordan_block_has_a_matrix_for_every_path():
    """h plus the sum over (l1, l2, l3) of 3j tensors with both mixed factors, times the weights of that path."""
    selfmix, h = block("clebsch_gordan", 1), features(4, 4, 3)
    x, y, expected = selfmix.linear_x(h), selfmix.linear_y(h), h.clone()
    for l3, paths in ((0, [(0, 0), (1, 1)]), (1, [(0, 1), (1, 0)])):
        for p, (l1, l2) in enumerate(paths):
            tensor = torch.from_numpy(wigner_3j(l1, l2, l3).copy()) * math.sqrt(2 * l3 + 1)
            coupled = torch.einsum("abm,nac,nbc->nmc", tensor, x[:, degree_slice(l1)], y[:, degree_slice(l2)])
            expected[:, degree_slice(l3)] += coupled @ selfmix.linear.weight[l3][3 * p : 3 * p + 3] / math.sqrt(6)
    torch.testing.assert_close(selfmix(h), expected, atol=1e-12, rtol=0)


def test_a_model_without_it_is_as_before():
    without, mixed = build("gaunt"), build("gaunt", selfmix="gaunt")
    names = {name for name in mixed.state_dict() if ".selfmix." not in name}
    assert names == set(without.state_dict())
    added = sorted(set(mixed.state_dict()) - names)
    assert {name.split(".selfmix.")[0] for name in added} == {"products.0", "products.1"}
    assert {name.split(".")[3] for name in added} == {"linear_x", "linear_y", "linear"}
    decayed = {id(parameter) for parameter in mixed.decay_parameters()}
    assert all(id(p) in decayed for name, p in mixed.named_parameters() if ".selfmix." in name)
    energies = [predict(m, graph(molecule(), m))["energy"] for m in (without, mixed)]
    assert abs(energies[0] - energies[1]) > 1e-3


@pytest.mark.parametrize("selfmix", PAIR)
@pytest.mark.parametrize("choice", ["gaunt", "clebsch_gordan", "vector_gaunt"])
def test_a_model_with_it_keeps_its_physics(choice, selfmix):
    """Rotation and inversion, forces as derivatives, isolated atoms."""
    model, atoms = build(choice, selfmix=selfmix, max_L=2), molecule()
    result = predict(model, graph(atoms, model))
    matrix, turned = random_rotation(inversion=True).numpy(), atoms.copy()
    turned.positions = atoms.positions @ matrix.T
    found = predict(model, graph(turned, model))
    assert abs(result["energy"] - found["energy"]) < 1e-9
    assert np.abs(result["forces"].numpy() @ matrix.T - found["forces"].numpy()).max() < 1e-9
    values = []
    for sign in (1, -1):
        moved = atoms.copy()
        moved.positions[2, 1] += sign * 1e-4
        values.append(predict(model, graph(moved, model))["energy"].item())
    assert -(values[0] - values[1]) / 2e-4 == pytest.approx(result["forces"][2, 1].item(), abs=1e-6, rel=1e-6)
    assert predict(model, graph(Atoms("C"), model))["energy"].item() == -1029.5


@pytest.mark.parametrize("selfmix", PAIR)
def test_a_saved_model_has_it_again(tmp_path, selfmix):
    model = build("gaunt", selfmix=selfmix, max_L=2)
    loaded = load_model(save_model(model, tmp_path / "model"))
    assert loaded.products[0].selfmix.feature_product.family == selfmix
    before, after = (predict(m, graph(molecule(), m)) for m in (model, loaded))
    assert torch.equal(before["energy"], after["energy"]) and torch.equal(before["forces"], after["forces"])


def test_a_model_folder_of_before_has_none(tmp_path):
    folder = save_model(build("gaunt"), tmp_path / "model")
    description = json.loads((folder / "model.json").read_text())
    del description["hyperparameters"]["selfmix"]
    (folder / "model.json").write_text(sealed(description))
    assert load_model(folder).products[0].selfmix is None


def test_its_kernel_is_chosen_and_measured_like_the_others():
    model = build("gaunt", selfmix="clebsch_gordan", max_L=2)
    data = graph(molecule(), model)
    before = predict(model, data)["forces"]
    choices = select_kernels(model, data.num_nodes, data.num_edges, training=True)
    assert {name for name in choices if "selfmix" in name} == {
        f"products.{layer}.selfmix.feature_product" for layer in (0, 1)
    }
    assert set(choices["products.0.selfmix.feature_product"].milliseconds) == {"dense", "sparse"}
    torch.testing.assert_close(predict(model, data)["forces"], before, atol=1e-10, rtol=1e-10)
    use_kernels(model, {"edge": "grid", "node": "grid", "selfmix": "sparse"})
    assert model.products[0].selfmix.feature_product.kernel_name == "sparse"
    torch.testing.assert_close(predict(model, data)["forces"], before, atol=1e-10, rtol=1e-10)
    with pytest.raises(UserError, match="kernel of the selfmix product"):
        use_kernels(model, {"selfmix": "grid"})


@pytest.mark.parametrize("selfmix", ["gaunt", pytest.param("clebsch_gordan", marks=pytest.mark.slow)])
def test_the_trace_keeps_every_second_derivative(selfmix):
    model = build("gaunt", selfmix=selfmix)
    traced, parameters = trace_gradient(model), list(model.parameters())
    batch = Batch.from_data_list([graph(atoms, model) for atoms in (crystal(), molecule(2))])
    found = []
    for gradient in (None, lambda *arguments: traced(parameters, *arguments[:3])):
        result = predict(model, batch, training=True, gradient=gradient)
        loss = result["interaction_energy"].square().sum() + result["forces"].square().sum()
        found.append([result["forces"], *torch.autograd.grad(loss, parameters, allow_unused=True)])
    for ours, theirs in zip(*found, strict=True):
        if theirs is not None:
            torch.testing.assert_close(ours, theirs, atol=1e-8, rtol=1e-8)


def test_an_unknown_family_is_named():
    with pytest.raises(UserError, match=r"family 'guant'. Did you mean 'gaunt'"):
        build("gaunt", selfmix="guant")
