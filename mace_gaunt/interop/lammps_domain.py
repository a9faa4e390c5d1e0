"""What one process of a decomposed simulation computes. Nothing here needs LAMMPS or MPI.

The energy of an atom depends on the atoms within num_interactions times r_max. A process knows its own atoms and
copies of others that near (ghosts). It sums the energies of its own atoms alone, and differentiates them with respect
to all that it knows; what falls on ghosts belongs to the forces of other processes' atoms, and is added there by tag.
Over all processes energies, forces and virials add up to those of the whole.

All images of an atom have the same features. So an atom is one node here, however many of its images LAMMPS keeps,
and the pairs carry the lattice vectors: no process computes more than the whole periodic system, also in a box that is
smaller than the shell of ghosts, and a process alone needs no ghosts.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mace_gaunt.model.mace import MACE
from mace_gaunt.so3.scatter import scatter_sum

FindPairs = Callable[[np.ndarray, np.ndarray, np.ndarray, np.ndarray], Any]
"""(positions, cell, pbc, tags) -> an object with `pair_index` and `shifts` of all pairs within r_max."""


@dataclass(frozen=True)
class Domain:
    """The atoms that one process knows, each once.

    Attributes:
        tags: Numbers of the atoms in the whole system, ascending, shape [n_nodes].
        rows: Where each stands in the arrays it was made from, an own atom first, shape [n_nodes].
        is_own: Which atoms are its own, shape [n_nodes].
        own: Node of each own atom, in the order of the arrays, shape [n_own].
    """

    tags: np.ndarray
    rows: np.ndarray
    is_own: np.ndarray
    own: np.ndarray


@dataclass(frozen=True)
class Share:
    """What one process adds to the whole.

    Attributes:
        energies: Of its own atoms, isolated atoms included, shape [n_own] (eV).
        forces: On all atoms it knows, shape [n_nodes, 3] (eV/Å): on an atom they add up over processes.
        virial: -dE/dstrain, shape [3, 3] (eV).
    """

    energies: np.ndarray
    forces: np.ndarray
    virial: np.ndarray


def fold(tags: np.ndarray, num_own: int) -> Domain:
    """One node for all images of an atom.

    Args:
        tags: Number of each atom in the whole system, own atoms first and ghosts behind them, shape [n].
        num_own: How many are own.

    Returns:
        The nodes.
    """
    unique, rows = np.unique(tags, return_index=True)
    is_own = rows < num_own
    return Domain(unique, rows, is_own, np.searchsorted(unique, tags[:num_own]))


def needed_pairs(pair_index: np.ndarray, is_own: np.ndarray, num_layers: int) -> np.ndarray:
    """Which pairs the energies of own atoms depend on.

    The last layer reads the neighbours of own atoms, the one before it their neighbours, and so on: a pair is needed if
    one of its atoms is at most num_layers - 1 pairs away from an own atom.

    Args:
        pair_index: Shape [2, n_pairs].
        is_own: Shape [n_nodes].
        num_layers: Layers of the model.

    Returns:
        Shape [n_pairs], bool.
    """
    reached = is_own.copy()
    for _ in range(num_layers - 1):
        touched = reached[pair_index].any(axis=0)
        reached[pair_index[:, touched]] = True
    return np.asarray(reached[pair_index].any(axis=0))


def compute_share(
    model: MACE,
    domain: Domain,
    positions: np.ndarray,
    node_types: np.ndarray,
    cell: np.ndarray,
    pbc: np.ndarray,
    find_pairs: FindPairs,
) -> Share:
    """Energies of own atoms, and their derivatives.

    Args:
        model: The potential.
        domain: Its atoms.
        positions: Shape [n_nodes, 3] (Å), of any image.
        node_types: Element indices, shape [n_nodes].
        cell: Rows are cell vectors, shape [3, 3] (Å).
        pbc: Periodic directions, shape [3].
        find_pairs: The neighbour list.

    Returns:
        The share.

    Raises:
        UserError: If a position is not finite or atoms coincide.
    """
    if not domain.own.size:
        return Share(np.zeros(0), np.zeros((len(domain.tags), 3)), np.zeros((3, 3)))
    pairs = find_pairs(positions, cell, pbc, domain.tags)
    needed = needed_pairs(pairs.pair_index, domain.is_own, len(model.interactions))
    pair_index, shifts = pairs.pair_index[:, needed], pairs.shifts[needed]
    # Ghosts that nothing depends on would only be computed.
    kept = domain.is_own.copy()
    kept[pair_index] = True
    new = np.cumsum(kept) - 1
    vectors = positions[pair_index[1]] - positions[pair_index[0]] + shifts
    energies, gradient = own_gradient(
        model,
        torch.from_numpy(vectors).to(model.device, model.dtype),
        torch.from_numpy(node_types[kept]).to(model.device),
        torch.from_numpy(new[pair_index]).to(model.device),
        torch.from_numpy(domain.is_own[kept]).to(model.device),
    )
    index = torch.from_numpy(pair_index)
    forces = scatter_sum(gradient, index[0], len(kept)) - scatter_sum(gradient, index[1], len(kept))
    outer = vectors.T @ gradient.numpy()
    by_node = np.zeros(len(kept))
    by_node[domain.is_own] = energies.numpy()
    return Share(by_node[domain.own], forces.numpy(), -0.5 * (outer + outer.T))


def own_gradient(
    model: MACE, vectors: Tensor, node_types: Tensor, pair_index: Tensor, is_own: Tensor
) -> tuple[Tensor, Tensor]:
    """Energies of own atoms, and the derivative of their sum with respect to the vectors of the pairs.

    Args:
        model: The potential.
        vectors: Shape [n_pairs, 3] (Å).
        node_types: Shape [n_nodes].
        pair_index: Shape [2, n_pairs].
        is_own: Shape [n_nodes].

    Returns:
        Shapes [n_own] (eV), isolated atoms included, and [n_pairs, 3] (eV/Å); float64, on the CPU.
    """
    with torch.enable_grad():
        leaf = vectors.detach().requires_grad_(True)
        energies = model(leaf, node_types, pair_index, mirrored=True)[is_own]
        (gradient,) = torch.autograd.grad(energies.sum(), leaf)
    total = energies.detach().double() + model.E0s[node_types[is_own]]
    return total.cpu(), gradient.double().cpu()
