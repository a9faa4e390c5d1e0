"""The potential as an ASE calculator."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import ase
import numpy as np
import torch
from ase.calculators.calculator import Calculator, PropertyNotImplementedError, all_changes
from ase.stress import full_3x3_to_voigt_6_stress
from torch import Tensor

from mace_gaunt.data.atomic_data import AtomicData, node_types
from mace_gaunt.data.neighbors import neighbor_pairs
from mace_gaunt.errors import UserError
from mace_gaunt.model.compiled import CompileError, check_agreement, compile_inference
from mace_gaunt.model.gradients import EdgeGradient, predict
from mace_gaunt.model.kernels import KernelChoice, select_kernels
from mace_gaunt.model.mace import MACE
from mace_gaunt.simulation.batching import MAX_EDGES_PER_BATCH, predict_batches
from mace_gaunt.simulation.loading import open_model, open_packaged_gradient
from mace_gaunt.simulation.neighbors import SkinNeighborList
from mace_gaunt.simulation.structures import check_stress_defined, check_structure


class MaceGauntCalculator(Calculator):
    """Energies, forces and stress of a trained model for ASE.

    Energy (eV) and forces (eV/Å) come from one call; stress (eV/Å^3, ASE's sign) is computed only when it is asked for
    and only for cells periodic in all three directions. `energies` are per atom, E0s included: they sum to the energy.
    The Atoms it is given are never changed, and neither are torch's defaults or any random state.

    Attributes:
        model: The model it runs.
        kernels: What "auto" chose for each product and why, after the first calculation.
        closest_distance: Shortest interatomic distance of the last calculation (Å), None where no two atoms are within
            r_max of each other.
    """

    implemented_properties = ["energy", "free_energy", "energies", "forces", "stress"]  # noqa: RUF012 - as ASE has it
    # The model does not read them, so a change of them leaves the results valid.
    ignored_changes = {"initial_charges", "initial_magmoms"}  # noqa: RUF012

    def __init__(
        self,
        model: str | Path | MACE,
        device: str = "auto",
        dtype: str = "float64",
        kernel: KernelChoice = "auto",
        skin: float = 1.0,
        compile: bool = False,
        package: str | Path | None = None,
    ) -> None:
        """Load the model.

        Args:
            model: A model folder, a run folder that holds `model/`, or a loaded model (copied if it must be moved).
            device: "auto" or a torch device.
            dtype: "float64" or "float32". Totals and E0s are float64 in both.
            kernel: Kernel of the tensor products, for a folder: a name, {"edge": X, "node": Y}, or "auto", which
                measures the fastest at the sizes of the first calculation.
            skin: Extra radius of the neighbour list (Å), which is rebuilt once an atom moved half of it.
            compile: Whether energies and forces are compiled at the first calculation, and compared with the eager
                ones. That takes up to a minute, seconds where the compiler's cache has it, and pays in long runs.
            package: What `mace-gaunt export` made of this model folder: energies and forces compiled before, compared
                with the eager ones at the first calculation. Loading it runs the machine code in it. Its kernels,
                precision and device are those it was made for.

        Raises:
            UserError: If the model cannot be loaded, the skin is negative, or the package does not fit the model, the
                precision, the device or this machine.
        """
        super().__init__()
        if not 0 <= skin < np.inf:
            raise UserError(f"skin is a length of at least 0 Å, not {skin}.")
        self.model = open_model(model, device, dtype, kernel)
        # A model that was handed in belongs to the caller.
        self._kernels_are_open = isinstance(model, (str, Path))
        self.kernels: dict[str, str] = {}
        self.closest_distance: float | None = None
        self._neighbors = SkinNeighborList(self.model.r_max, skin)
        self._compile = compile
        self._gradient: EdgeGradient | None = None
        self._packaged: EdgeGradient | None = None
        if package is not None:
            if compile or kernel not in (None, "auto"):
                raise UserError("a package has its own kernels and is compiled: give it without compile and kernel.")
            self._kernels_are_open = False
            self._packaged = open_packaged_gradient(package, model, self.model)

    def calculate(
        self,
        atoms: ase.Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = all_changes,
    ) -> None:
        """Fill `results`, as ASE asks of a calculator.

        Args:
            atoms: The structure; None takes the last one.
            properties: What is wanted; only "stress" makes a difference.
            system_changes: Not used: the neighbour list sees for itself what changed.

        Raises:
            UserError: If the structure cannot be computed (see `check_structure`).
            PropertyNotImplementedError: If stress is asked for without a fully periodic cell.
        """
        super().calculate(atoms, list(properties), list(system_changes))
        if self.atoms is None:
            raise UserError("the calculator has no structure yet: attach it to one.")
        structure: ase.Atoms = self.atoms
        stress = "stress" in properties
        check_structure(structure, self.model.atomic_numbers)
        if stress:
            check_stress_defined(structure)
        pairs = self._neighbors.pairs(structure.positions, structure.cell.array, structure.pbc, structure.numbers)
        self.closest_distance = pairs.closest
        graph = _graph(structure, self.model.atomic_numbers, pairs.pair_index, pairs.shifts)
        self.prepare(graph)
        prediction = predict(self.model, graph.to(self.model.device), stress=stress, gradient=self._gradient)
        self.results = _split_results(prediction, [len(structure)])[0]

    def evaluate(
        self,
        structures: Iterable[ase.Atoms],
        *,
        stress: bool = False,
        max_edges_per_batch: int = MAX_EDGES_PER_BATCH,
    ) -> list[dict[str, Any]]:
        """Compute many structures, several at a time.

        Args:
            structures: The structures; any sizes, cells and periodicities together. A generator is read as it goes, so
                that only the results are held.
            stress: Whether stress is wanted too; then every cell must be fully periodic.
            max_edges_per_batch: How much is computed at once; a larger structure is computed alone.

        Returns:
            One dict per structure with energy, free_energy, energies, forces and, if wanted, stress (six components
            in ASE's order), as single calculations give.

        Raises:
            UserError: If a structure cannot be computed; its position in the list is named.
            PropertyNotImplementedError: If stress is asked for without a fully periodic cell.
        """

        def prepared(batch: Any) -> EdgeGradient | None:
            self.prepare(batch)
            return self._gradient

        graphs = (self._checked_graph(atoms, index, stress) for index, atoms in enumerate(structures))
        results: list[dict[str, Any]] = []
        for batch, prediction in predict_batches(
            self.model, graphs, max_edges_per_batch, stress=stress, gradient_of=prepared
        ):
            results += _split_results(prediction, batch.ptr.diff().tolist())
        return results

    def prepare(self, graph: Any) -> None:
        """Measure, once, the kernels that were left open, at the sizes of a graph, and compile or check a package.

        Raises:
            UserError: If compiling fails, or the package differs from the model.
        """
        if self._kernels_are_open:
            self._kernels_are_open = False
            sizes = graph.node_types.shape[0], graph.num_edges
            choices = select_kernels(self.model, *sizes, training=False)
            self.kernels = {name: str(choice) for name, choice in choices.items()}
        if self._packaged is not None and self._gradient is None:
            try:
                check_agreement(self.model, graph.to(self.model.device), self._packaged)
            except CompileError as error:
                raise UserError(f"the package gives other results than its model: {error}. Export it again") from error
            self._gradient = self._packaged
        if self._compile and self._gradient is None and min(graph.node_types.shape[0], graph.num_edges // 2) > 1:
            try:
                self._gradient = compile_inference(self.model, graph.to(self.model.device))
            except CompileError as error:
                raise UserError(f"the model cannot be compiled: {error}. Compute with compile=False") from error

    def prepare_for(self, atoms: ase.Atoms, compile: bool = False) -> None:
        """The same before the first calculation; a structure that cannot be computed is refused then.

        Args:
            atoms: The structure.
            compile: Whether to compile from now on.

        Raises:
            UserError: If compiling fails.
        """
        self._compile = self._compile or compile
        try:
            graph = self._checked_graph(atoms, 0, stress=False)
        except UserError:
            return
        self.prepare(graph)

    def _checked_graph(self, atoms: ase.Atoms, index: int, stress: bool) -> AtomicData:
        """The graph of one of many structures; errors say which."""
        try:
            check_structure(atoms, self.model.atomic_numbers)
            if stress:
                check_stress_defined(atoms)
            pair_index, shifts = neighbor_pairs(atoms.positions, atoms.cell.array, atoms.pbc, self.model.r_max)
        except (UserError, PropertyNotImplementedError) as error:
            raise type(error)(f"structure {index}: {error}") from error
        return _graph(atoms, self.model.atomic_numbers, pair_index, shifts)


def _graph(atoms: ase.Atoms, known: list[int], pair_index: np.ndarray, shifts: np.ndarray) -> AtomicData:
    """The fields of AtomicData that a model reads (no labels, no weights)."""
    return AtomicData(
        positions=torch.tensor(atoms.positions, dtype=torch.float64),
        atomic_numbers=torch.tensor(atoms.numbers, dtype=torch.int64),
        node_types=node_types(atoms.numbers, known),
        cell=torch.tensor(atoms.cell.array, dtype=torch.float64)[None],
        pbc=torch.tensor(atoms.pbc, dtype=torch.bool)[None],
        pair_index=torch.from_numpy(pair_index),
        shifts=torch.from_numpy(shifts),
        num_nodes=len(atoms),
    )


def _split_results(prediction: dict[str, Tensor], sizes: list[int]) -> list[dict[str, Any]]:
    """ASE's results, one dict per structure, as detached float64 numpy."""
    arrays = {name: value.detach().cpu().numpy().astype(np.float64) for name, value in prediction.items()}
    ends = np.cumsum(sizes)
    return [_results(arrays, graph, slice(end - sizes[graph], end)) for graph, end in enumerate(ends.tolist())]


def _results(arrays: dict[str, np.ndarray], graph: int, nodes: slice) -> dict[str, Any]:
    energy = float(arrays["energy"][graph])
    results: dict[str, Any] = {
        "energy": energy,
        "free_energy": energy,
        "energies": arrays["node_energy"][nodes].copy(),
        "forces": arrays["forces"][nodes].copy(),
    }
    if "stress" in arrays:
        results["stress"] = full_3x3_to_voigt_6_stress(arrays["stress"][graph])
    return results
