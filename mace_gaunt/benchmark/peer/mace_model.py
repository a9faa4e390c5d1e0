"""A trained MACE model as the problem: the same weights in mace-torch and, converted, here."""

import dataclasses
from pathlib import Path
from typing import Any

from mace_gaunt.benchmark.peer.settings import MdSettings
from mace_gaunt.errors import UserError

FAMILY = "clebsch_gordan"
SIZE_KEYS = ("num_channels", "max_L", "max_ell", "correlation", "num_interactions", "r_max", "families")


def take_sizes(settings: MdSettings, given: dict[str, Any]) -> MdSettings:
    """The request with the sizes of its MACE model, if it names one.

    Args:
        settings: The request.
        given: The keys that were given.

    Raises:
        UserError: If the model cannot be read here, has several heads, or sizes were given beside it.
    """
    if settings.mace is None:
        return settings
    beside = [name for name in SIZE_KEYS if name in given]
    if beside:
        raise UserError(f"{beside[0]} is that of the MACE model: give mace={settings.mace} without it.")
    found = convert(settings.mace).hyperparameters
    if len(found["heads"]) > 1:
        raise UserError(f"'{settings.mace}' has several heads; only models with one are compared.")
    return dataclasses.replace(
        settings,
        num_channels=(found["num_channels"],),
        max_L=(found["max_L"],),
        max_ell=(found["max_ell"],),
        correlation=max(found["correlation"]),
        num_interactions=found["num_interactions"],
        r_max=found["r_max"],
        families=(FAMILY,),
    )


def convert(path: str) -> Any:
    """The model of this program.

    Raises:
        UserError: If it cannot be read or is not supported.
    """
    from mace_gaunt.interop.mace import from_state_dict
    from mace_gaunt.interop.mace_files import read_files

    settings, tensors = read_files(Path(path).expanduser())
    try:
        return from_state_dict(settings, tensors)
    except (NotImplementedError, ValueError) as error:
        raise UserError(f"'{path}' cannot be converted: {error}.") from error


def elements_of(path: str, found: list[int]) -> list[int]:
    """The elements of the MACE model.

    Args:
        path: See `convert`.
        found: Elements of the structure.

    Raises:
        UserError: If the model lacks one of them.
    """
    numbers: list[int] = convert(path).atomic_numbers
    lacking = sorted(set(found) - set(numbers))
    if lacking:
        raise UserError(f"the structure has elements {lacking}, which the MACE model lacks; it has {numbers}.")
    return numbers
