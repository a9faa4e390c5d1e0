"""Degrees up to 6, as models of OC20 have them: equivariance, in little memory."""

import pytest
import torch
from rotations import random_rotation
from small_models import build, graph, molecule

from mace_gaunt.model.gradients import predict
from mace_gaunt.model.kernels import select_kernels

CASES = [("gaunt", 3), ("clebsch_gordan", 2), pytest.param("clebsch_gordan", 3, marks=pytest.mark.slow)]


@pytest.mark.parametrize(("choice", "correlation"), CASES)
def test_degree_six_is_equivariant_with_every_measured_kernel(choice, correlation):
    model = build(choice, max_ell=6, max_L=6, correlation=correlation, num_channels=2, selfmix=choice)
    atoms = molecule()
    turned, matrix = atoms.copy(), random_rotation(inversion=True).numpy()
    turned.positions = atoms.positions @ matrix.T
    data = graph(atoms, model)
    before = predict(model, data)
    select_kernels(model, data.num_nodes, data.num_edges, training=True)
    found, of_turned = (predict(model, one) for one in (data, graph(turned, model)))
    scale = before["forces"].abs().max().clamp(min=1.0)
    assert (found["forces"] - before["forces"]).abs().max() < 1e-9 * scale
    assert (found["energy"] - of_turned["energy"]).abs() < 1e-9 * scale
    assert (found["forces"] @ torch.from_numpy(matrix).T - of_turned["forces"]).abs().max() < 1e-9 * scale
