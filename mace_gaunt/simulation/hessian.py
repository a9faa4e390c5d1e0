"""Second derivatives of the energy with respect to positions, exact, as many rows at a time as fit.

With v = A x + const. the vectors of the pairs (A: receiver minus sender) and g = dE/dv, row k of the Hessian is
A^T d(g . A e_k)/dv: one derivative of g, with e_k a displacement of one atom along one axis. Rows are computed together
on copies of the structure side by side in one batch, each displaced along its own e_k: any kernel that can be trained
can do it, and g is computed once for all rows.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from mace_gaunt.errors import UserError
from mace_gaunt.model.gradients import pair_forces, pair_vectors
from mace_gaunt.model.mace import MACE
from mace_gaunt.simulation.graphs import Graph, join

# Rows times edges that are differentiated together unless the user says otherwise.
EDGES_AT_ONCE = 2_000


def hessian(model: MACE, graph: Graph, atoms: Sequence[int], chunk: int | None = None) -> np.ndarray:
    """Rows and columns of the Hessian that belong to some atoms.

    Args:
        model: The potential; its precision is that of the Hessian.
        graph: One structure, with the pairs within r_max.
        atoms: Which atoms, m of them.
        chunk: Rows computed at once; memory grows with it. None takes as many as make `EDGES_AT_ONCE` edges.

    Returns:
        d2E/dx_i dx_j, symmetric, shape [3 m, 3 m], float64 (eV/Å^2); atom by atom x, y, z.

    Raises:
        UserError: If chunk < 1.
    """
    n_rows = 3 * len(atoms)
    if chunk is None:
        chunk = max(1, EDGES_AT_ONCE // max(1, graph.num_edges))
    if chunk < 1:
        raise UserError(f"chunk is a number of rows, at least 1, not {chunk}.")
    graph = join([graph] * max(1, min(chunk, n_rows))).to(model.device)
    vectors = pair_vectors(graph).to(model.dtype).requires_grad_(True)
    chosen = torch.as_tensor(np.asarray(atoms, dtype=np.int64), device=model.device)
    with torch.enable_grad():
        energy = model(vectors, graph.node_types, graph.pair_index, mirrored=True).sum()
        (slope,) = torch.autograd.grad(energy, vectors, create_graph=True)
    rows = [
        _rows(graph, chosen, vectors, slope, start, min(start + graph.num_graphs, n_rows))
        for start in range(0, n_rows, graph.num_graphs)
    ]
    full = torch.cat([torch.zeros(0, n_rows, dtype=torch.float64), *rows]).numpy()
    return 0.5 * (full + full.T)


def check_indices(indices: Sequence[int], n_atoms: int) -> list[int]:
    """Atoms as a list.

    Raises:
        UserError: If there is no such atom, or one comes twice.
    """
    chosen = [int(index) for index in indices]
    if not all(0 <= index < n_atoms for index in chosen) or len(set(chosen)) < len(chosen):
        raise UserError(f"indices={chosen}: expected different atoms out of 0 to {n_atoms - 1}.")
    return chosen


def _rows(graph: Graph, chosen: Tensor, vectors: Tensor, slope: Tensor, start: int, end: int) -> Tensor:
    """Rows start to end of the Hessian, one per copy, on the CPU in float64."""
    n_nodes, copies = graph.sizes[0], graph.num_graphs
    moved = vectors.new_zeros(copies, n_nodes, 3)
    row = torch.arange(start, end, device=vectors.device)
    moved[row - start, chosen[row // 3], row % 3] = 1.0
    moved = moved.flatten(0, 1)
    along = moved[graph.pair_index[1]] - moved[graph.pair_index[0]]
    (bent,) = torch.autograd.grad(slope, vectors, along, retain_graph=True)
    forces = pair_forces(graph, bent).unflatten(0, (copies, n_nodes))
    return -forces[: end - start, chosen].flatten(1).double().cpu()
