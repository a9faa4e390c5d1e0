"""Small slabs, and files of them in every format in which OC20 is found."""

import json
import lzma
import pickle
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import ase
import ase.io
import lmdb
import numpy as np
import torch
import torch_geometric.data.data
import torch_geometric.data.storage
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms
from torch_geometric.data import Batch, Data

# Generations of the pickled state of torch_geometric's Data.
GENERATIONS = ("1", "2.0", "2.3")


def make_slab(seed: int = 0, **info: Any) -> ase.Atoms:
    """A small periodic slab with an adsorbate, total energy, forces, tags, fixed atoms, and OC20's identifiers.

    Numbers have eight digits behind the point, as OC20's extxyz files do.
    """
    rng = np.random.default_rng(seed)
    n_metal = int(rng.integers(3, 6))
    positions = np.round(rng.uniform(0, 5, (n_metal + 2, 3)), 8)
    atoms = ase.Atoms(
        ["Cu"] * n_metal + ["O", "H"], positions, cell=[[5.1, 0, 0], [0.4, 6.2, 0], [0, 0, 25.0]], pbc=True
    )
    atoms.set_tags([0, 0, *[1] * (n_metal - 2), 2, 2])
    atoms.set_constraint(FixAtoms([0, 1]))
    energy = round(-100.0 - float(rng.uniform(0, 5)), 8)
    atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=np.round(rng.normal(0, 1, (n_metal + 2, 3)), 8))
    atoms.info |= {"sid": 100 + seed, "fid": 7 * seed, "reference_energy": -101.25, "energy_reference": "total"} | info
    return atoms


def write_extxyz(path: Path, frames: Sequence[ase.Atoms]) -> Path:
    """The frames as OC20's release writes them, plain or compressed by the suffix of the path."""
    text = "".join(map(_frame_text, frames)).encode()
    path.write_bytes(lzma.compress(text) if path.suffix == ".xz" else text)
    return path


def _frame_text(atoms: ase.Atoms) -> str:
    lattice = " ".join(map(repr, atoms.cell.array.reshape(-1).tolist()))
    fixed = {i for constraint in atoms.constraints for i in constraint.get_indices()}
    results = atoms.calc.results
    lines = [
        str(len(atoms)),
        f'Lattice="{lattice}" Properties=species:S:1:pos:R:3:move_mask:L:1:tags:I:1:forces:R:3 '
        f'energy={results["energy"]:.8f} free_energy={results["energy"]:.8f} pbc="T T T"',
    ]
    for i, (symbol, tag) in enumerate(zip(atoms.symbols, atoms.get_tags(), strict=True)):
        numbers = [f"{x:.8f}" for x in atoms.positions[i]], [f"{x:.8f}" for x in results["forces"][i]]
        lines.append(" ".join([symbol, *numbers[0], "F" if i in fixed else "T", str(tag), *numbers[1]]))
    return "\n".join(lines) + "\n"


def write_shard(folder: Path, number: int, frames: Sequence[ase.Atoms], lines: Sequence[str] | None = None) -> Path:
    """A shard of the raw release; `lines` replaces what its text says."""
    told = [f"random{a.info['sid']},frame{a.info['fid']},{a.info['reference_energy']}" for a in frames]
    text = "\n".join(told if lines is None else lines) + "\n"
    (folder / f"{number}.txt.xz").write_bytes(lzma.compress(text.encode()))
    return write_extxyz(folder / f"{number}.extxyz.xz", frames)


def graph_fields(atoms: ase.Atoms, old_names: bool = False) -> dict[str, Any]:
    """The attributes that OCP stores: float32, referenced energy, the names of 2020 or of today."""
    fixed = np.zeros(len(atoms))
    for constraint in atoms.constraints:
        fixed[constraint.get_indices()] = 1
    energy = atoms.calc.results["energy"] - atoms.info["reference_energy"]
    forces = torch.tensor(atoms.calc.results["forces"], dtype=torch.float32)
    return {
        "pos": torch.tensor(atoms.positions, dtype=torch.float32),
        "cell": torch.tensor(atoms.cell.array, dtype=torch.float32).unsqueeze(0),
        "atomic_numbers": torch.tensor(atoms.numbers, dtype=torch.float32 if old_names else torch.int64),
        "natoms": len(atoms) if old_names else torch.tensor([len(atoms)]),
        "tags": torch.tensor(atoms.get_tags(), dtype=torch.float32 if old_names else torch.int64),
        "fixed": torch.tensor(fixed, dtype=torch.float32),
        "sid": atoms.info["sid"],
        "fid": atoms.info["fid"],
        "y" if old_names else "energy": energy,
        "force" if old_names else "forces": forces,
    }


def pickle_graph(fields: dict[str, Any], generation: str = "2.3") -> bytes:
    """A graph as a generation of torch_geometric pickles it."""
    if generation == "2.3":
        return pickle.dumps(Data(**fields))
    # A class is pickled by its name; under the name there must be that very class.
    with mock.patch.object(torch_geometric.data.data, "Data", OldData):
        graph = OldData()
        if generation == "1":
            graph.__dict__.update(dict.fromkeys(("x", "edge_index", "edge_attr", "y", "normal", "face")) | fields)
            return pickle.dumps(graph, 4)
        with mock.patch.object(torch_geometric.data.storage, "GlobalStorage", OldStorage):
            store = OldStorage()
            store.__dict__.update({"_mapping": fields, "_parent": graph})
            graph.__dict__["_store"] = store
            return pickle.dumps(graph)


class OldData:
    """The class Data of old versions."""


class OldStorage:
    """The class GlobalStorage of old versions."""


OldData.__module__, OldData.__qualname__ = "torch_geometric.data.data", "Data"
OldStorage.__module__, OldStorage.__qualname__ = "torch_geometric.data.storage", "GlobalStorage"


def write_lmdb(path: Path, entries: dict[bytes, bytes]) -> Path:
    """An LMDB file of one file."""
    path.unlink(missing_ok=True)
    with lmdb.open(str(path), subdir=False, map_size=1 << 24, lock=False) as environment:
        with environment.begin(write=True) as transaction:
            for key, value in entries.items():
                transaction.put(key, value)
        size = (environment.info()["last_pgno"] + 1) * environment.stat()["psize"]
    # As much of the file as is used; it was as large as its map.
    with path.open("r+b") as file:
        file.truncate(size)
    return path


def write_ocp_lmdb(path: Path, frames: Sequence[ase.Atoms], generation: str = "2.3", length: int | None = None) -> Path:
    """An LMDB of OCP. `length` is what it says its number of records is, None says nothing."""
    entries = {b"%d" % i: pickle_graph(graph_fields(a, generation == "1"), generation) for i, a in enumerate(frames)}
    return write_lmdb(path, entries | ({} if length is None else {b"length": pickle.dumps(length)}))


def ase_row(atoms: ase.Atoms) -> dict[str, Any]:
    """The JSON of a row of ASE's database, as fairchem 2 keeps frames of OC20."""

    def array(values: Any, dtype: str) -> dict[str, Any]:
        found = np.asarray(values, dtype=dtype)
        return {"__ndarray__": [list(found.shape), dtype, found.reshape(-1).tolist()]}

    data = {"sid": f"random{atoms.info['sid']}", "fid": atoms.info["fid"], "ref_energy": atoms.info["reference_energy"]}
    fixed = [{"name": "FixAtoms", "kwargs": {"indices": c.get_indices().tolist()}} for c in atoms.constraints]
    return {
        "numbers": array(atoms.numbers, "int64"),
        "positions": array(atoms.positions, "float64"),
        "cell": array(atoms.cell.array, "float64"),
        "pbc": array(atoms.pbc, "bool"),
        "tags": array(atoms.get_tags(), "int32"),
        "constraints": fixed,
        "energy": atoms.calc.results["energy"],
        "forces": array(atoms.calc.results["forces"], "float64"),
        "data": data,
    }


def write_aselmdb(path: Path, frames: Sequence[ase.Atoms]) -> Path:
    """An .aselmdb file."""
    entries = {b"%d" % i: zlib.compress(json.dumps(ase_row(atoms)).encode()) for i, atoms in enumerate(frames, 1)}
    return write_lmdb(path, entries | {b"nextid": zlib.compress(b"%d" % (len(frames) + 1))})


def write_batch(path: Path, frames: Sequence[ase.Atoms], zipped: bool = True) -> Path:
    """A batch by torch.save, in its new or its old format."""
    batch = Batch.from_data_list([Data(**graph_fields(atoms)) for atoms in frames])
    torch.save(batch, path, _use_new_zipfile_serialization=zipped)
    return path


def write_list(path: Path, frames: Sequence[ase.Atoms]) -> Path:
    """A pickled list of graphs."""
    path.write_bytes(pickle.dumps([Data(**graph_fields(atoms)) for atoms in frames]))
    return path
