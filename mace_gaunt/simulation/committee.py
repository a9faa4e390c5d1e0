"""Several models as one: their mean, and how far they are apart.

The standard deviation is that of the members themselves, the root of the mean square deviation from their mean, with
ddof = 0: of the forces F_k of M members, forces_std = sqrt(sum_k (F_k - mean F)^2 / M) for each component. So the
length of an atom's row of forces_std is its "model deviation" in DP-GEN (Zhang et al., Computer Physics Communications
253, 107206, 2020). As an estimate of the spread of all models that could have been trained it is to be multiplied by
sqrt(M / (M - 1)).
"""

from collections.abc import Sequence
from typing import Any

import ase
import numpy as np

from mace_gaunt.data.atomic_data import symbols
from mace_gaunt.errors import UserError
from mace_gaunt.model.mace import MACE

SPREAD = {"energy": "energy_std", "energies": "energies_std", "forces": "forces_std", "stress": "stress_std"}
"""Results and what their standard deviations are called; same shapes, same units."""


class UncertaintyError(UserError):
    """The members of a committee disagree by more than the limit.

    Attributes:
        results: Of the structure: means and standard deviations.
    """

    def __init__(self, message: str, results: dict[str, Any]) -> None:
        """Say what was found.

        Args:
            message: The structure's worst atom, and the limit.
            results: Of the structure.
        """
        super().__init__(message)
        self.results = results


def check_members(models: Sequence[MACE]) -> None:
    """Refuse models that cannot be averaged; cutoff radii and architectures may differ.

    Raises:
        UserError: If there are fewer than two, or their elements differ.
    """
    if len(models) < 2:
        raise UserError(f"a committee has two models or more, not {len(models)}; give a single one without a list.")
    for index, model in enumerate(models):
        if model.atomic_numbers != models[0].atomic_numbers:
            raise UserError(
                f"the models of a committee know the same elements: model 0 knows {symbols(models[0].atomic_numbers)}, "
                f"model {index} {symbols(model.atomic_numbers)}."
            )


def average(members: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Mean and standard deviation of the results of all members.

    Args:
        members: Results of the same structure.

    Returns:
        The means under their own names, the standard deviations (ddof = 0) under those of `SPREAD`.
    """
    results: dict[str, Any] = {}
    for name, first in members[0].items():
        # From the first one, so that members that agree have no spread of rounding (total energies are large).
        away = np.array([member[name] - first for member in members])
        as_first = float if isinstance(first, float) else np.asarray
        results[name] = as_first(first + away.mean(axis=0))
        if name in SPREAD:
            results[SPREAD[name]] = as_first(away.std(axis=0))
    return results


def check_spread(results: dict[str, Any], limit: float, atoms: ase.Atoms) -> None:
    """Compare how far the forces are apart with a limit.

    Args:
        results: With `forces_std`.
        limit: Largest allowed length of an atom's `forces_std` (eV/Å).
        atoms: The structure.

    Raises:
        UncertaintyError: If an atom is above it.
    """
    lengths = np.linalg.norm(results["forces_std"], axis=1)
    worst = int(lengths.argmax())
    if not lengths[worst] <= limit:
        raise UncertaintyError(
            f"the members of the committee disagree: the force on atom {worst} ({atoms[worst].symbol}) has a standard "
            f"deviation of {lengths[worst]:.3g} eV/Å, more than max_force_std={limit:g} eV/Å.",
            results,
        )
