"""Rows of ASE's databases as JSON. Arrays and plain values are built; nothing else that ASE's JSON may describe."""

import json
import math
import zlib
from typing import Any

import ase
import numpy as np
from ase.calculators.calculator import all_properties
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms

from mace_gaunt.data.sources.oc20_info import number_identifiers

MAX_SIZE = 1 << 28
DTYPES = ("bool", "int8", "int16", "int32", "int64", "uint8", "float32", "float64")
REFERENCES = ("ref_energy", "reference_energy")


def unpack(value: bytes) -> Any:
    """The JSON in a zlib stream, with {"__ndarray__": [shape, dtype, values]} as arrays.

    Raises:
        ValueError: If it is damaged, or larger than 256 MB.
    """
    stream = zlib.decompressobj()
    try:
        text = stream.decompress(value, MAX_SIZE)
    except zlib.error as error:
        raise ValueError(f"it is damaged ({error})") from error
    if not stream.eof:
        raise ValueError("it is cut off" if len(text) < MAX_SIZE else f"it is larger than {MAX_SIZE} bytes")
    return json.loads(text, object_hook=_array)


def _array(content: dict[str, Any]) -> Any:
    if "__ndarray__" not in content:
        return content
    shape, dtype, values = content["__ndarray__"]
    if dtype not in DTYPES:
        raise ValueError(f"an array has the dtype {dtype!s:.40}")
    if math.prod(shape) != len(values):
        raise ValueError(f"an array of shape {str(shape)[:60]} has {len(values)} values")
    return np.array(values, dtype=dtype).reshape(shape)


def row_structure(row: Any) -> ase.Atoms:
    """The structure of a row, as `Source` describes a record; its data and key-value pairs are in the info dictionary.

    Args:
        row: What `unpack` gave.

    Raises:
        ValueError: If something is missing or does not fit.
    """
    if not isinstance(row, dict) or "numbers" not in row or "positions" not in row:
        raise ValueError("it holds no row of a database (numbers, positions)")
    numbers = np.asarray(row["numbers"], dtype=np.int64)
    cell = row.get("cell")
    atoms = ase.Atoms(
        numbers=numbers,
        positions=np.asarray(row["positions"], dtype=np.float64).reshape(len(numbers), 3),
        cell=cell["array"] if isinstance(cell, dict) else cell,
        pbc=row.get("pbc"),
        tags=row.get("tags"),
    )
    if not len(atoms) or numbers.min() < 1 or numbers.max() > 118:
        raise ValueError("it has no atoms, or atomic numbers that are none")
    atoms.set_constraint([_constraint(c, len(atoms)) for c in row.get("constraints", []) if c["name"] == "FixAtoms"])
    results = {name: row[name] for name in all_properties if row.get(name) is not None}
    if results:
        atoms.calc = SinglePointCalculator(atoms, **results)
    _add_info(atoms, row)
    return atoms


def _constraint(described: dict[str, Any], n_atoms: int) -> FixAtoms:
    indices = np.asarray(described["kwargs"]["indices"], dtype=np.int64)
    if indices.size and not 0 <= indices.min() <= indices.max() < n_atoms:
        raise ValueError("fixed atoms are not among the atoms")
    return FixAtoms(indices)


def _add_info(atoms: ase.Atoms, row: dict[str, Any]) -> None:
    atoms.info.update(row.get("key_value_pairs") or {})
    atoms.info.update(row.get("data") or {})
    number_identifiers(atoms)
    for name in REFERENCES:
        if name in atoms.info:
            atoms.info["reference_energy"] = float(atoms.info.pop(name))
            atoms.info["energy_reference"] = "total"
            return
