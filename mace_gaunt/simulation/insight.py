"""What a calculator tells of its models beyond the properties that ASE has names for."""

from collections.abc import Sequence

import ase
import numpy as np

from mace_gaunt.errors import UserError
from mace_gaunt.simulation.descriptors import Layers, describe
from mace_gaunt.simulation.ensemble import Ensemble
from mace_gaunt.simulation.graphs import Graph, checked_graph
from mace_gaunt.simulation.hessian import check_indices, hessian


class Insight:
    """Hessian and descriptors, mixed into the calculator. They leave its last structure and results as they are."""

    _ensemble: Ensemble
    atoms: ase.Atoms | None

    def get_hessian(
        self, atoms: ase.Atoms | None = None, chunk: int | None = None, indices: Sequence[int] | None = None
    ) -> np.ndarray:
        """Exact second derivatives of the energy; of a committee of its mean.

        Args:
            atoms: The structure; None takes the last one. Its constraints are not looked at.
            chunk: Rows computed at once: memory grows with it. None takes what fits the caches of a CPU.
            indices: Which m atoms; None takes all.

        Returns:
            d2E/dx_i dx_j, symmetric, shape [3 m, 3 m] (eV/Å^2); atom by atom x, y, z, as `VibrationsData.from_2d` of
            ASE reads it.

        Raises:
            UserError: If the structure cannot be computed, an index is not in it, or chunk < 1.
        """
        structure = self._chosen(atoms)
        chosen = check_indices(range(len(structure)) if indices is None else indices, len(structure))
        graphs = self._ensemble.graphs(self._graph(structure))
        return np.mean([hessian(potential.model, own, chosen, chunk) for potential, own in graphs], axis=0)

    def get_descriptors(
        self, atoms: ase.Atoms | None = None, layers: Layers = None, invariants_only: bool = True, member: int = 0
    ) -> np.ndarray:
        """What the model's layers make of each atom.

        Args:
            atoms: The structure; None takes the last one.
            layers: Which layers: one, several, or all when None; counted from 0, or from the end when negative.
            invariants_only: Whether to take scalars alone, or all degrees.
            member: Which model of a committee.

        Returns:
            Shape [n, width of the irreps], float64; the irreps are those of `get_descriptor_irreps`, layer by layer in
            e3nn's order.

        Raises:
            UserError: If the structure cannot be computed, or there is no such layer or member.
        """
        return self._describe(self._chosen(atoms), layers, invariants_only, member)[0]

    def get_descriptor_irreps(self, layers: Layers = None, invariants_only: bool = True, member: int = 0) -> str:
        """Irreps of a row of `get_descriptors` as e3nn writes them, such as "8x0e+8x1o+8x0e"; see there."""
        lone = ase.Atoms(numbers=self._ensemble.models[0].atomic_numbers[:1], positions=np.zeros((1, 3)))
        return self._describe(lone, layers, invariants_only, member)[1]

    def _describe(self, atoms: ase.Atoms, layers: Layers, invariants_only: bool, member: int) -> tuple[np.ndarray, str]:
        members = self._ensemble.graphs(self._graph(atoms))
        if not 0 <= member < len(members):
            raise UserError(f"member={member}: there are the models 0 to {len(members) - 1}.")
        potential, graph = members[member]
        return describe(potential.model, graph, layers, invariants_only)

    def _chosen(self, atoms: ase.Atoms | None) -> ase.Atoms:
        """The structure that is meant: this one, or the last one."""
        chosen: ase.Atoms | None = self.atoms if atoms is None else atoms
        if chosen is None:
            raise UserError("the calculator has no structure yet: attach it to one.")
        return chosen

    def _graph(self, atoms: ase.Atoms, index: int | None = None, stress: bool = False) -> Graph:
        """The graph of a structure that is not the last one; index is its place among several."""
        return checked_graph(atoms, self._ensemble.r_max, self._ensemble.models[0].atomic_numbers, index, stress)
