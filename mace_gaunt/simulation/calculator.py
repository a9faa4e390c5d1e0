"""The potential as an ASE calculator."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import ase
import numpy as np
from ase.calculators.calculator import Calculator, Parameters, all_changes
from ase.outputs import Properties, all_outputs

from mace_gaunt.errors import UserError
from mace_gaunt.model.kernels import KernelChoice
from mace_gaunt.model.mace import MACE
from mace_gaunt.simulation.batching import MAX_EDGES_PER_BATCH
from mace_gaunt.simulation.committee import SPREAD, check_spread
from mace_gaunt.simulation.ensemble import Answer, Ensemble, Model
from mace_gaunt.simulation.graphs import TypeIndex, structure_graph
from mace_gaunt.simulation.insight import Insight
from mace_gaunt.simulation.neighbors import SkinNeighborList
from mace_gaunt.simulation.results import ENERGIES
from mace_gaunt.simulation.structures import check_stress_defined, check_structure


class MaceGauntCalculator(Insight, Calculator):
    """Energies, forces and stress of a trained model, or of a committee of them, for ASE.

    Only what is asked for is computed: energies (eV) alone take half the work; forces (eV/Å) come with the
    energies; stress (eV/Å^3, ASE's sign) follows from forces without running the model again, for cells periodic in
    all three directions. Who asks for the energy first and then for the forces of the same structure, as i-PI's client
    does, gets both at once from the second structure of this composition on. `energies` are per atom, E0s included:
    they sum to the energy. The Atoms it is given are never changed, and neither are torch's defaults, the number of
    threads or any random state.

    Attributes:
        closest_distance: Shortest interatomic distance of the last calculation (Å), None where no two atoms are within
            r_max of each other.
        max_force_std: Disagreement of a committee (eV/Å) above which a calculation fails; None for no limit.
    """

    implemented_properties = ["energy", "free_energy", "energies", "forces", "stress"]  # noqa: RUF012 - as ASE has it

    def __init__(
        self,
        model: Model | Sequence[Model],
        device: str = "auto",
        dtype: str = "float64",
        kernel: KernelChoice = "auto",
        skin: float = 1.0,
        compile: bool = False,
        package: str | Path | None = None,
        head: str | None = None,
        max_force_std: float | None = None,
    ) -> None:
        """Load the model.

        Args:
            model: A model folder, a run folder that holds `model/`, or a loaded model (copied if it must be moved). A
                list of them is a committee: results are the means of its members, and `energy_std`, `energies_std`,
                `forces_std` and, with stress, `stress_std` their standard deviations (see `simulation.committee`).
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
            head: Which of a model's heads is meant, of every member of a committee. Needed where a model has several
                and none is named Default.
            max_force_std: Largest length of an atom's `forces_std` (eV/Å) that forces of a committee may have; above
                it UncertaintyError is raised, which ends a simulation or an optimisation.

        Raises:
            UserError: If a model cannot be loaded, the skin is negative, or the package does not fit the model, the
                precision, the device or this machine; if the members of a committee know different elements.
        """
        super().__init__()
        if not 0 <= skin < np.inf:
            raise UserError(f"skin is a length of at least 0 Å, not {skin}.")
        self._ensemble = Ensemble(model, device, dtype, kernel, compile, package, head)
        is_committee = self._ensemble.is_committee
        if is_committee:
            self.implemented_properties = [*self.implemented_properties, *SPREAD.values()]
        if max_force_std is not None and not (is_committee and max_force_std > 0):
            raise UserError(f"max_force_std={max_force_std}: expected a limit above 0 eV/Å and a committee of models.")
        self.max_force_std = max_force_std
        self.closest_distance: float | None = None
        self.neighbors = SkinNeighborList(self._ensemble.r_max, skin)
        self._types = TypeIndex(self.model.atomic_numbers)
        self._answer: Answer | None = None
        self._forces_follow = False
        names = self._ensemble.names
        self.parameters = Parameters(
            model=names if is_committee else names[0],
            head=self.model.head,
            device=str(self.model.device),
            dtype=dtype,
        )

    @property
    def models(self) -> list[MACE]:
        """The model, or all members of a committee."""
        return self._ensemble.models

    @property
    def model(self) -> MACE:
        """The model; of a committee the first member."""
        return self._ensemble.models[0]

    @property
    def kernels(self) -> dict[str, str]:
        """What "auto" chose for each product and why, after the first calculation."""
        return self._ensemble.kernels

    @property
    def is_compiled(self) -> bool:
        """Whether energies and forces are compiled, now or from the next calculation on."""
        return self._ensemble.is_compiled

    def _get_name(self) -> str:
        return "mace_gaunt"

    def set(self, **kwargs: Any) -> dict[str, Any]:
        """Parameters are fixed once a model is loaded.

        Raises:
            UserError: If one is given.
        """
        if kwargs:
            raise UserError(f"{', '.join(kwargs)} cannot be changed: make another calculator.")
        return {}

    def check_state(self, atoms: ase.Atoms, tol: float = 1e-15) -> list[str]:
        """What changed since the last calculation, of all that the model reads.

        Args:
            atoms: The structure.
            tol: Not used: a change is a change.

        Returns:
            Names out of positions, numbers, cell and pbc; with no last calculation all that ASE knows.
        """
        if self.atoms is None:
            return list(all_changes)
        before, now = self.atoms, atoms
        same = {
            "positions": np.array_equal(before.positions, now.positions),
            "numbers": np.array_equal(before.numbers, now.numbers),
            "cell": np.array_equal(before.cell.array, now.cell.array),
            "pbc": np.array_equal(before.pbc, now.pbc),
        }
        return [name for name, unchanged in same.items() if not unchanged]

    def calculate(
        self,
        atoms: ase.Atoms | None = None,
        properties: Sequence[str] = ("energy", "forces"),
        system_changes: Sequence[str] = all_changes,
    ) -> None:
        """Fill `results`, as ASE asks of a calculator.

        Args:
            atoms: The structure; None takes the last one.
            properties: What is wanted.
            system_changes: What changed since the last calculation; results stay when it is nothing.

        Raises:
            UserError: If the structure cannot be computed (see `check_structure`).
            PropertyNotImplementedError: If stress is asked for without a fully periodic cell.
            UncertaintyError: If the members of a committee disagree about the forces by more than the limit.
        """
        super().calculate(atoms, list(properties), list(system_changes))
        if system_changes:
            self.results = {}
        structure = self._chosen(None)
        wanted = {name.removesuffix("_std") for name in properties}
        if "stress" in wanted:
            check_stress_defined(structure)
        if "numbers" in system_changes:
            self._forces_follow = False
        if not wanted <= ENERGIES and self.results and "forces" not in self.results:
            self._forces_follow = True
        if "forces" not in self.results:
            only_energies = wanted <= ENERGIES and not (self._forces_follow or self._ensemble.is_compiled)
            self._answer = self._compute(structure, not only_energies)
        if "stress" in wanted and self._answer is not None:
            self._answer.add_stress()
            self.results = self._answer.results()[0]

    def _compute(self, atoms: ase.Atoms, forces: bool) -> Answer | None:
        """Energies, or energies and forces (then with what stress can be made of), of the structure that is set."""
        check_structure(atoms, self.model.atomic_numbers)
        pairs = self.neighbors.pairs(atoms.positions, atoms.cell.array, atoms.pbc, atoms.numbers)
        self.closest_distance = pairs.closest
        graph = structure_graph(atoms, self._types(atoms.numbers), pairs.pair_index, pairs.shifts)
        if not forces:
            self.results = self._ensemble.energies(graph)[0]
            return None
        answer = self._ensemble.forces(graph)
        results = answer.results()[0]
        if self.max_force_std is not None:
            check_spread(results, self.max_force_std, atoms)
        self.results = results
        return answer

    def reset(self) -> None:
        """Forget the last calculation."""
        super().reset()
        self._forces_follow = False

    def export_properties(self) -> Properties:
        """The results that ASE has names for: without the standard deviations of a committee."""
        return Properties({name: value for name, value in self.results.items() if name in all_outputs})

    def evaluate(
        self,
        structures: Iterable[ase.Atoms],
        *,
        forces: bool = True,
        stress: bool = False,
        max_edges_per_batch: int = MAX_EDGES_PER_BATCH,
    ) -> list[dict[str, Any]]:
        """Compute many structures, several at a time.

        Args:
            structures: The structures; any sizes, cells and periodicities together. A generator is read as it goes, so
                that only the results are held.
            forces: Whether forces are wanted.
            stress: Whether stress is wanted too; then every cell must be fully periodic.
            max_edges_per_batch: How much is computed at once; a larger structure is computed alone.

        Returns:
            One dict per structure with energy, free_energy, energies and, as wanted, forces and stress (six components
            in ASE's order), as single calculations give; of a committee standard deviations too. `max_force_std` does
            not apply.

        Raises:
            UserError: If a structure cannot be computed; its position in the list is named.
            PropertyNotImplementedError: If stress is asked for without a fully periodic cell.
        """
        graphs = (self._graph(atoms, index, stress) for index, atoms in enumerate(structures))
        return self._ensemble.evaluate(graphs, max_edges_per_batch, forces=forces, stress=stress)

    def prepare_for(self, atoms: ase.Atoms, compile: bool = False) -> None:
        """Choose kernels and compile before the first calculation; a structure that cannot be computed is refused then.

        Args:
            atoms: The structure.
            compile: Whether to compile from now on.

        Raises:
            UserError: If compiling fails; what is computed then is computed eagerly, by all members of a committee.
        """
        if compile:
            self._ensemble.use_compiled(True)
        try:
            graph = self._graph(atoms)
        except UserError:
            return
        try:
            self._ensemble.prepare(graph)
        except UserError:
            if compile:
                self._ensemble.use_compiled(False)
            raise
