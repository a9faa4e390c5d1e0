"""The numbers of one frame that a report is made of."""

from dataclasses import dataclass

import ase
import numpy as np
from ase.constraints import FixAtoms
from ase.data import chemical_symbols, covalent_radii

from mace_gaunt.data.atomic_data import AtomicData
from mace_gaunt.data.descriptors import check_distance
from mace_gaunt.data.inspection.units import all_electron_energy
from mace_gaunt.data.labels import LabelKeys
from mace_gaunt.errors import UserError

ALL_ELEMENTS = range(1, len(chemical_symbols))
MOST_IMAGES = 1e7


@dataclass(frozen=True, slots=True)
class Measures:
    """Numbers of one frame.

    Attributes:
        index: Position in the file.
        formula: Tells frames of the same composition.
        n_atoms: Number of atoms.
        n_fixed: How many are held by a FixAtoms constraint.
        n_edges: Edges within r_max, two for a pair.
        n_alone: Atoms without any neighbour within r_max.
        closest: Shortest distance within r_max (Å), NaN without neighbours.
        contact: Shortest distance in units of the sum of both covalent radii, NaN without neighbours.
        between: Elements and numbers of the two atoms of `contact`, such as "C3-H7".
        energy: Total energy (eV), NaN without one.
        all_electron: What the energy would be with all electrons (Hartree), roughly.
        max_force: Longest force on a free atom (eV/Å), NaN without forces.
        free_squares: Sum of squared force components of free atoms (eV^2/Å^2), NaN without forces.
        fixed_squares: Of fixed atoms.
        net_force: Length of the sum of all forces (eV/Å), NaN without forces.
    """

    index: int
    formula: bytes
    n_atoms: int
    n_fixed: int
    n_edges: int
    n_alone: int
    closest: float
    contact: float
    between: str
    energy: float
    all_electron: float
    max_force: float
    free_squares: float
    fixed_squares: float
    net_force: float

    @property
    def energy_per_atom(self) -> float:
        """(eV)."""
        return self.energy / self.n_atoms


def measure(atoms: ase.Atoms, index: int, keys: LabelKeys, r_max: float) -> tuple[Measures, AtomicData]:
    """Measure a frame; what a training would refuse is refused here.

    Args:
        atoms: The frame.
        index: Its position in the file.
        keys: Where the labels are.
        r_max: Cutoff radius (Å).

    Returns:
        Its numbers, and the graph that they come from.

    Raises:
        UserError: If a position, label, weight or identifier cannot be used.
    """
    check_atoms(atoms)
    check_relaxed(atoms)
    check_cell(atoms, r_max)
    graph = AtomicData.from_atoms(atoms, r_max, ALL_ELEMENTS, keys)
    forces, fixed = graph.forces.numpy(), graph.fixed.numpy()
    lengths = np.linalg.norm(
        atoms.positions[graph.pair_index[1]] - atoms.positions[graph.pair_index[0]] + graph.shifts.numpy(), axis=1
    )
    closest, contact, between = _nearest(atoms.numbers, graph.pair_index.numpy(), lengths)
    free = forces[~fixed]
    measures = Measures(
        index=index,
        formula=np.sort(atoms.numbers).astype(np.uint8).tobytes(),
        n_atoms=len(atoms),
        n_fixed=int(fixed.sum()),
        n_edges=graph.num_edges,
        n_alone=len(atoms) - len(np.unique(graph.pair_index.numpy())),
        closest=closest,
        contact=contact,
        between=between,
        energy=float(graph.energy[0]),
        all_electron=all_electron_energy(atoms.numbers),
        max_force=float(np.linalg.norm(free, axis=1).max()) if len(free) else np.nan,
        free_squares=float(np.square(free).sum()) if len(free) else np.nan,
        fixed_squares=float(np.square(forces[fixed]).sum()),
        net_force=float(np.linalg.norm(forces.sum(axis=0))),
    )
    return measures, graph


def check_atoms(atoms: ase.Atoms) -> None:
    """Look at what damage makes of elements, positions and fixed atoms.

    Raises:
        UserError: If an atomic number is of no element, an atom is so far away that its distances are lost in rounding,
            or a constraint holds an atom that is not there.
    """
    wrong = [number for number in atoms.numbers.tolist() if number not in ALL_ELEMENTS]
    if wrong:
        raise UserError(f"an atom has the atomic number {wrong[0]}; elements have 1 to {ALL_ELEMENTS[-1]}.")
    check_distance(atoms)
    held = [index for c in atoms.constraints if isinstance(c, FixAtoms) for index in c.get_indices().tolist()]
    if any(not 0 <= index < len(atoms) for index in held):
        raise UserError(f"a constraint holds atom {max(held, key=abs)}, but there are {len(atoms)} atoms.")


def check_relaxed(atoms: ase.Atoms) -> None:
    """Look at the labels of IS2RE and IS2RS.

    Raises:
        UserError: If the relaxed energy or a relaxed position is not finite, or positions are missing.
    """
    for name, value, shape in (
        ("relaxed_energy", atoms.info.get("relaxed_energy"), ()),
        ("relaxed_positions", atoms.arrays.get("relaxed_positions"), (len(atoms), 3)),
    ):
        try:
            array = np.zeros(shape) if value is None else np.array(value, dtype=float)
        except (TypeError, ValueError):
            raise UserError(f"{name} is not a number or array of numbers, but {value!r:.60}.") from None
        if array.size != np.prod(shape, dtype=int) or not np.isfinite(array).all():
            raise UserError(f"{name} holds values that are not finite, or has shape {array.shape} instead of {shape}.")


def check_cell(atoms: ase.Atoms, r_max: float) -> None:
    """Refuse a cell so small that the neighbours of one frame would fill the memory: it is damaged.

    Raises:
        UserError: If there can be more than MOST_IMAGES atoms within reach.
    """
    heights = np.array([np.inf, np.inf, np.inf])
    cell = atoms.cell.array
    areas = np.linalg.norm(np.cross(np.roll(cell, -1, axis=0), np.roll(cell, -2, axis=0)), axis=1)
    volume = abs(np.linalg.det(cell))
    if atoms.pbc.all() and volume > 0 and areas.all():
        heights = volume / areas
    elif atoms.pbc.any():
        heights[atoms.pbc] = np.maximum(np.linalg.norm(cell, axis=1)[atoms.pbc], 1e-300)
    images = float(np.prod(1.0 + 2.0 * r_max / heights))
    if len(atoms) * images > MOST_IMAGES:
        raise UserError(
            f"the cell is too small for r_max={r_max:g} Å: up to {len(atoms) * images:.2g} atoms and images would be "
            f"within reach of each other. cell is {cell.tolist()} Å."
        )


def _nearest(numbers: np.ndarray, pair_index: np.ndarray, lengths: np.ndarray) -> tuple[float, float, str]:
    """Shortest distance (Å); least one in units of covalent radii, and between which atoms."""
    if not len(lengths):
        return np.nan, np.nan, ""
    radii = covalent_radii[numbers]
    contacts = lengths / (radii[pair_index[0]] + radii[pair_index[1]])
    least = int(contacts.argmin())
    names = [f"{chemical_symbols[numbers[atom]]}{atom}" for atom in pair_index[:, least]]
    return float(lengths.min()), float(contacts[least]), "-".join(names)
