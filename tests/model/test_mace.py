"""The constructor, weight-decay groups and the size of MACE."""

import pytest
import torch
from small_models import build

from mace_gaunt.tensor_products.gaunt import GauntEdgeProduct


def test_weight_decay_falls_where_mace_has_it(model):
    decayed = {id(parameter) for parameter in model.decay_parameters()}
    names = {name for name, parameter in model.named_parameters() if id(parameter) in decayed}
    assert all(name.startswith("products.") or ".linear." in name for name in names)
    assert {name.split(".")[0] for name in names} == {"products", "interactions"}
    rest = {id(parameter) for parameter in model.no_decay_parameters()}
    assert not rest & decayed
    assert len(rest | decayed) == len(list(model.parameters()))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"r_max": 0.0}, "r_max must be positive"),
        ({"num_channels": 0}, "num_channels must be at least 1"),
        ({"num_interactions": 0}, "num_interactions"),
        ({"gate": "sliu"}, "Did you mean 'silu'"),
        ({"MLP_irreps": "16x1o"}, "even scalars only"),
        ({"atomic_numbers": [6, 1, 8]}, "ascending"),
        ({"E0s": [0.0]}, "3 elements, 1 energies"),
        ({"num_polynomial_cutoff": 1}, "at least 2"),
        ({"correlation": 0}, "correlation"),
    ],
)
def test_impossible_arguments_are_named(changes, message):
    with pytest.raises(ValueError, match=message):
        build("gaunt", **changes)


def test_features_of_the_last_layer_are_scalars():
    model = build("gaunt", max_L=2, num_interactions=3)
    assert [product.node_product.l_out for product in model.products] == [2, 2, 0]
    assert [interaction.edge_product.l_in for interaction in model.interactions] == [0, 2, 2]
    assert isinstance(model.interactions[0].edge_product, GauntEdgeProduct)


def test_building_leaves_the_default_dtype():
    assert build("gaunt").dtype == torch.float64
    assert torch.get_default_dtype() == torch.float32
