"""First structures of IS2RE and IS2RS one after the other, from any file, folder or store."""

from collections.abc import Iterator
from pathlib import Path

import ase
import torch
from ase.constraints import FixAtoms

from mace_gaunt.data.atomic_data import AtomicData
from mace_gaunt.data.readers import split_slice
from mace_gaunt.data.records import open_records
from mace_gaunt.data.sources.contract import BadRecord
from mace_gaunt.data.store.reader import Store
from mace_gaunt.data.stored_set import is_store
from mace_gaunt.errors import UserError


def first_structures(path: str | Path) -> tuple[int, Iterator[ase.Atoms]]:
    """The records of a split as structures, none of them kept.

    Args:
        path: A file or folder, maybe with a slice, or a store.

    Returns:
        How many there are, and the structures as `Source.read` gives them.

    Raises:
        UserError: If a file is missing or unknown; while reading, if a record is bad, named by file and position.
    """
    if is_store(path):
        folder, chosen = split_slice(path)
        store = Store(folder, extra=("relaxed_energy", "relaxed_positions"))
        told = "adsorption" if store.manifest.settings.energy_reference == "adsorption" else "total"
        indices = range(len(store))[chosen or slice(None)]
        return len(indices), (stored_structure(store[index], told) for index in indices)
    files = open_records([path])
    return sum(map(len, files)), (_good(record) for file in files for _, record in file)


def stored_structure(frame: AtomicData, told: str) -> ase.Atoms:
    """A frame of a store as a structure.

    Args:
        frame: With relaxed_energy and relaxed_positions, NaN where they are not known.
        told: What its energies refer to, "total" or "adsorption".
    """
    atoms = ase.Atoms(
        frame.atomic_numbers.numpy(), frame.positions.numpy(), cell=frame.cell[0].numpy(), pbc=frame.pbc[0].numpy()
    )
    atoms.set_tags(frame.tags.numpy())
    atoms.set_constraint(FixAtoms(mask=frame.fixed.numpy()))
    atoms.info |= {"sid": int(frame.sid), "energy_reference": told}
    if not torch.isnan(frame.relaxed_energy).any():
        atoms.info["relaxed_energy"] = float(frame.relaxed_energy)
    if not torch.isnan(frame.relaxed_positions).any():
        atoms.arrays["relaxed_positions"] = frame.relaxed_positions.numpy()
    return atoms


def _good(record: ase.Atoms | BadRecord) -> ase.Atoms:
    if isinstance(record, BadRecord):
        raise UserError(f"cannot read {record}")
    return record
