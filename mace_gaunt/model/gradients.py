"""Energies, forces, virials and stress, all from one gradient with respect to the vectors between neighbours.

Every length and direction enters the model through the vectors r_ij of the pairs alone, so with g_ij = dE/dr_ij
forces_k = sum over pairs sent by k of g - sum over pairs received by k of g, and dE/dstrain = sum over pairs of
r (x) g, symmetrised. The vectors are leaves: nothing else has to be differentiated twice. A pair stands for the edges
in both directions, so that its g holds the derivatives of both.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from mace_gaunt.model.mace import MACE
from mace_gaunt.so3.mirror import mirror_vectors
from mace_gaunt.so3.scatter import scatter_sum

EdgeGradient = Callable[[Tensor, Tensor, Tensor, bool], tuple[Tensor, Tensor]]
"""(vectors of pairs, node_types, pair_index, training) -> node energies [n_nodes], dE/dvectors [n_pairs, 3]."""


def edge_gradient(
    model: torch.nn.Module, vectors: Tensor, node_types: Tensor, pair_index: Tensor, training: bool
) -> tuple[Tensor, Tensor]:
    """Node energies and the derivative of their sum with respect to the vectors of the pairs.

    Args:
        model: A MACE, or anything called like one.
        vectors: Shape [n_pairs, 3] (Å).
        node_types: Shape [n_nodes].
        pair_index: Sender and receiver, shape [2, n_pairs]; every pair once.
        training: Whether the result will be differentiated with respect to the parameters.

    Returns:
        Shapes [n_nodes] (eV) and [n_pairs, 3] (eV/Å).
    """
    with torch.enable_grad():
        leaf = vectors.detach().requires_grad_(True)
        node_energy = model(leaf, node_types, pair_index, mirrored=True)
        (gradient,) = torch.autograd.grad(node_energy.sum(), leaf, create_graph=training)
    return (node_energy, gradient) if training else (node_energy.detach(), gradient)


def pair_vectors(batch: Any) -> Tensor:
    """positions[receiver] - positions[sender] + shifts, shape [n_pairs, 3] (Å)."""
    sender, receiver = batch.pair_index[0], batch.pair_index[1]
    vectors: Tensor = batch.positions[receiver] - batch.positions[sender] + batch.shifts
    return vectors


def edge_vectors(batch: Any) -> Tensor:
    """The vectors of all edges, in the order of `batch.edge_index`, shape [n_edges, 3] (Å)."""
    return mirror_vectors(pair_vectors(batch))


def graph_index(batch: Any) -> tuple[Tensor, int]:
    """Graph of each node, shape [n_nodes], and the number of graphs; a single frame is one graph."""
    index = getattr(batch, "batch", None)
    if index is None:
        return torch.zeros_like(batch.node_types), 1
    return index, batch.num_graphs


def reference_energy(model: MACE, batch: Any) -> Tensor:
    """Sum of the isolated atoms' energies of each graph, shape [n_graphs], float64 (eV)."""
    index, n_graphs = graph_index(batch)
    return scatter_sum(model.E0s[batch.node_types], index, n_graphs)


def predict(
    model: MACE,
    batch: Any,
    *,
    stress: bool = False,
    training: bool = False,
    gradient: EdgeGradient | None = None,
) -> dict[str, Tensor]:
    """Predict a batch.

    Args:
        model: The potential.
        batch: An AtomicData, a Batch of them, or anything with their fields.
        stress: Whether to compute virials and stress.
        training: Whether the result will be differentiated with respect to the parameters.
        gradient: What computes node energies and gradients of the pairs; None is the eager model.

    Returns:
        energy: Total, shape [n_graphs], float64 (eV).
        interaction_energy: Without isolated atoms, shape [n_graphs], the model's dtype (eV).
        node_energy: Isolated atom included, shape [n_nodes], float64 (eV).
        forces: -dE/dpositions, shape [n_nodes, 3], the model's dtype (eV/Å).
        virials: -dE/dstrain, shape [n_graphs, 3, 3] (eV), if stress.
        stress: dE/dstrain / volume, shape [n_graphs, 3, 3] (eV/Å^3), if stress; NaN without a volume.
    """
    vectors = pair_vectors(batch).to(model.dtype)
    if gradient is None:
        node_energy, pair_grad = edge_gradient(model, vectors, batch.node_types, batch.pair_index, training)
    else:
        node_energy, pair_grad = gradient(vectors, batch.node_types, batch.pair_index, training)
    result = total_energies(model, batch, node_energy) | {"forces": pair_forces(batch, pair_grad)}
    return result | strain_derivatives(batch, vectors, pair_grad) if stress else result


def total_energies(model: MACE, batch: Any, node_energy: Tensor) -> dict[str, Tensor]:
    """What `predict` gives of the energies, from the interaction energies of the nodes, shape [n_nodes] (eV)."""
    index, n_graphs = graph_index(batch)
    total = node_energy.detach().double() + model.E0s[batch.node_types]
    return {
        "energy": scatter_sum(total, index, n_graphs),
        "interaction_energy": scatter_sum(node_energy, index, n_graphs),
        "node_energy": total,
    }


def pair_forces(batch: Any, pair_grad: Tensor) -> Tensor:
    """Forces, shape [n_nodes, 3] (eV/Å), from dE/dvectors of the pairs, shape [n_pairs, 3] (eV/Å)."""
    n_nodes = batch.node_types.shape[0]
    sender, receiver = batch.pair_index[0], batch.pair_index[1]
    return scatter_sum(pair_grad, sender, n_nodes) - scatter_sum(pair_grad, receiver, n_nodes)


def strain_derivatives(batch: Any, vectors: Tensor, pair_grad: Tensor) -> dict[str, Tensor]:
    """Virials and stress as `predict` gives them, from the vectors of the pairs (Å) and dE/dvectors (eV/Å)."""
    index, n_graphs = graph_index(batch)
    outer = vectors[:, :, None] * pair_grad[:, None, :]
    strain_grad = scatter_sum(0.5 * (outer + outer.transpose(1, 2)), index[batch.pair_index[1]], n_graphs)
    volume = torch.linalg.det(batch.cell.reshape(-1, 3, 3)).abs().to(strain_grad.dtype)
    # Divided by 1 and not by NaN: the gradient of a loss that leaves these frames out stays finite.
    has_volume = (volume > 0)[:, None, None]
    quotient = strain_grad / torch.where(volume > 0, volume, 1.0)[:, None, None]
    return {"virials": -strain_grad, "stress": torch.where(has_volume, quotient, torch.nan)}
