"""Structures as a potential reads them: less than AtomicData holds, and made anew at every time step."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import ase
import numpy as np
import torch
from ase.calculators.calculator import PropertyNotImplementedError
from torch import Tensor

from mace_gaunt.data.atomic_data import node_types
from mace_gaunt.data.neighbors import neighbor_pairs
from mace_gaunt.errors import UserError
from mace_gaunt.model.gradients import pair_vectors
from mace_gaunt.simulation.structures import check_stress_defined, check_structure


@dataclass(frozen=True)
class Graph:
    """One structure or several, with the names and shapes of `data.atomic_data.FIELDS`.

    Attributes:
        positions: Shape [n_nodes, 3], float64 (Å).
        node_types: Shape [n_nodes].
        cell: Shape [n_graphs, 3, 3], float64 (Å).
        pair_index: Every pair once, shape [2, n_pairs].
        shifts: Shape [n_pairs, 3], float64 (Å).
        sizes: Number of nodes of each structure.
        batch: Structure of each node, shape [n_nodes]; None for one structure.
    """

    positions: Tensor
    node_types: Tensor
    cell: Tensor
    pair_index: Tensor
    shifts: Tensor
    sizes: tuple[int, ...]
    batch: Tensor | None = None

    @property
    def num_graphs(self) -> int:
        """Number of structures."""
        return len(self.sizes)

    @property
    def num_edges(self) -> int:
        """Number of edges, two for every pair."""
        return 2 * self.pair_index.shape[1]

    def to(self, device: torch.device) -> "Graph":
        """The same on a device."""
        if self.positions.device == device:
            return self
        moved: dict[str, Any] = {n: value.to(device) for n, value in vars(self).items() if isinstance(value, Tensor)}
        return replace(self, **moved)

    def within(self, r_max: float) -> "Graph":
        """The same without the pairs that are not nearer than r_max (Å)."""
        near = torch.linalg.vector_norm(pair_vectors(self), dim=1) < r_max
        return replace(self, pair_index=self.pair_index[:, near], shifts=self.shifts[near])


def structure_graph(atoms: ase.Atoms, types: Tensor, pair_index: np.ndarray, shifts: np.ndarray) -> Graph:
    """The graph of one structure, on the CPU; it shares the memory of the pairs.

    Args:
        atoms: The structure.
        types: Its elements as the model counts them, shape [n_nodes].
        pair_index: As `neighbor_pairs` gives it, shape [2, n_pairs].
        shifts: Shape [n_pairs, 3] (Å).
    """
    return Graph(
        positions=torch.tensor(atoms.positions, dtype=torch.float64),
        node_types=types,
        cell=torch.tensor(atoms.cell.array, dtype=torch.float64)[None],
        pair_index=torch.from_numpy(pair_index),
        shifts=torch.from_numpy(shifts),
        sizes=(len(atoms),),
    )


def checked_graph(
    atoms: ase.Atoms, r_max: float, known: list[int], index: int | None = None, stress: bool = False
) -> Graph:
    """The graph of a structure that a model can compute.

    Args:
        atoms: The structure.
        r_max: Cutoff radius (Å).
        known: Atomic numbers of the model, sorted.
        index: Its place among several, for messages.
        stress: Whether stress will be asked for.

    Raises:
        UserError: If it cannot be computed.
        PropertyNotImplementedError: If stress is asked for without a fully periodic cell.
    """
    try:
        check_structure(atoms, known)
        if stress:
            check_stress_defined(atoms)
        pairs = neighbor_pairs(atoms.positions, atoms.cell.array, atoms.pbc, r_max)
    except (UserError, PropertyNotImplementedError) as error:
        if index is None:
            raise
        raise type(error)(f"structure {index}: {error}") from error
    return structure_graph(atoms, node_types(atoms.numbers, known), *pairs)


def join(graphs: Sequence[Graph]) -> Graph:
    """Several graphs as one.

    Args:
        graphs: At least one, all on one device.
    """
    sizes = [size for graph in graphs for size in graph.sizes]
    first = np.cumsum([0, *(graph.positions.shape[0] for graph in graphs)]).tolist()
    return Graph(
        positions=torch.cat([graph.positions for graph in graphs]),
        node_types=torch.cat([graph.node_types for graph in graphs]),
        cell=torch.cat([graph.cell for graph in graphs]),
        pair_index=torch.cat([graph.pair_index + start for graph, start in zip(graphs, first, strict=False)], dim=1),
        shifts=torch.cat([graph.shifts for graph in graphs]),
        sizes=tuple(sizes),
        batch=torch.from_numpy(np.repeat(np.arange(len(sizes)), sizes)).to(graphs[0].positions.device),
    )


class TypeIndex:
    """Elements as a model counts them, looked up again only for another composition."""

    def __init__(self, atomic_numbers: list[int]) -> None:
        """Start with none.

        Args:
            atomic_numbers: The elements of the model, sorted.
        """
        self._known = atomic_numbers
        self._numbers = np.zeros(0, dtype=np.int64)
        self._types = torch.zeros(0, dtype=torch.int64)

    def __call__(self, numbers: np.ndarray) -> Tensor:
        """Shape [n_nodes], int64, for atomic numbers of shape [n_nodes].

        Raises:
            UserError: If an element is unknown to the model.
        """
        if not np.array_equal(numbers, self._numbers):
            self._types = node_types(numbers, self._known)
            self._numbers = numbers.copy()
        return self._types
