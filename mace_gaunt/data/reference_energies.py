"""E0s: the energy of each element's isolated atom, by one explicit policy."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from ase.data import atomic_numbers as number_of_symbol
from ase.data import chemical_symbols

from mace_gaunt.data.atomic_data import AtomicData, symbols
from mace_gaunt.errors import UserError, nearest

POLICIES = ("isolated", "regress", "zero")
# Two energies of one isolated atom that differ by more (eV) come from two methods.
SAME_ENERGY = 1e-4

E0Policy = str | Mapping[str | int, float]


def check_policy(policy: E0Policy) -> E0Policy:
    """The policy itself, when there is such a one.

    Raises:
        UserError: Names the nearest policy.
    """
    if isinstance(policy, Mapping) or policy in POLICIES:
        return policy
    hint = nearest(str(policy), POLICIES)
    raise UserError(f"E0s is {policy!r}; it can be 'isolated', 'regress', 'zero' or {{symbol: eV}}.{hint}")


def is_isolated_atom(frame: AtomicData) -> bool:
    """Whether a frame is one atom that sees no neighbour (nor its own images), with an energy."""
    return frame.num_nodes == 1 and frame.num_edges == 0 and bool(frame.energy.isfinite().all())


def isolated_energies(frames: Iterable[AtomicData]) -> dict[int, float]:
    """Energies of the isolated atoms among some frames.

    Args:
        frames: Any frames; those that are not isolated atoms are passed over.

    Returns:
        Atomic number -> energy (eV).

    Raises:
        UserError: If two isolated atoms of one element have different energies.
    """
    energies: dict[int, float] = {}
    for frame in filter(is_isolated_atom, frames):
        number, energy = int(frame.atomic_numbers[0]), float(frame.energy[0])
        if abs(energies.setdefault(number, energy) - energy) > SAME_ENERGY:
            raise UserError(
                f"two isolated {chemical_symbols[number]} atoms have different energies: "
                f"{energies[number]:.6f} and {energy:.6f} eV. Keep one of them."
            )
    return energies


def resolve_reference_energies(
    policy: E0Policy, frames: Sequence[AtomicData], atomic_numbers: Sequence[int], isolated: Mapping[int, float]
) -> list[float]:
    """E0 of each element by the policy.

    Args:
        policy: "isolated" takes the energies of isolated atoms; "regress" fits the energies of the frames by least
            squares of their composition; "zero" is for energies that have no such part, as adsorption energies;
            {symbol: eV} gives them.
        frames: Training frames, isolated atoms left out.
        atomic_numbers: The elements, sorted.
        isolated: Atomic number -> energy of the isolated atom (eV).

    Returns:
        One energy per element (eV), in the order of atomic_numbers.

    Raises:
        UserError: If the policy does not exist or leaves an element without energy; names the element.
    """
    if isinstance(policy, Mapping):
        return given_energies(policy, atomic_numbers)
    if check_policy(policy) == "zero":
        return [0.0] * len(atomic_numbers)
    if policy == "isolated":
        return _isolated(isolated, atomic_numbers)
    return _regress(frames, atomic_numbers)


def given_energies(energies: Mapping[str | int, float], atomic_numbers: Sequence[int]) -> list[float]:
    """E0 of each element from those that a user gave.

    Args:
        energies: Symbol or atomic number -> energy (eV).
        atomic_numbers: The elements, sorted.

    Returns:
        One energy per element (eV).

    Raises:
        UserError: If a name is no element, a value is no number, or an element lacks its energy.
    """
    by_number: dict[int, float] = {}
    for key, value in energies.items():
        digits = str(key).isdecimal() and len(str(key)) <= 3
        number = number_of_symbol.get(str(key), int(key) if digits else 0)
        if not 0 < number < len(chemical_symbols):
            known = [chemical_symbols[known] for known in atomic_numbers]
            raise UserError(f"E0s names '{key}', which is no element.{nearest(str(key), known)}")
        try:
            by_number[number] = float(value)
        except (TypeError, ValueError):
            raise UserError(f"the E0 of {chemical_symbols[number]} is {value!r}; expected an energy in eV.") from None
    lacking = [number for number in atomic_numbers if number not in by_number]
    if lacking:
        raise UserError(f"E0s has no energy for {symbols(lacking)} (given: {symbols(sorted(by_number))}).")
    return [by_number[number] for number in atomic_numbers]


def _isolated(isolated: Mapping[int, float], atomic_numbers: Sequence[int]) -> list[float]:
    lacking = [number for number in atomic_numbers if number not in isolated]
    if lacking:
        raise UserError(
            f"E0s=isolated, but there is no isolated-atom energy for {symbols(lacking)} (found: "
            f"{symbols(sorted(isolated))}). Add a frame of that one atom with its energy to the training file or to "
            "isolated_atoms_file, or give E0s={symbol: eV}, or E0s=regress."
        )
    return [isolated[number] for number in atomic_numbers]


def _regress(frames: Sequence[AtomicData], atomic_numbers: Sequence[int]) -> list[float]:
    labelled = [frame for frame in frames if frame.energy.isfinite().all()]
    counts = np.array(
        [np.bincount(frame.node_types.numpy(), minlength=len(atomic_numbers)) for frame in labelled], dtype=np.float64
    ).reshape(-1, len(atomic_numbers))
    undetermined = undetermined_elements(counts)
    if undetermined:
        raise UserError(
            f"E0s=regress cannot determine {symbols([atomic_numbers[i] for i in undetermined])}: the compositions of "
            f"the {len(labelled)} training frames with an energy do not tell them apart. Use E0s=isolated with "
            "isolated atoms, or give E0s={symbol: eV}, or E0s=zero for energies without a part per atom."
        )
    energies = np.array([frame.energy.item() for frame in labelled])
    return np.linalg.lstsq(counts, energies, rcond=None)[0].tolist()


def undetermined_elements(counts: np.ndarray) -> list[int]:
    """Which unknowns a least-squares fit leaves free.

    Args:
        counts: Atoms of each element in each frame, shape [n_frames, n_elements].

    Returns:
        Columns that take part in the null space.
    """
    if not len(counts):
        return list(range(counts.shape[1]))
    # The triangle of the QR decomposition has the same null space and only as many rows as there are elements.
    _, values, basis = np.linalg.svd(np.linalg.qr(counts, mode="r"), full_matrices=True)
    rank = int((values > 1e-8 * values.max(initial=0.0)).sum())
    return np.flatnonzero(np.abs(basis[rank:]).max(axis=0, initial=0.0) > 1e-6).tolist()
