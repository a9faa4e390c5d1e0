"""Graphs of the Open Catalyst Project's files as structures: names, shapes and types of all its years."""

from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any

import ase
import numpy as np
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms

from mace_gaunt.data.sources.oc20_info import whole_number
from mace_gaunt.data.sources.pickle_objects import Bag
from mace_gaunt.data.sources.plain_arrays import NumpyArray

# Names of a quantity, newest first. In IS2RE the energy of the first structure is y_init.
ENERGIES = ("energy", "y", "y_init")
FORCES = ("forces", "force")
RELAXED_ENERGIES = ("y_relaxed",)

# A molecule in a box that has more than this around it in all three directions sees no image of itself (Å).
LONELY = 12.0
# A total energy of density functional theory lies below this per atom, an adsorption energy above (eV).
TOTAL_PER_ATOM = -1.0
MAX_NUMBER = 118

Fields = Mapping[str, Any]


def fields_of(graph: Any) -> dict[str, Any]:
    """The attributes of a graph, whichever version of torch_geometric pickled it.

    Version 1 keeps them in the object, 2 in its `_store`, in a `_mapping`.

    Raises:
        ValueError: If it is no graph.
    """
    if not isinstance(graph, Bag):
        raise ValueError(f"it holds a {type(graph).__name__}, not a graph")
    attributes: Any = graph.attributes
    if "_store" in attributes:
        store = attributes["_store"]
        attributes = store.attributes.get("_mapping") if isinstance(store, Bag) else None
        if not isinstance(attributes, dict):
            raise ValueError("the graph has no attributes")
    return {str(name): _plain(value) for name, value in attributes.items() if value is not None}


def _plain(value: Any) -> Any:
    return value.values if isinstance(value, NumpyArray) else value


def structure(fields: Fields) -> ase.Atoms:
    """The structure of a graph, with its labels, as `Source` describes a record.

    No file of OCP says in which directions it is periodic. A graph is periodic in all three, unless it has no cell, or
    a box around it with more than 12 Å to its next image in every direction: then it is a molecule.

    Args:
        fields: Attributes of one graph.

    Raises:
        ValueError: If something is missing or does not fit; says what.
    """
    positions = _array(fields, ("pos",), (-1, 3))
    if positions is None or not len(positions):
        raise ValueError("it has no atoms (pos)")
    n_atoms = len(positions)
    if "natoms" in fields and _number(fields, ("natoms",)) != n_atoms:
        raise ValueError(f"natoms is {_number(fields, ('natoms',)):g}, but pos has {n_atoms} atoms")
    cell = _cell(fields)
    atoms = ase.Atoms(
        numbers=_atomic_numbers(fields, n_atoms), positions=positions, cell=cell, pbc=_periodic(fields, positions, cell)
    )
    results = {"energy": _number(fields, ENERGIES), "forces": _array(fields, FORCES, (n_atoms, 3))}
    atoms.calc = SinglePointCalculator(atoms, **{name: value for name, value in results.items() if value is not None})
    _mark_atoms(atoms, fields)
    _mark_frame(atoms, fields)
    return atoms


def _atomic_numbers(fields: Fields, n_atoms: int) -> np.ndarray:
    found = _array(fields, ("atomic_numbers",), (n_atoms,))
    if found is None:
        raise ValueError("it has no atomic_numbers")
    numbers = _whole(found, "atomic_numbers")
    if numbers.min() < 1 or numbers.max() > MAX_NUMBER:
        raise ValueError(f"atomic_numbers reach from {numbers.min()} to {numbers.max()}")
    return numbers


def _cell(fields: Fields) -> np.ndarray:
    cell = _array(fields, ("cell",), (3, 3))
    return np.zeros((3, 3)) if cell is None else cell


def _periodic(fields: Fields, positions: np.ndarray, cell: np.ndarray) -> np.ndarray | bool:
    stored = _array(fields, ("pbc",), (3,))
    if stored is not None:
        return stored.astype(bool)
    volume = abs(np.linalg.det(cell))
    if not np.isfinite(volume) or volume < 1e-6:
        return False
    heights = 1 / np.linalg.norm(np.linalg.inv(cell), axis=0)
    extents = np.ptp(positions @ np.linalg.inv(cell), axis=0) * heights
    return not bool((heights - extents > LONELY).all())


def _mark_atoms(atoms: ase.Atoms, fields: Fields) -> None:
    """Tags, and the atoms that were held."""
    n_atoms = len(atoms)
    tags, fixed = _array(fields, ("tags",), (n_atoms,)), _array(fields, ("fixed",), (n_atoms,))
    relaxed = _array(fields, ("pos_relaxed",), (n_atoms, 3))
    if tags is not None:
        atoms.set_tags(_whole(tags, "tags"))
    if fixed is not None and (held := np.flatnonzero(_whole(fixed, "fixed"))).size:
        atoms.set_constraint(FixAtoms(held))
    if relaxed is not None:
        atoms.arrays["relaxed_positions"] = relaxed


def _mark_frame(atoms: ase.Atoms, fields: Fields) -> None:
    """Identifiers, relaxed energy, and what the energies refer to."""
    for name in ("sid", "fid"):
        if name in fields:
            value = item(fields[name])
            number = whole_number(int(value) if isinstance(value, float) and value.is_integer() else value)
            if number is None and not isinstance(value, str):
                raise ValueError(f"{name} is neither a whole number nor text")
            atoms.info[name] = value if number is None else number
    relaxed = _number(fields, RELAXED_ENERGIES)
    if relaxed is not None:
        atoms.info["relaxed_energy"] = relaxed
    reference = _energy_reference(fields, len(atoms), atoms.calc.results.get("energy", relaxed))
    if reference is not None:
        atoms.info["energy_reference"] = reference


def _energy_reference(fields: Fields, n_atoms: int, energy: float | None) -> str | None:
    """What a file of OCP means by energy: in OC22 the total one, in OC20 (its graphs have tags) that of adsorption.

    OCP's scripts could also write total energies of OC20: where the value is one, or tags lack, nothing is told.
    """
    if "oc22" in fields:
        return "total"
    if energy is None or "tags" not in fields or energy / n_atoms < TOTAL_PER_ATOM:
        return None
    return "adsorption"


def item(value: Any) -> Any:
    """One number or text, out of an array or list of one."""
    if isinstance(value, list) and len(value) == 1:
        return value[0]
    return value.item() if isinstance(value, np.ndarray) and value.size == 1 else value


def _number(fields: Fields, names: tuple[str, ...]) -> float | None:
    """The first of some numbers that is there."""
    for name in names:
        if name in fields:
            value = item(fields[name])
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise ValueError(f"{name} is not one number")
            return float(value)
    return None


def _array(fields: Fields, names: tuple[str, ...], shape: tuple[int, ...]) -> np.ndarray | None:
    """The first of some arrays that is there, in float64, of one shape (-1: any length)."""
    for name in names:
        if name in fields:
            value = fields[name]
            if not isinstance(value, np.ndarray) or value.dtype.kind not in "fiub":
                raise ValueError(f"{name} is not an array of numbers")
            # A cell has the shape [1, 3, 3].
            found = value.shape[1:] if name == "cell" and value.ndim == 3 and len(value) == 1 else value.shape
            if len(found) != len(shape) or any(n not in (m, -1) for n, m in zip(shape, found, strict=True)):
                raise ValueError(f"{name} has shape {value.shape}, expected {shape}")
            return np.array(value, dtype=np.float64).reshape(found)
    return None


def _whole(values: np.ndarray, name: str) -> np.ndarray:
    """Whole numbers that may be stored as float."""
    if not (np.isfinite(values).all() and (values == np.rint(values)).all() and np.abs(values).max() < 1 << 31):
        raise ValueError(f"{name} are not whole numbers")
    return values.astype(np.int64)


def split_batch(fields: Fields) -> Iterator[dict[str, Any]]:
    """The graphs of a batch that torch_geometric joined.

    Args:
        fields: Attributes of a batch; `ptr` or `natoms` tell its graphs.

    Yields:
        The attributes of one graph that `structure` reads.

    Raises:
        ValueError: If an attribute does not fit the number of graphs or of atoms.
    """
    bounds = _bounds(fields)
    n_graphs, n_atoms = len(bounds) - 1, bounds[-1]
    per_atom = ("pos", "atomic_numbers", "tags", "fixed", "pos_relaxed", *FORCES)
    per_graph = ("natoms", "cell", "sid", "fid", *ENERGIES, *RELAXED_ENERGIES)
    for names, expected in ((per_atom, n_atoms), (per_graph, n_graphs)):
        for name in names:
            if name in fields and (not hasattr(fields[name], "__len__") or len(fields[name]) != expected):
                raise ValueError(f"{name} does not fit a batch of {n_graphs} graphs and {n_atoms} atoms")
    for graph in range(n_graphs):
        part = {name: fields[name][bounds[graph] : bounds[graph + 1]] for name in per_atom if name in fields}
        yield part | {name: fields[name][graph : graph + 1] for name in per_graph if name in fields} | _marks(fields)


def _bounds(fields: Fields) -> list[int]:
    """First atom of each graph, and the end."""
    if "ptr" in fields:
        found = _whole(np.asarray(fields["ptr"], dtype=np.float64).reshape(-1), "ptr")
    elif "natoms" in fields:
        found = np.concatenate([[0], np.cumsum(_whole(np.asarray(fields["natoms"], np.float64).reshape(-1), "natoms"))])
    else:
        raise ValueError("it has neither ptr nor natoms")
    bounds = [int(n) for n in found]
    if len(bounds) < 2 or bounds[0] != 0 or any(b <= a for a, b in pairwise(bounds)):
        raise ValueError("the bounds of its graphs (ptr, natoms) do not rise from 0")
    return bounds


def _marks(fields: Fields) -> dict[str, Any]:
    return {"oc22": True} if "oc22" in fields else {}
