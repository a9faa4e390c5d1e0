"""Settings and weights of a model for other elements."""

import pytest
import torch
from ase import Atoms
from mace_cases import converted
from small_models import graph

from mace_gaunt.model.checkpoint import build_model, read_description, save_model
from mace_gaunt.model.elements import radii_of
from mace_gaunt.model.gradients import predict
from mace_gaunt.model.transfer import for_elements, transfer_weights

# Radii for the transform and for ZBL, for ZBL alone, for the transform alone.
CASES = {"density_agnesi_heads": "pbe", "plain_one_layer": None, "soft_gaussian_gap": "a"}


@pytest.fixture(scope="module", params=list(CASES))
def source(request, tmp_path_factory):
    """A converted MACE model of H, C, O, and its description."""
    model = converted(request.param, CASES[request.param])
    assert model.atomic_numbers == [1, 6, 8]
    return model, read_description(save_model(model, tmp_path_factory.mktemp("saved") / "model"))


@pytest.mark.parametrize("numbers", [[1, 6, 8], [6, 8], [1, 2, 6, 7, 8]], ids=["same", "fewer", "added"])
def test_a_converted_model_is_the_same_function_of_the_elements_it_keeps(source, numbers):
    model, description = source
    settings = description["hyperparameters"]
    energies = [float(model.E0s[[1, 6, 8].index(one)]) if one in (1, 6, 8) else 0.0 for one in numbers]
    elements = for_elements(settings, numbers) | {"E0s": energies}
    torch.manual_seed(0)
    target = build_model(description | {"hyperparameters": settings | elements}).double().eval()
    transfer_weights(model, description, target)
    # Close enough for the repulsion.
    atoms = Atoms("COO", [[0, 0, 0], [0, 0.3, 1.1], [0, 1.0, -0.7]])
    found, expected = (predict(one, graph(atoms, one)) for one in (target, model))
    for name in ("energy", "forces"):
        torch.testing.assert_close(found[name], expected[name], rtol=1e-11, atol=1e-9)


def test_new_elements_get_the_radii_of_the_table():
    settings = {"atomic_numbers": [6, 8], "zbl": {"power": 0.3, "radii": [0.5, 0.6]}, "radial": {"transform": "agnesi"}}
    assert for_elements(settings, [7, 8]) == {
        "atomic_numbers": [7, 8],
        "zbl": {"power": 0.3, "radii": [radii_of([7])[0], 0.6]},
    }
