"""A model as it is run: with its kernels, and compiled or packaged code where there is any."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from mace_gaunt.errors import UserError
from mace_gaunt.model.compiled import CompileError, check_agreement, compile_inference
from mace_gaunt.model.gradients import (
    EdgeGradient,
    edge_gradient,
    pair_forces,
    pair_vectors,
    strain_derivatives,
    total_energies,
)
from mace_gaunt.model.kernels import KernelChoice, select_kernels
from mace_gaunt.model.mace import MACE
from mace_gaunt.simulation.graphs import Graph
from mace_gaunt.simulation.loading import open_model, open_packaged_gradient


@dataclass(frozen=True)
class Slopes:
    """What a stress still has to be made of once forces are known.

    Attributes:
        graph: The structures.
        vectors: Of the pairs, shape [n_pairs, 3] (Å).
        pair_grad: dE/dvectors, shape [n_pairs, 3] (eV/Å).
    """

    graph: Graph
    vectors: Tensor
    pair_grad: Tensor

    def stress(self) -> Tensor:
        """dE/dstrain / volume, shape [n_graphs, 3, 3] (eV/Å^3)."""
        return strain_derivatives(self.graph, self.vectors, self.pair_grad)["stress"]


class Potential:
    """One model ready to be asked for energies, forces and stress.

    Attributes:
        model: The model.
        kernels: What "auto" chose for each product and why, after the first call of `prepare`.
        compile: Whether energies and forces are to be compiled.
    """

    def __init__(
        self,
        model: str | Path | MACE,
        device: str = "auto",
        dtype: str = "float64",
        kernel: KernelChoice = "auto",
        compile: bool = False,
        package: str | Path | None = None,
        head: str | None = None,
    ) -> None:
        """Load the model; arguments and errors are those of `MaceGauntCalculator`."""
        self.model = open_model(model, device, dtype, kernel, head)
        self.kernels: dict[str, str] = {}
        self.compile = compile
        # A model that was handed in belongs to the caller.
        self._kernels_are_open = isinstance(model, (str, Path))
        self._gradient: EdgeGradient | None = None
        self._packaged: EdgeGradient | None = None
        if package is not None:
            if compile or kernel not in (None, "auto"):
                raise UserError("a package has its own kernels and is compiled: give it without compile and kernel.")
            self._kernels_are_open = False
            self._packaged = open_packaged_gradient(package, model, self.model)

    @property
    def is_compiled(self) -> bool:
        """Whether there is compiled code, now or from the next `prepare` on: it gives energies and forces at once."""
        return self.compile or self._packaged is not None

    def use_compiled(self, on: bool) -> None:
        """Compile energies and forces at the next `prepare`, or compute them eagerly from now on, but for a package.

        Args:
            on: Whether to compile.
        """
        self.compile = on
        if not on and self._packaged is None:
            self._gradient = None

    def prepare(self, graph: Graph) -> None:
        """Measure, once, the kernels that were left open, at the sizes of a graph, and compile or check a package.

        Args:
            graph: Structures such as those to come.

        Raises:
            UserError: If compiling fails, or the package differs from the model.
        """
        if self._kernels_are_open:
            self._kernels_are_open = False
            choices = select_kernels(self.model, graph.positions.shape[0], graph.num_edges, training=False)
            self.kernels = {name: str(choice) for name, choice in choices.items()}
        if self._packaged is not None and self._gradient is None:
            self._gradient = self._checked_package(graph, self._packaged)
        if self.compile and self._gradient is None and min(graph.positions.shape[0], graph.num_edges // 2) > 1:
            self._gradient = self._compiled(graph)

    def energies(self, graph: Graph) -> dict[str, Tensor]:
        """Energies without forces.

        Args:
            graph: Any structures with the pairs within r_max.

        Returns:
            `energy` [n_graphs] and `node_energy` [n_nodes], float64 (eV).
        """
        self.prepare(graph)
        if self.is_compiled:
            found = self.forces(graph)[0]
            return {name: found[name] for name in ("energy", "node_energy")}
        graph = graph.to(self.model.device)
        with torch.no_grad():
            vectors = pair_vectors(graph).to(self.model.dtype)
            node_energy = self.model(vectors, graph.node_types, graph.pair_index, mirrored=True)
        return total_energies(self.model, graph, node_energy)

    def forces(self, graph: Graph) -> tuple[dict[str, Tensor], Slopes]:
        """Energies and forces.

        Args:
            graph: Any structures with the pairs within r_max.

        Returns:
            `energy`, `node_energy` as from `energies`, `forces` [n_nodes, 3] in the model's dtype (eV/Å); and what
            stress can be made of.
        """
        self.prepare(graph)
        graph = graph.to(self.model.device)
        vectors = pair_vectors(graph).to(self.model.dtype)
        inputs = vectors, graph.node_types, graph.pair_index
        gradient = self._gradient
        node_energy, pair_grad = gradient(*inputs, False) if gradient else edge_gradient(self.model, *inputs, False)
        result = total_energies(self.model, graph, node_energy) | {"forces": pair_forces(graph, pair_grad)}
        return result, Slopes(graph, vectors, pair_grad)

    def _checked_package(self, graph: Graph, packaged: EdgeGradient) -> EdgeGradient:
        try:
            check_agreement(self.model, graph.to(self.model.device), packaged)
        except CompileError as error:
            raise UserError(f"the package gives other results than its model: {error}. Export it again") from error
        return packaged

    def _compiled(self, graph: Graph) -> EdgeGradient:
        try:
            return compile_inference(self.model, graph.to(self.model.device))
        except CompileError as error:
            raise UserError(f"the model cannot be compiled: {error}. Compute with compile=False") from error
