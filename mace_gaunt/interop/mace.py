"""A mace-torch model as a model of this program: the same energies, forces and stress, by exact rearrangement.

Nothing is approximated: settings and tensors that have no counterpart here are refused by name. mace-torch itself is
not needed. A model that was saved in float32 and is computed in float64 keeps its constants (frequencies, radii) as
they were rounded; the coefficients of its tensor products are replaced by the exact ones, which the rounding had moved
by 6e-8 at most.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from mace_gaunt.errors import nearest
from mace_gaunt.interop.mace_config import MaceConfig, read_config
from mace_gaunt.interop.mace_weights import Converter, StateDict
from mace_gaunt.model.mace import MACE
from mace_gaunt.tensor_products.contracts import EdgeProduct, NodeProduct
from mace_gaunt.tensor_products.families import product_class

FAMILY = "clebsch_gordan"
ZBL_COEFFICIENTS = (0.1818, 0.5099, 0.2802, 0.02817)
ZBL_EXPONENTS = (3.2, 0.9423, 0.4028, 0.2016)
ZBL_COULOMB = 14.3996
ZBL_BOHR = 0.529
"""mace-torch's digits of the ZBL repulsion (`modules/radial.py`)."""


def from_state_dict(config: Mapping[str, Any], state_dict: Mapping[str, Any], head: str | None = None) -> MACE:
    """Convert a mace-torch model.

    Args:
        config: The arguments of its class, plain values; `cls` is MACE or ScaleShiftMACE (which it is when absent).
        state_dict: Its tensors (or arrays) under mace-torch's keys.
        head: The one head to take of several; all of them when None.

    Returns:
        The potential in float64, in eval mode. With several heads, the one named Default is in use if there is one;
        otherwise `choose_head` must choose. `metadata` says where it is from.

    Raises:
        NotImplementedError: If something of it is not supported; names it.
        ValueError: If config and tensors are incomplete or contradict each other, or there is no such head.
    """
    settings, state = read_config(config), StateDict(state_dict)
    numbers = atomic_numbers_of(config, state)
    if len(set(numbers)) != len(numbers):
        raise ValueError(f"the MACE model has elements more than once: {numbers}")
    order = sorted(range(len(numbers)), key=numbers.__getitem__)
    heads = taken_heads(settings, head)
    elements = [numbers[index] for index in order]
    # The random weights that are overwritten here must not advance the caller's random numbers.
    with torch.random.fork_rng(devices=[]):
        model = MACE(
            **hyperparameters(settings, state, elements),
            **energies(config, settings, state, order, heads),
            heads=[settings.heads[index] for index in heads],
            atomic_numbers=elements,
            edge_product=product_class(FAMILY, EdgeProduct),
            node_product=product_class(FAMILY, NodeProduct),
        ).double()
    converter = Converter(settings, state, order, heads)
    weights = converter.convert(model)
    state.refuse_unread()
    model.load_state_dict(weights)
    model.metadata = {
        "converted_from": {
            "program": "mace-torch",
            "class": "ScaleShiftMACE" if settings.scaled else "MACE",
            "residual_of_contractions": converter.residual,
        }
    }
    return model.eval()


def atomic_numbers_of(config: Mapping[str, Any], state: StateDict) -> list[int]:
    """The elements in the order of the MACE model's weights."""
    found = state.get("atomic_numbers").tolist() if "atomic_numbers" in state else config.get("atomic_numbers")
    if not found:
        raise ValueError("the config of the MACE model lacks 'atomic_numbers'")
    return [int(number) for number in found]


def taken_heads(settings: MaceConfig, head: str | None) -> list[int]:
    """Which heads go into our model."""
    if head is None:
        return list(range(len(settings.heads)))
    if head not in settings.heads:
        raise ValueError(f"the MACE model has no head '{head}'.{nearest(head, settings.heads)}")
    return [settings.heads.index(head)]


def hyperparameters(settings: MaceConfig, state: StateDict, elements: Sequence[int]) -> dict[str, Any]:
    """What our class is told, except heads and energies."""
    r_max = state.number("radial_embedding.cutoff_fn.r_max", state.number("r_max", settings.r_max))
    p = int(state.number("radial_embedding.cutoff_fn.p", settings.num_polynomial_cutoff))
    return {
        "r_max": r_max,
        "num_bessel": settings.num_bessel,
        "num_polynomial_cutoff": p,
        "max_ell": settings.max_ell,
        "max_L": max(settings.degrees) if len(settings.kinds) > 1 else 0,
        "num_channels": settings.num_channels,
        "correlation": list(settings.orders),
        "num_interactions": len(settings.kinds),
        "radial_MLP": list(settings.radial_MLP),
        "MLP_irreps": f"{settings.mlp_width}x0e",
        "gate": settings.gate,
        "zbl": repulsion(settings, state, elements),
        "interaction": list(settings.kinds),
        "radial": radial(settings, state, elements),
        "readouts": list(settings.readouts),
        "isolated_atoms": "predicted",
        "avg_num_neighbors": settings.avg_num_neighbors,
    }


def radial(settings: MaceConfig, state: StateDict, elements: Sequence[int]) -> dict[str, Any]:
    """Radial functions and transform with the constants as they were stored."""
    basis: dict[str, Any] = {"name": settings.basis}
    prefix = "radial_embedding.bessel_fn"
    if settings.basis == "bessel" and f"{prefix}.bessel_weights" in state:
        basis["frequencies"] = state.get(f"{prefix}.bessel_weights").tolist()
        if f"{prefix}.prefactor" in state:
            basis["prefactor"] = float(state.get(f"{prefix}.prefactor"))
    if settings.basis == "gaussian":
        # The width is no tensor of MACE's: it follows from the cutoff radius as it was given.
        basis["coefficient"] = -0.5 / (settings.r_max / (settings.num_bessel - 1)) ** 2
        if f"{prefix}.gaussian_weights" in state:
            basis["centers"] = state.get(f"{prefix}.gaussian_weights").tolist()
    found: dict[str, Any] = {"basis": basis, "envelope": settings.envelope, "gate": "silu"}
    if settings.transform is not None:
        prefix = "radial_embedding.distance_transform"
        constants = ("a", "q", "p") if settings.transform == "agnesi" else ("alpha",)
        given = {name: float(state.get(f"{prefix}.{name}")) for name in constants if f"{prefix}.{name}" in state}
        found["transform"] = {"name": settings.transform, **given, **radii(state, f"{prefix}.covalent_radii", elements)}
    return found


def radii(state: StateDict, name: str, elements: Sequence[int]) -> dict[str, Any]:
    """Covalent radii of the elements as they were stored; ours are the same numbers."""
    return {"radii": state.get(name)[list(elements)].tolist()} if name in state else {}


def repulsion(settings: MaceConfig, state: StateDict, elements: Sequence[int]) -> bool | dict[str, Any]:
    """The ZBL repulsion with mace-torch's digits."""
    if not settings.zbl:
        return False
    prefix = "pair_repulsion_fn"
    state.number(f"{prefix}.p", 0.0)
    return {
        "coefficients": state.get(f"{prefix}.c").tolist() if f"{prefix}.c" in state else list(ZBL_COEFFICIENTS),
        "exponents": list(ZBL_EXPONENTS),
        "coulomb": ZBL_COULOMB,
        "screening": state.number(f"{prefix}.a_prefactor", 0.4543) * ZBL_BOHR,
        "power": state.number(f"{prefix}.a_exp", 0.3),
        "scaled": True,
        **radii(state, f"{prefix}.covalent_radii", elements),
    }


def energies(
    config: Mapping[str, Any], settings: MaceConfig, state: StateDict, order: Sequence[int], heads: Sequence[int]
) -> dict[str, Any]:
    """E0s, scale and shift of the heads that are taken: a value each, or a list."""

    def of(name: str, key: str) -> torch.Tensor:
        if name in state:
            return state.get(name)
        if config.get(key) is None:
            raise ValueError(f"neither the state dict nor the config of the MACE model has '{key}'")
        return torch.as_tensor(config[key], dtype=torch.float64)

    count = len(settings.heads)
    rows = of("atomic_energies_fn.atomic_energies", "atomic_energies").reshape(-1, len(order))
    found = {"E0s": rows[:, list(order)]}
    for name in ("scale", "shift"):
        values = (
            of(f"scale_shift.{name}", f"atomic_inter_{name}")
            if settings.scaled
            else torch.tensor(float(name == "scale"))
        )
        found[name] = values.reshape(-1)
    for name, values in found.items():
        if len(values) not in (1, count):
            raise ValueError(f"{name} of the MACE model has {len(values)} rows for {count} heads")
        found[name] = values.expand(count, *values.shape[1:])
    chosen = {name: [values[index].tolist() for index in heads] for name, values in found.items()}
    return {name: values[0] if len(heads) == 1 else values for name, values in chosen.items()}
