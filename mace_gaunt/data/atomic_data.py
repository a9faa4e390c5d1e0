"""AtomicData: one structure as a graph, with its labels."""

from collections.abc import Mapping, Sequence
from typing import Any

import ase
import numpy as np
import torch
from ase.constraints import FixAtoms
from ase.data import chemical_symbols
from torch import Tensor
from torch_geometric.data import Data

from mace_gaunt.data.elements import check_numbers
from mace_gaunt.data.labels import LabelKeys, Labels, read_labels
from mace_gaunt.data.neighbors import neighbor_pairs
from mace_gaunt.errors import UserError
from mace_gaunt.so3.mirror import mirror_index

# Field -> shape, dtype, unit and meaning. Batching joins n_nodes, n_pairs and n_graphs along their axis.
FIELDS: dict[str, tuple[str, torch.dtype | type, str]] = {
    "positions": ("[n_nodes, 3]", torch.float64, "Å"),
    "atomic_numbers": ("[n_nodes]", torch.int64, ""),
    "node_types": ("[n_nodes]", torch.int64, "index into the sorted atomic numbers of the model"),
    "cell": ("[n_graphs, 3, 3]", torch.float64, "Å, rows are cell vectors, zeros when there is none"),
    "pbc": ("[n_graphs, 3]", torch.bool, "periodic directions"),
    "pair_index": ("[2, n_pairs]", torch.int64, "every pair once: [0] sends, [1] receives; sorted by receiver"),
    "shifts": ("[n_pairs, 3]", torch.float64, "Å, vectors = positions[receiver] - positions[sender] + shifts"),
    "energy": ("[n_graphs]", torch.float64, "eV, total; NaN when absent"),
    "forces": ("[n_nodes, 3]", torch.float64, "eV/Å; NaN when absent"),
    "stress": ("[n_graphs, 3, 3]", torch.float64, "eV/Å^3, dE/dstrain / V as in ASE; NaN when absent"),
    "weight": ("[n_graphs]", torch.float64, "weight of the frame in the loss"),
    "energy_weight": ("[n_graphs]", torch.float64, "weight of its energy"),
    "forces_weight": ("[n_graphs]", torch.float64, "weight of its forces"),
    "stress_weight": ("[n_graphs]", torch.float64, "weight of its stress"),
    "config_type": ("one per graph", str, "'Default' when absent"),
    "frame_index": ("[n_graphs]", torch.int64, "position of the frame in its file, from 0"),
    "tags": ("[n_nodes]", torch.int64, "of ASE; in OC20 0 below the surface, 1 surface, 2 adsorbate"),
    "fixed": ("[n_nodes]", torch.bool, "held by a FixAtoms constraint; labels of forces are raw all the same"),
    "sid": ("[n_graphs]", torch.int64, "system of OC20, info `sid`; -1 when absent"),
    "fid": ("[n_graphs]", torch.int64, "step of its relaxation, info `fid`; -1 when absent"),
}


class AtomicData(Data):
    """One structure as a graph, with its labels; `torch_geometric.data.Batch` joins several.

    The fields are those of `FIELDS`: positions and labels in float64, eV and Å, whatever the model computes in. A
    frame without a label has NaN there. One atom, and no edges, are legal. Every pair of neighbours is stored once, as
    `neighbor_pairs` gives it, and stands for two edges, one in each direction. A batch also has `batch` [n_nodes], the
    graph of each node, `ptr` [n_graphs + 1], the first node of each graph, and `num_graphs`.
    """

    def __inc__(self, key: str, value: Any, *args: Any, **kwargs: Any) -> Any:
        # torch_geometric counts up whatever has "index" in its name; only pair_index counts nodes.
        return self.num_nodes if key == "pair_index" else 0

    def __cat_dim__(self, key: str, value: Any, *args: Any, **kwargs: Any) -> Any:
        return -1 if key == "pair_index" else 0

    @property
    def num_edges(self) -> int:
        """Number of edges, two for every pair."""
        return 2 * int(self.pair_index.shape[1])

    @property
    def edge_index(self) -> Tensor:
        """Sender and receiver of every edge, shape [2, n_edges]: of all pairs, then of all pairs the other way round.

        Raises:
            AttributeError: If it is set: the pairs are what is stored.
        """
        return mirror_index(self.pair_index)

    @edge_index.setter
    def edge_index(self, value: Any) -> None:
        raise AttributeError("edge_index follows from pair_index, which holds every pair of neighbours once: set that")

    @classmethod
    def from_atoms(
        cls,
        atoms: ase.Atoms,
        r_max: float,
        atomic_numbers: Sequence[int],
        keys: LabelKeys | None = None,
        weights: Mapping[str, float] | None = None,
        frame_index: int = 0,
    ) -> "AtomicData":
        """Build the graph of a structure and read its labels.

        Args:
            atoms: The structure, which is left as it is.
            r_max: Cutoff radius (Å).
            atomic_numbers: The elements of the model, sorted.
            keys: Where the labels are; None reads none.
            weights: Weight of each config_type in the loss, 1 for those not named. It is multiplied with the info key
                `config_weight`; `config_energy_weight`, `config_forces_weight`, `config_stress_weight` are read too.
            frame_index: Position of the frame in its file.

        Returns:
            One graph.

        Raises:
            UserError: If an element is not in atomic_numbers, a label or position is not finite or misshapen, or the
                cell does not fit pbc.
        """
        pair_index, shifts = neighbor_pairs(atoms.positions, atoms.cell.array, atoms.pbc, r_max)
        labels = Labels() if keys is None else read_labels(atoms, keys)
        return cls(
            positions=torch.tensor(atoms.positions, dtype=torch.float64),
            atomic_numbers=torch.tensor(atoms.numbers, dtype=torch.int64),
            node_types=node_types(atoms.numbers, atomic_numbers),
            cell=torch.tensor(atoms.cell.array, dtype=torch.float64).unsqueeze(0),
            pbc=torch.tensor(atoms.pbc, dtype=torch.bool).unsqueeze(0),
            pair_index=torch.from_numpy(pair_index),
            shifts=torch.from_numpy(shifts),
            energy=torch.tensor([labels.energy], dtype=torch.float64),
            forces=_or_nan(labels.forces, (len(atoms), 3)),
            stress=_or_nan(labels.stress, (3, 3)).unsqueeze(0),
            frame_index=torch.tensor([frame_index]),
            tags=torch.tensor(atoms.get_tags(), dtype=torch.int64),
            fixed=torch.from_numpy(fixed_atoms(atoms)),
            sid=torch.tensor([identifier(atoms, "sid")]),
            fid=torch.tensor([identifier(atoms, "fid")]),
            num_nodes=len(atoms),
            **_weights(atoms, weights or {}),
        )


def fixed_atoms(atoms: ase.Atoms) -> np.ndarray:
    """Which atoms a FixAtoms constraint holds, shape [n_nodes], bool; other constraints leave atoms a freedom.

    Raises:
        UserError: If it names an atom that is not there.
    """
    fixed = np.zeros(len(atoms), dtype=bool)
    for constraint in atoms.constraints:
        if isinstance(constraint, FixAtoms):
            held = constraint.get_indices()
            if np.any((held < -len(atoms)) | (held >= len(atoms))):
                raise UserError(f"a FixAtoms constraint holds atom {np.max(np.abs(held))}; there are {len(atoms)}.")
            fixed[held] = True
    return fixed


def identifier(atoms: ase.Atoms, name: str) -> int:
    """A number that names the frame in its data set, from the info dictionary, -1 when absent.

    Args:
        atoms: The frame.
        name: "sid" or "fid"; "random123", as OC20 writes systems, is 123.

    Raises:
        UserError: If it is not a number.
    """
    value = atoms.info.get(name, -1)
    try:
        number = int(str(value).removeprefix("random"))
    except ValueError:
        number = None
    if number is None or abs(number) >= 1 << 63:
        raise UserError(f"{name} is {value!r}; expected a whole number, or random and a number.")
    return number


def node_types(numbers: np.ndarray, atomic_numbers: Sequence[int]) -> Tensor:
    """Index of each atom's element in the model's list.

    Args:
        numbers: Atomic numbers of the structure, shape [n_nodes].
        atomic_numbers: The elements of the model, sorted.

    Returns:
        Shape [n_nodes], int64.

    Raises:
        UserError: If an element is not in atomic_numbers, names it and the known ones; or a number is no element's.
    """
    check_numbers(numbers)
    known = np.asarray(atomic_numbers, dtype=np.int64)
    unknown = np.setdiff1d(numbers, known)
    if unknown.size:
        raise UserError(f"unknown element {symbols(unknown)}: the known ones are {symbols(known)}.")
    return torch.from_numpy(np.searchsorted(known, numbers).astype(np.int64))


def symbols(numbers: Sequence[int] | np.ndarray) -> str:
    """Chemical symbols, comma-separated; "Z=200" for a number that no element has."""
    known = range(len(chemical_symbols))
    return ", ".join(chemical_symbols[z] if z in known else f"Z={z}" for z in map(int, numbers)) or "none"


def _or_nan(label: np.ndarray | None, shape: tuple[int, ...]) -> Tensor:
    return torch.full(shape, torch.nan, dtype=torch.float64) if label is None else torch.from_numpy(label)


def _weights(atoms: ase.Atoms, by_type: Mapping[str, float]) -> dict[str, Any]:
    """The config_type of a frame and its weights in the loss."""
    config_type = str(atoms.info.get("config_type", "Default"))
    found = {"weight": _weight(atoms, "config_weight") * by_type.get(config_type, 1.0)}
    found |= {f"{name}_weight": _weight(atoms, f"config_{name}_weight") for name in ("energy", "forces", "stress")}
    return {"config_type": config_type, **{k: torch.tensor([v], dtype=torch.float64) for k, v in found.items()}}


def _weight(atoms: ase.Atoms, key: str) -> float:
    """A weight that a frame carries in its info, 1 when it carries none."""
    return check_weight(atoms.info.get(key, 1.0), key)


def check_weight(value: Any, name: str) -> float:
    """A weight in the loss as a number.

    Raises:
        UserError: If it is not a finite number of at least 0.
    """
    try:
        weight = float(value)
    except (TypeError, ValueError, OverflowError):
        weight = float("nan")
    if not (np.isfinite(weight) and weight >= 0):
        raise UserError(f"{name} is {value!r}; expected a number, 0 or more.")
    return weight
