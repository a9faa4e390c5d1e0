"""A few atoms whose energy and forces a model folder keeps: where they do not come out again, nothing else would."""

import copy
from types import SimpleNamespace
from typing import Any

import torch

from mace_gaunt.errors import UserError
from mace_gaunt.model.gradients import predict
from mace_gaunt.model.mace import MACE

# A loose cluster without symmetry (Å); the closest atoms are 1.2 Å apart.
POSITIONS = (
    (0.00, 0.00, 0.00),
    (1.21, 0.13, -0.22),
    (-0.35, 1.34, 0.28),
    (0.52, -0.61, 1.29),
    (2.03, 1.48, 0.57),
    (-1.18, -0.83, -1.12),
    (1.04, 1.02, 2.11),
    (-1.47, 0.71, 1.63),
)
Probe = tuple[torch.Tensor, torch.Tensor]
"""Interaction energy (eV) and forces (eV/Å) of the cluster, float64."""
TOLERANCE = 1e-6
"""Largest difference over the largest value; kernels of a family agree to 1e-10 in the tests."""


def compute_probe(model: MACE) -> dict[str, Any]:
    """Interaction energy and forces of the cluster in float64, as JSON values.

    Args:
        model: The potential, in any precision, on any device; stays as it is.
    """
    energy, forces = values(copy.deepcopy(model).to(device="cpu", dtype=torch.float64))
    return {"interaction_energy_eV": energy.item(), "forces_eV_A": forces.tolist()}


def read_probe(kept: dict[str, Any]) -> Probe:
    """Energy and forces from the JSON values that `compute_probe` made.

    Raises:
        KeyError: If one of them is missing.
        ValueError, TypeError: If they are no such numbers.
    """
    energy, forces = (
        torch.tensor(kept[name], dtype=torch.float64) for name in ("interaction_energy_eV", "forces_eV_A")
    )
    if energy.numel() != 1 or forces.shape != (len(POSITIONS), 3):
        raise ValueError("probe: it does not hold the energy and the forces of the test structure")
    return energy, forces


def check_probe(model: MACE, expected: Probe, where: object) -> None:
    """Compare with what a model folder keeps.

    Args:
        model: In float64, on the device and with the kernels to be used.
        expected: From `read_probe`.
        where: The folder, for the message.

    Raises:
        UserError: If energy or forces differ by more than rounding.
    """
    found = values(model)
    for what, value, kept in zip(("energy", "forces"), found, expected, strict=True):
        scale = max(1.0, float(kept.abs().max()))
        difference = float((value.cpu() - kept).abs().max())
        if not difference <= TOLERANCE * scale:
            raise UserError(
                f"{where}: the {what} of its test structure differ by {difference:.1e} of {scale:.1e} from those that "
                f"were saved with it. This machine, its libraries or a kernel compute something else; "
                "`mace-gaunt doctor` compares the kernels"
            )


def values(model: MACE) -> Probe:
    """Interaction energy, shape [1], and forces, shape [n_nodes, 3], of the cluster; of several heads by the first."""
    if len(model.of_head) > 1:
        model = copy.deepcopy(model).choose_head(model.heads[0])
    found = predict(model, cluster(model))
    return found["interaction_energy"], found["forces"]


def cluster(model: MACE) -> SimpleNamespace:
    """The cluster, of elements all over the model's list."""
    positions = torch.tensor(POSITIONS, dtype=torch.float64, device=model.device)
    n_nodes, n_elements = len(positions), len(model.atomic_numbers)
    node_types = torch.tensor([index * n_elements // n_nodes if n_elements > n_nodes else index % n_elements
                               for index in range(n_nodes)], device=model.device)  # fmt: skip
    pairs = torch.triu_indices(n_nodes, n_nodes, offset=1, device=model.device)
    lengths = (positions[pairs[1]] - positions[pairs[0]]).norm(dim=1)
    pairs = pairs[:, lengths < model.r_max]
    return SimpleNamespace(
        positions=positions,
        node_types=node_types,
        pair_index=pairs,
        shifts=torch.zeros(pairs.shape[1], 3, dtype=torch.float64, device=model.device),
        cell=torch.zeros(1, 3, 3, dtype=torch.float64, device=model.device),
    )
