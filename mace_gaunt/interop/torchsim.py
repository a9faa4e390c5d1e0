"""Our models inside torch-sim: dynamics and relaxation of many systems in one batch (extra `torchsim`)."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mace_gaunt.errors import UserError
from mace_gaunt.model.kernels import KernelChoice
from mace_gaunt.model.mace import MACE
from mace_gaunt.simulation.graphs import Graph, TypeIndex, join
from mace_gaunt.simulation.neighbors import SkinNeighborList
from mace_gaunt.simulation.potential import Potential

try:
    import torch_sim
    from torch_sim.models.interface import ModelInterface
except ImportError as error:
    raise ImportError("torch-sim is not installed: pip install 'mace-gaunt[torchsim]'") from error


class MaceGauntModel(ModelInterface):
    """A model as torch-sim takes it: a batch of systems to energies, forces, stress.

    Neighbour lists are ours, one per system, made on the CPU and kept while no atom moved half the skin.

    Attributes:
        model: The potential.
        r_max: Its cutoff radius (Å).
    """

    def __init__(
        self,
        model: str | Path | MACE,
        device: str | torch.device = "auto",
        dtype: str | torch.dtype = "float64",
        *,
        compute_forces: bool = True,
        compute_stress: bool = True,
        kernel: KernelChoice = "auto",
        skin: float = 1.0,
        compile: bool = False,
        head: str | None = None,
    ) -> None:
        """Load the model.

        Args:
            model: A model folder, a run folder, or a loaded model.
            device: "auto" or a torch device.
            dtype: float64 or float32, as a name or torch's; states are to have the same.
            compute_forces: Whether forces are computed.
            compute_stress: Whether stress is computed; systems that are not periodic have none, and need False.
            kernel: See `MaceGauntCalculator`; "auto" measures at the sizes of the first batch.
            skin: Extra radius of the neighbour lists (Å).
            compile: Whether energies and forces are compiled at the first batch.
            head: Which of a model's heads is meant; see `MaceGauntCalculator`.

        Raises:
            UserError: If the model cannot be loaded.
        """
        super().__init__()
        self._potential = Potential(
            model, str(device), str(dtype).removeprefix("torch."), kernel=kernel, compile=compile, head=head
        )
        self.model = self._potential.model
        self.r_max = self.model.r_max
        self._device, self._dtype = self.model.device, self.model.dtype
        self._compute_forces, self._compute_stress = compute_forces, compute_stress
        self._memory_scales_with = "n_atoms_x_density"
        self._skin = skin
        self._lists: list[SkinNeighborList] = []
        self._types = TypeIndex(self.model.atomic_numbers)

    @property
    def compute_stress(self) -> bool:
        """Whether stress is computed."""
        return self._compute_stress

    @compute_stress.setter
    def compute_stress(self, compute_stress: bool) -> None:
        self._compute_stress = compute_stress

    @property
    def compute_forces(self) -> bool:
        """Whether forces are computed."""
        return self._compute_forces

    @compute_forces.setter
    def compute_forces(self, compute_forces: bool) -> None:
        self._compute_forces = compute_forces

    def forward(self, state: Any, **kwargs: Any) -> dict[str, Tensor]:
        """Compute a batch of systems.

        Args:
            state: A SimState, or a dictionary of its positions, cell, pbc, atomic_numbers and system_idx; it stays as
                it is.
            kwargs: Not used.

        Returns:
            `energy` [n_systems] and `energies` [n_atoms] (eV), float64 in either precision of the model; as wanted,
            `forces` [n_atoms, 3] (eV/Å) and `stress` [n_systems, 3, 3] (eV/Å^3, ASE's sign), in the model's dtype.

        Raises:
            UserError: If an element is unknown to the model, or stress is wanted of systems that are not periodic.
        """
        if isinstance(state, dict):
            state = torch_sim.SimState(**{"masses": torch.ones_like(state["atomic_numbers"]), **state})
        pbc = np.broadcast_to(torch.as_tensor(state.pbc).cpu().numpy(), 3)
        if self._compute_stress and not pbc.all():
            raise UserError("stress needs systems that are periodic in all directions: give compute_stress=False.")
        graph = self._graph(state, pbc)
        if not (self._compute_forces or self._compute_stress):
            return _named(self._potential.energies(graph))
        prediction, slopes = self._potential.forces(graph)
        result = _named(prediction)
        if self._compute_forces:
            result["forces"] = prediction["forces"]
        if self._compute_stress:
            result["stress"] = slopes.stress()
        return result

    def _graph(self, state: Any, pbc: np.ndarray) -> Graph:
        """All systems as one graph; torch-sim keeps the atoms of a system together, and cell vectors in columns."""
        sizes = torch.bincount(state.system_idx).tolist()
        cells = state.row_vector_cell.detach().cpu().double()
        positions = state.positions.detach().cpu().double()
        types = self._types(state.atomic_numbers.cpu().numpy())
        while len(self._lists) < len(sizes):
            self._lists.append(SkinNeighborList(self.r_max, self._skin))
        systems = []
        columns = zip(positions.split(sizes), types.split(sizes), cells, self._lists, strict=False)
        for place, kinds, cell, neighbors in columns:
            pairs = neighbors.pairs(place.numpy(), cell.numpy(), pbc, kinds.numpy())
            index, shifts = torch.from_numpy(pairs.pair_index), torch.from_numpy(pairs.shifts)
            systems.append(Graph(place, kinds, cell[None], index, shifts, (len(place),)))
        return join(systems)


def _named(prediction: dict[str, Tensor]) -> dict[str, Tensor]:
    """Energies under torch-sim's names."""
    return {"energy": prediction["energy"], "energies": prediction["node_energy"]}
