"""Every pair once, against the edges in both directions given one by one."""

import ase
import numpy as np
import pytest
import torch
from small_models import build, crystal, graph, molecule

from mace_gaunt.data.collate import collate
from mace_gaunt.model.gradients import edge_vectors, graph_index, predict


def slab():
    """Periodic in two directions, thinner than the cutoff in one: atoms meet their own images."""
    atoms = crystal(3)
    atoms.pbc = (True, False, True)
    atoms.set_cell(atoms.cell.array * np.array([[0.7], [1], [1.6]]), scale_atoms=True)
    return atoms


def tiny_cell():
    """One atom that meets nothing but its own images, many of them."""
    return ase.Atoms("O", cell=[[1.9, 0.1, 0.0], [0.3, 2.1, 0.2], [0.0, -0.4, 2.3]], pbc=True)


def gas():
    """Atoms anywhere, some of them alone."""
    rng = np.random.default_rng(4)
    points = rng.uniform(0, 14, (60, 3))
    apart = [i for i in range(60) if all(np.linalg.norm(points[:i] - points[i], axis=1) > 0.8)]
    return ase.Atoms(rng.choice([1, 6, 8], len(apart)), points[apart])


STRUCTURES = [molecule, crystal, slab, tiny_cell, gas]


def directed(model, batch):
    """Energies, forces and virials from every edge, without `predict`."""
    sender, receiver = batch.edge_index
    index, n_graphs = graph_index(batch)
    vectors = edge_vectors(batch).requires_grad_(True)
    node_energy = model(vectors, batch.node_types, batch.edge_index)
    (grad,) = torch.autograd.grad(node_energy.sum(), vectors, create_graph=True)
    forces = torch.zeros_like(batch.positions).index_add(0, sender, grad).index_add(0, receiver, -grad)
    virials = -torch.zeros(n_graphs, 3, 3).double().index_add(0, index[receiver], vectors[:, :, None] * grad[:, None])
    energy = torch.zeros(n_graphs).double().index_add(0, index, node_energy)
    return {"interaction_energy": energy, "forces": forces, "virials": virials}


def parameter_gradients(model, result):
    model.zero_grad()
    sum(value.square().sum() for value in result.values()).backward()
    return {name: parameter.grad.clone() for name, parameter in model.named_parameters() if parameter.grad is not None}


def check(model, structures):
    """Everything agrees to rounding, relative to the largest value."""
    batch = collate([graph(atoms, model) for atoms in structures])
    expected = directed(model, batch)
    result = predict(model, batch, stress=True, training=True)
    found = {name: result[name] for name in expected}
    gradients = parameter_gradients(model, expected), parameter_gradients(model, found)
    assert gradients[0].keys() == gradients[1].keys()
    for theirs, ours, tolerance in ((expected, found, 1e-12), (*gradients, 1e-11)):
        for name in theirs:
            scale = max(1.0, float(theirs[name].detach().abs().max()))
            torch.testing.assert_close(ours[name], theirs[name], atol=tolerance * scale, rtol=0, msg=name)


@pytest.mark.parametrize("structure", STRUCTURES)
def test_equals_the_directed_route(structure):
    check(build("gaunt", zbl=True), [structure()])


def test_equals_the_directed_route_for_every_family(model):
    check(model, [make() for make in STRUCTURES])


def test_either_direction_of_a_pair_will_do():
    model = build("gaunt", zbl=True)
    data = graph(crystal(), model)
    expected = predict(model, data, stress=True)
    turned = torch.arange(data.pair_index.shape[1]) % 2 == 1
    data.pair_index = torch.where(turned, data.pair_index.flip(0), data.pair_index)
    data.shifts = torch.where(turned[:, None], -data.shifts, data.shifts)
    found = predict(model, data, stress=True)
    for name in ("energy", "forces", "stress"):
        torch.testing.assert_close(found[name], expected[name], atol=1e-11, rtol=0)


def test_the_radial_network_sees_every_pair_once():
    model = build("gaunt")
    data = graph(molecule(), model)
    rows = []
    for interaction in model.interactions:
        interaction.radial_mlp.register_forward_hook(lambda module, inputs, result: rows.append(len(result)))
    predict(model, data)
    assert rows == [data.num_edges // 2] * len(model.interactions)
