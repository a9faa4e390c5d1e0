"""Structures with mace-torch's energies, forces and stress, and how far a model is from them."""

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ase
import numpy as np

from mace_gaunt.data.atomic_data import AtomicData
from mace_gaunt.model.gradients import predict
from mace_gaunt.model.mace import MACE

INPUTS, REFERENCE = "inputs.npz", "reference.npz"
QUANTITIES = ("energy", "node_energy", "forces", "stress")
"""Units: eV, eV, eV/Å, eV/Å^3."""


def read_structures(folder: Path) -> list[ase.Atoms]:
    """The structures in inputs.npz: n_atoms, numbers, positions (Å), cell, pbc."""
    with np.load(folder / INPUTS) as data:
        inputs = dict(data)
    ends = np.cumsum(inputs["n_atoms"])
    return [
        ase.Atoms(inputs["numbers"][stop - n : stop], inputs["positions"][stop - n : stop], cell=cell, pbc=pbc)
        for n, stop, cell, pbc in zip(inputs["n_atoms"], ends, inputs["cell"], inputs["pbc"], strict=True)
    ]


def largest_differences(model: MACE, folder: Path, inputs: Path | None = None) -> dict[str, float]:
    """Largest difference of each quantity from reference.npz over all structures and heads.

    Args:
        model: The potential.
        folder: Folder of reference.npz; with several heads the names in it begin with that of the head and a slash.
        inputs: Folder of inputs.npz; the same when None.

    Returns:
        `QUANTITIES` by name; stress is NaN where no structure is periodic in all directions.
    """
    with np.load(folder / REFERENCE) as data:
        reference = dict(data)
    structures = read_structures(folder if inputs is None else inputs)
    worst = dict.fromkeys(QUANTITIES, float("nan"))
    heads: list[str | None] = [*model.heads] or [None]
    for head in heads:
        one = model if head is None or head == model.head else copy.deepcopy(model).choose_head(head)
        found = predict_all(one, structures)
        for name in QUANTITIES:
            expected = reference.get(f"{head}/{name}", reference.get(name))
            assert expected is not None, f"{folder} has no {name} of head {head}"
            worst[name] = float(np.fmax(worst[name], largest_difference(found[name], expected)))
    return worst


def largest_values(folder: Path) -> dict[str, float]:
    """Largest value of each quantity in reference.npz."""
    with np.load(folder / REFERENCE) as data:
        values = {name: np.abs(data[name][np.isfinite(data[name])]).max(initial=0.0) for name in data}
    return {
        name: float(max(value for key, value in values.items() if key.split("/")[-1] == name)) for name in QUANTITIES
    }


def largest_difference(found: np.ndarray, expected: np.ndarray) -> float:
    """Largest absolute difference where something is expected; NaN where nothing is."""
    known = np.isfinite(expected)
    if found.shape != expected.shape or not np.isfinite(found[known]).all():
        return float("inf")
    return float(np.abs(found - expected)[known].max()) if known.any() else float("nan")


def predict_all(model: MACE, structures: list[ase.Atoms]) -> Mapping[str, Any]:
    """Energies [n], node energies [sum of atoms], forces [sum of atoms, 3], stress [n, 3, 3] (NaN without a volume)."""
    results = [
        predict(model, AtomicData.from_atoms(atoms, model.r_max, model.atomic_numbers), stress=True)
        for atoms in structures
    ]
    return {name: np.concatenate([result[name].detach().numpy() for result in results]) for name in QUANTITIES}
