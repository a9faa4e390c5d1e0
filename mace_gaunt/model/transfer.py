"""Weights of one model in another that knows other elements, and parts that stay as they are."""

import fnmatch
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from mace_gaunt.errors import UserError, nearest
from mace_gaunt.model.blocks import ElementEmbedding
from mace_gaunt.model.checkpoint import build_model
from mace_gaunt.model.element_linear import ElementLinear
from mace_gaunt.model.elements import radii_of
from mace_gaunt.model.mace import MACE

# They divide by the square root of the number of elements, so their weights grow with it.
SCALED_BY_ELEMENTS = (ElementEmbedding, ElementLinear)


def transfer_weights(source: MACE, description: dict[str, Any], target: MACE) -> list[int]:
    """Copy the weights of a model, element by element.

    Args:
        source: The model.
        description: The content of its model.json.
        target: A model of the same hyperparameters, with any elements; changed in place. Elements that only it has
            keep the weights they have.

    Returns:
        Atomic numbers of the elements that both have.
    """
    shared = sorted(set(source.atomic_numbers) & set(target.atomic_numbers))
    old, new = ([model.atomic_numbers.index(number) for number in shared] for model in (source, target))
    axes = element_axes(description)
    growth = (len(target.atomic_numbers) / len(source.atomic_numbers)) ** 0.5
    with torch.no_grad():
        for name, weight in target.named_parameters():
            given = source.get_parameter(name).to(weight)
            if name not in axes:
                weight.copy_(given)
                continue
            module = target.get_submodule(name.rpartition(".")[0])
            rows = given.index_select(axes[name], torch.tensor(old))
            factor = growth if isinstance(module, SCALED_BY_ELEMENTS) else 1.0
            weight.index_copy_(axes[name], torch.tensor(new), rows * factor)
    return shared


def element_axes(description: dict[str, Any]) -> dict[str, int]:
    """Which axis of which weights counts elements: the one that is longer in a model with one element more.

    Args:
        description: The content of a model.json.

    Returns:
        Name of the parameter -> axis, for those that have one.
    """
    count = len(description["hyperparameters"]["atomic_numbers"])
    few, more = (_shapes(description, number) for number in (count, count + 1))
    pairs = {name: list(zip(shape, more[name], strict=True)) for name, shape in few.items()}
    differing = {name: [axis for axis, (a, b) in enumerate(sizes) if a != b] for name, sizes in pairs.items()}
    return {name: axes[0] for name, axes in differing.items() if axes}


def _shapes(description: dict[str, Any], count: int) -> dict[str, torch.Size]:
    settings = description["hyperparameters"]
    elements = for_elements(settings, range(1, count + 1)) | {"E0s": [0.0] * count}
    with torch.random.fork_rng(devices=[]):
        model = build_model({**description, "hyperparameters": settings | elements})
    return {name: parameter.shape for name, parameter in model.named_parameters()}


def for_elements(hyperparameters: Mapping[str, Any], numbers: Sequence[int]) -> dict[str, Any]:
    """What changes in a model's hyperparameters with its elements, but for E0s: a model may keep a radius of each.

    Args:
        hyperparameters: Of a model.json.
        numbers: The other elements, ascending.

    Returns:
        `atomic_numbers`; `zbl` and `radial` too where they hold radii, with those of the model for its own elements and
        those of Cordero et al. for new ones.
    """

    def with_radii(constants: Mapping[str, Any]) -> dict[str, Any]:
        own = dict(zip(hyperparameters["atomic_numbers"], constants["radii"], strict=True))
        return {**constants, "radii": [own[one] if one in own else radii_of([one])[0] for one in numbers]}

    changed: dict[str, Any] = {"atomic_numbers": list(numbers)}
    zbl, radial = hyperparameters.get("zbl"), hyperparameters.get("radial") or {}
    transform = radial.get("transform")
    if isinstance(zbl, Mapping) and zbl.get("radii"):
        changed["zbl"] = with_radii(zbl)
    if isinstance(transform, Mapping) and transform.get("radii"):
        changed["radial"] = {**radial, "transform": with_radii(transform)}
    return changed


def freeze(model: torch.nn.Module, patterns: Sequence[str]) -> list[str]:
    """Keep parts of a model as they are in a training.

    Args:
        model: The model; changed in place.
        patterns: Names of parameters, of modules that hold them, or patterns of such: "embedding", "interactions.0",
            "*.radial_mlp".

    Returns:
        Names of the parameters that stay.

    Raises:
        UserError: If a pattern fits nothing, or nothing is left to train.
    """
    names = [name for name, _ in model.named_parameters()]
    parts = sorted({".".join(name.split(".")[: depth + 1]) for name in names for depth in range(name.count(".") + 1)})
    for pattern in patterns:
        if not any(_fits(name, pattern) for name in names):
            raise UserError(f"freeze: the model has no part '{pattern}'.{nearest(pattern, parts)}")
    frozen = [name for name in names if any(_fits(name, pattern) for pattern in patterns)]
    if len(frozen) == len(names):
        raise UserError("freeze: nothing is left to train.")
    for name in frozen:
        model.get_parameter(name).requires_grad_(False)
    return frozen


def _fits(name: str, pattern: str) -> bool:
    return fnmatch.fnmatchcase(name, pattern) or fnmatch.fnmatchcase(name, f"{pattern}.*")
