"""What the tests of the compiled path share: small models of every choice, and compiled results against eager ones."""

import pytest
import torch
from families import EDGE, NODE
from small_models import CHOICES, build, crystal, graph, molecule
from torch_geometric.data import Batch

from mace_gaunt.model.compiled import trace_gradient
from mace_gaunt.model.gradients import predict
from mace_gaunt.model.kernels import use_kernels
from mace_gaunt.model.mace import MACE
from mace_gaunt.tensor_products.families import FAMILIES

TOLERANCES = {torch.float64: 1e-10, torch.float32: 1e-4}
"""Largest difference over largest value."""
KERNELS = [
    (family, kernel)
    for family in FAMILIES
    for kernel in dict.fromkeys(name for product, name in EDGE + NODE if product.family == family)
]
DEVICES = [
    "cpu",
    pytest.param(
        "cuda",
        marks=[pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")],
    ),
]
MIXED = [name for name in CHOICES if name not in FAMILIES]
"""Families for edges and nodes that differ, with pseudo-tensors and without."""
SETTINGS = {
    **{gate: {"gate": gate} for gate in ("silu", "tanh", "sigmoid", "gelu")},
    "zbl": {"zbl": True},
    "one layer": {"num_interactions": 1},
    "scalars": {"max_L": 0},
    "max_L 2": {"max_L": 2},
}


def tiny(choice="gaunt", kernel=None, dtype=torch.float64, device="cpu", **changes) -> MACE:
    """A model that is traced in seconds."""
    model = build(choice, **{"max_ell": 2, "correlation": 2, "num_channels": 3, "radial_MLP": [4]} | changes)
    model = model.to(dtype).to(device)
    if kernel is not None:
        use_kernels(model, kernel)
    return model


def batch_of(model, *frames):
    """Structures as one batch on the model's device."""
    return Batch.from_data_list([graph(atoms, model) for atoms in frames]).to(model.device)


def batches(model):
    """A molecule alone, and a molecule with a crystal."""
    return [batch_of(model, molecule()), batch_of(model, crystal(), molecule(2))]


def traced(model):
    """The traced graph as what `predict` takes: what the compiler is given, without a compiler."""
    graph = trace_gradient(model)
    return lambda vectors, node_types, pair_index, training: graph(
        list(model.parameters()), vectors, node_types, pair_index
    )


def results(model, batch, gradient=None):
    """Energies, forces, stress, and the derivatives of a loss of all three with respect to every parameter."""
    found = predict(model, batch, stress=True, training=True, gradient=gradient)
    values = {name: found[name] for name in ("interaction_energy", "forces", "stress")}
    # Frames without a cell have no stress.
    loss = sum(
        weight * torch.nan_to_num(values[name]).square().sum()
        for name, weight in (("interaction_energy", 1.0), ("forces", 1.0), ("stress", 1e3))
    )
    gradients = torch.autograd.grad(loss, list(model.parameters()))
    values = {name: value.detach() for name, value in values.items()}
    return values, {name: value for (name, _), value in zip(model.named_parameters(), gradients, strict=True)}


def assert_agree(model, gradient, frames=None):
    """Compiled and eager results agree; a gradient is compared with at least a hundredth of the largest one."""
    tolerance = TOLERANCES[model.dtype]
    for batch in batches(model) if frames is None else frames:
        values, gradients = results(model, batch, gradient)
        expected_values, expected_gradients = results(model, batch)
        for name, expected in expected_values.items():
            scale = float(torch.nan_to_num(expected).abs().max()) if expected.numel() else 0.0
            torch.testing.assert_close(
                values[name], expected, rtol=0, atol=tolerance * max(scale, 1e-3), equal_nan=True, msg=labelled(name)
            )
        largest = max(float(expected.abs().max()) for expected in expected_gradients.values())
        for name, expected in expected_gradients.items():
            scale = max(float(expected.abs().max()), 0.01 * largest)
            torch.testing.assert_close(
                gradients[name], expected, rtol=0, atol=tolerance * scale, msg=labelled(f"gradient of {name}")
            )


def labelled(name):
    """Puts the name of a quantity before what differs."""
    return lambda message: f"{name}: {message}"
