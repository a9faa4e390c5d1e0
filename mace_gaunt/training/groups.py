"""Which parameters are decayed, and which learn faster."""

import inspect
from collections.abc import Sequence
from typing import Any

from torch.optim import Optimizer

from mace_gaunt.tensor_products.contracts import NodeProduct

RATE = "rate"
"""Key of a parameter group: its learning rate over that of the optimizer."""
ADAM = ("torch.optim.Adam", "torch.optim.AdamW")


def parameter_groups(model: Any, node_lr: float = 1.0) -> list[dict[str, Any]]:
    """Groups for an optimizer: its own weight decay on what MACE decays, none on the rest; node products apart.

    The weights of our node products have unit variance, and each path has one. MACE's have a variance of
    1/(number of paths)^2, and several of its paths are the same polynomial (23 for 8 at order 3 and L = 0), so that a
    step of Adam changes them ten to thirty times as much for their size. `node_lr` makes up for it. What else a
    node product has, such as the mixing of `gaunt_mix`, is not among them.

    Args:
        model: The potential.
        node_lr: Learning rate of the weights of node products over that of all others.

    Returns:
        The decayed group, the rest, and where node_lr is not 1 those weights; those that are not empty.
    """
    products = [part for part in model.modules() if isinstance(part, NodeProduct)] if node_lr != 1.0 else []
    node = {id(product.weight) for product in products}
    decayed, rest = list(model.decay_parameters()), list(model.no_decay_parameters())
    groups: list[dict[str, Any]] = [
        {"params": [p for p in decayed if id(p) not in node]},
        {"params": [p for p in rest if id(p) not in node], "weight_decay": 0.0},
        {"params": [p for p in decayed if id(p) in node], RATE: node_lr},
    ]
    return [group for group in groups if group["params"]]


def default_node_lr(optimizer: str) -> float:
    """What `node_lr` is where nothing is said: 10 for Adam and AdamW, 1 for other optimizers.

    Measured on 3BPA (docs/results.md). SOAP, at the higher rate it needs anyway, does not gain from it.

    Args:
        optimizer: Its class, as "torch.optim.Adam".
    """
    return 10.0 if optimizer in ADAM else 1.0


def apply_rates(optimizer: Optimizer) -> None:
    """Multiply the learning rate of every group with its own factor; once, when the optimizer is made."""
    for group in optimizer.param_groups:
        group["lr"] *= group.setdefault(RATE, 1.0)


def settings_of(optimizer: Optimizer) -> list[dict[str, Any]]:
    """What each group was given: the arguments of the optimizer, its rate among them, and none of its counters.

    Args:
        optimizer: As it was made, before its state is restored.
    """
    arguments = inspect.signature(type(optimizer)).parameters
    return [
        {name: value for name, value in group.items() if name in arguments and name != "params"}
        for group in optimizer.param_groups
    ]


def apply_settings(optimizer: Optimizer, settings: Sequence[dict[str, Any]]) -> None:
    """Give a restored optimizer what is configured now; but for the rate, which goes up and down with a schedule.

    Args:
        optimizer: Changed in place.
        settings: What `settings_of` gave.
    """
    for group, given in zip(optimizer.param_groups, settings, strict=True):
        group.update({name: value for name, value in given.items() if name != "lr"})
