"""From tensors of a batch to what ASE calls results: plain numbers and arrays, one dictionary per structure."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from ase.stress import full_3x3_to_voigt_6_stress
from torch import Tensor

ENERGIES = frozenset({"energy", "free_energy", "energies"})
"""What can be had without forces."""


def to_results(prediction: dict[str, Tensor], sizes: Sequence[int]) -> list[dict[str, Any]]:
    """Cut what was predicted for a batch into its structures.

    Args:
        prediction: `energy` [n_graphs], `node_energy` [n_nodes] and, if they were computed, `forces` [n_nodes, 3].
        sizes: Number of atoms of each structure.

    Returns:
        energy and free_energy (the same, float, eV), energies [n] (eV) and forces [n, 3] (eV/Å): float64 arrays of
        their own memory.
    """
    arrays = {name: to_numpy(value) for name, value in prediction.items()}
    ends = np.cumsum(sizes).tolist()
    return [_results(arrays, graph, slice(end - sizes[graph], end)) for graph, end in enumerate(ends)]


def to_numpy(value: Tensor) -> np.ndarray:
    """A detached float64 array that shares no memory with the tensor."""
    return value.detach().cpu().numpy().astype(np.float64)


def voigt_stress(stress: Tensor) -> list[np.ndarray]:
    """Stress of each structure in ASE's order xx, yy, zz, yz, xz, xy, from shape [n_graphs, 3, 3] (eV/Å^3)."""
    return [full_3x3_to_voigt_6_stress(matrix) for matrix in to_numpy(stress)]


def _results(arrays: dict[str, np.ndarray], graph: int, nodes: slice) -> dict[str, Any]:
    energy = float(arrays["energy"][graph])
    results: dict[str, Any] = {
        "energy": energy,
        "free_energy": energy,
        "energies": arrays["node_energy"][nodes].copy(),
    }
    if "forces" in arrays:
        results["forces"] = arrays["forces"][nodes].copy()
    return results
