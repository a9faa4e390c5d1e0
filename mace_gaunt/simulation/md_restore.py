"""Atoms and calculator into a checkpoint, and out of it again."""

import json
from typing import Any

import ase
import numpy as np
import torch

from mace_gaunt.errors import UserError
from mace_gaunt.model.kernels import use_one
from mace_gaunt.simulation.calculator import MaceGauntCalculator
from mace_gaunt.simulation.md_checkpoint import Checkpoint
from mace_gaunt.simulation.neighbors import SkinNeighborList
from mace_gaunt.tensor_products.selection import products_of

# Results within these of the recorded ones are those of the same model, rounded otherwise (other kernels, threads,
# processors); eV/atom and eV/Å.
ENERGY_TOLERANCE, FORCE_TOLERANCE = 1e-5, 1e-3


def pack_atoms(atoms: ase.Atoms) -> dict[str, np.ndarray]:
    """The part of a checkpoint that atoms make.

    Args:
        atoms: Atoms with momenta.
    """
    return {
        "numbers": atoms.numbers.copy(),
        "pbc": atoms.pbc.copy(),
        "masses": atoms.get_masses(),
        "cell": atoms.cell.array.copy(),
        "positions": atoms.get_positions(),
        "momenta": atoms.get_momenta(),
    }


def describe_constraints(atoms: ase.Atoms) -> str:
    """Constraints as text to compare.

    Args:
        atoms: Any atoms.
    """
    return json.dumps([constraint.todict() for constraint in atoms.constraints], default=lambda value: value.tolist())


def unpack_atoms(atoms: ase.Atoms, checkpoint: Checkpoint) -> None:
    """Put atoms where a checkpoint has them.

    Args:
        atoms: The start structure, as `moving_atoms` gives it; changed in place.
        checkpoint: The checkpoint.

    Raises:
        UserError: If it was made from another structure.
    """
    saved = checkpoint.atoms
    found: dict[str, Any] = {**pack_atoms(atoms), "constraints": describe_constraints(atoms)}
    expected: dict[str, Any] = {**saved, "constraints": checkpoint.info["constraints"]}
    for name in ("numbers", "pbc", "masses", "constraints"):
        if not np.array_equal(found[name], expected[name]):
            raise UserError(f"the simulation cannot be continued: the {name} of the structure are other ones now.")
    atoms.set_cell(saved["cell"])
    # What was once adjusted for constraints is not adjusted again.
    atoms.set_positions(saved["positions"], apply_constraint=False)
    atoms.set_momenta(saved["momenta"], apply_constraint=False)


def forget(calculator: MaceGauntCalculator) -> None:
    """Make a calculator as new, so that what it computed before does not show in the last bits of what comes.

    Args:
        calculator: Changed in place.
    """
    calculator.reset()
    old = calculator.neighbors
    calculator.neighbors = SkinNeighborList(old.r_max, old.skin)


def pack_calculator(calculator: MaceGauntCalculator) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Results and reference of the neighbour list.

    Args:
        calculator: After a calculation.

    Returns:
        The parts `results` and `neighbors` of a checkpoint.
    """
    results = {name: np.array(value) for name, value in calculator.results.items() if value is not None}
    names = ("numbers", "pbc", "cell", "positions")
    return results, dict(zip(names, calculator.neighbors.built_for, strict=False))


def unpack_calculator(calculator: MaceGauntCalculator, atoms: ase.Atoms, checkpoint: Checkpoint) -> str | None:
    """Make a calculator what it was at a checkpoint, after a look at whether it is the same potential.

    Args:
        calculator: Changed in place.
        atoms: The atoms, as `unpack_atoms` made them.
        checkpoint: The checkpoint.

    Returns:
        None when it computes the same to the last bit, else what differs, in words.

    Raises:
        UserError: If it is another potential.
    """
    forget(calculator)
    reference = checkpoint.neighbors
    if reference:
        calculator.neighbors.pairs(*(reference[name] for name in ("positions", "cell", "pbc", "numbers")))
    saved = {name: float(value) if value.ndim == 0 else value for name, value in checkpoint.results.items()}
    wanted = [name for name in ("energy", "forces", "stress") if name in saved]
    calculator.calculate(atoms, wanted)
    energy = abs(calculator.results["energy"] - saved["energy"]) / len(atoms)
    force = float(np.abs(calculator.results["forces"] - saved["forces"]).max(initial=0.0))
    if not (energy < ENERGY_TOLERANCE and force < FORCE_TOLERANCE):
        raise UserError(
            f"the simulation cannot be continued with this model: energy and forces at its checkpoint differ by "
            f"{energy:.2g} eV/atom and {force:.2g} eV/Å. Give the model, precision and head that it began with."
        )
    calculator.results = saved
    if energy == 0 and force == 0:
        return None
    now, then = describe_numerics(calculator), checkpoint.info["numerics"]
    changed = [f"{name} was {then.get(name)}, is {now[name]}" for name in now if then.get(name) != now[name]]
    why = "; ".join(changed) or "another machine or number of threads"
    return f"forces differ by {force:.1g} eV/Å from those before: it goes on, but not bit for bit ({why})"


def describe_numerics(calculator: MaceGauntCalculator) -> dict[str, Any]:
    """What rounding depends on, as JSON values.

    Args:
        calculator: The calculator.
    """
    return {
        "kernels": kernel_names(calculator),
        "compiled": calculator.is_compiled,
        "dtype": str(calculator.model.dtype),
        "device": calculator.model.device.type,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }


def kernel_names(calculator: MaceGauntCalculator) -> list[dict[str, str]]:
    """The kernel of each product of each model.

    Args:
        calculator: The calculator.
    """
    return [{name: product.kernel_name for name, product in products_of(model)} for model in calculator.models]


def use_earlier_kernels(calculator: MaceGauntCalculator, checkpoint: Checkpoint) -> None:
    """Take the kernels of an earlier part of a simulation where they are left open: others would round otherwise.

    Args:
        calculator: Before its first calculation; changed in place.
        checkpoint: Of the earlier part.

    Raises:
        UserError: If a kernel cannot be used here.
    """
    numerics = checkpoint.info["numerics"]
    if numerics["device"] != calculator.model.device.type:
        return
    for model, names in zip(calculator.models, numerics["kernels"], strict=False):
        for name, product in products_of(model):
            if product.asked_for == "auto" and names.get(name) in product.KERNELS:
                use_one(product, names[name])
