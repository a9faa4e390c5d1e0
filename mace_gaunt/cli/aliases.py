"""The names that people bring from other programs, and where they go: one table.

MACE's names are ours. A name on the left is legal at the top level of a file and of the command line.
"""

import re
from dataclasses import dataclass
from typing import Any

from mace_gaunt.errors import UserError

_MODEL = (
    "r_max num_bessel num_polynomial_cutoff max_ell max_L num_channels correlation num_interactions radial_MLP "
    "MLP_irreps gate zbl avg_num_neighbors"
)
_DATA = (
    "train_file valid_file test_file valid_fraction valid_size batch_size valid_batch_size max_edges_per_batch "
    "num_workers max_train_frames E0s isolated_atoms_file energy_key forces_key stress_key config_type_weights"
)

ALIASES: dict[str, str] = {
    **{name: f"model.{name}" for name in _MODEL.split()},
    "cutoff": "model.r_max",
    "model.cutoff": "model.r_max",
    "data.r_max": "model.r_max",
    "num_layers": "model.num_interactions",
    "num_radial_basis": "model.num_bessel",
    "num_cutoff_basis": "model.num_polynomial_cutoff",
    **{name: f"data.{name}" for name in _DATA.split()},
    "valid_frac": "data.valid_fraction",
    **{name: f"loss.{name}" for name in ("energy_weight", "forces_weight", "stress_weight")},
    **{name: f"optimizer.{name}" for name in ("lr", "weight_decay", "amsgrad")},
    "max_num_epochs": "trainer.max_epochs",
    "max_epochs": "trainer.max_epochs",
    "clip_grad": "trainer.gradient_clip_val",
    "eval_interval": "trainer.check_val_every_n_epoch",
    "ema_decay": "callbacks.ema.decay",
    "patience": "callbacks.early_stopping.patience",
    "start_stage_two": "stage_two.start",
    **{f"stage_two_{name}": f"stage_two.{name}" for name in ("energy_weight", "forces_weight", "stress_weight", "lr")},
    "default_dtype": "dtype",
    "name": "run",
    "temperature": "temperature_K",
    "timestep": "timestep_fs",
    "friction": "friction_per_fs",
    "tdamp": "tdamp_fs",
    "taut": "tdamp_fs",
    "pdamp": "pdamp_fs",
    "pressure": "pressure_GPa",
}

# One name, two keys: read by `hidden_irreps_to_keys`.
HIDDEN_IRREPS = ("hidden_irreps", "model.hidden_irreps")


@dataclass(frozen=True)
class Known:
    """What a verb has at its top level.

    Attributes:
        keys: Plain keys, such as `seed`.
        groups: Config groups, such as `data`.
    """

    keys: frozenset[str]
    groups: frozenset[str]

    def leads_to(self, dotted: str) -> bool:
        """Whether a dotted key can exist here."""
        first, dot, _ = dotted.partition(".")
        return first in (self.groups if dot else self.keys)


def expand(key: str, value: Any, known: Known) -> dict[str, Any]:
    """Replace an alias by what it stands for.

    Args:
        key: Dotted key as the user wrote it.
        value: Its value.
        known: What the verb has; an alias that leads elsewhere is no alias there.

    Returns:
        Dotted keys and values; the pair itself when the key is no alias.

    Raises:
        UserError: If `hidden_irreps` describes features that the model cannot hold.
    """
    if key in HIDDEN_IRREPS and "model" in known.groups:
        return {f"model.{name}": number for name, number in hidden_irreps_to_keys(value).items()}
    target = ALIASES.get(key, key)
    return {target if key not in known.keys and known.leads_to(target) else key: value}


def legal_aliases(known: Known) -> dict[str, str]:
    """The part of the table that leads to keys of this verb.

    Args:
        known: What the verb has.

    Returns:
        Alias -> dotted key, without the dotted aliases.
    """
    table = {
        name: key for name, key in ALIASES.items() if "." not in name and name not in known.keys and known.leads_to(key)
    }
    return {**table, "hidden_irreps": "model.num_channels, model.max_L"} if "model" in known.groups else table


def hidden_irreps_to_keys(irreps: Any) -> dict[str, int]:
    """Read MACE's `hidden_irreps`, such as "128x0e + 128x1o", as num_channels and max_L.

    Args:
        irreps: Irreps with one multiplicity and natural parity, degrees 0 to max_L without a gap.

    Returns:
        {"num_channels": ..., "max_L": ...}

    Raises:
        UserError: If the irreps are malformed or do not fit the model's layout; says why.
    """
    terms = [re.fullmatch(r"(?:(\d{1,9})x)?(\d{1,9})([eo])", term.strip()) for term in str(irreps).split("+")]
    if not all(terms):
        raise UserError(f"hidden_irreps: '{irreps}' is not of the form '128x0e + 128x1o'.")
    read = [(int(term[1] or 1), int(term[2]), term[3]) for term in terms if term]
    why = _misfit(read)
    if why:
        raise UserError(
            f"hidden_irreps: '{irreps}' does not fit: {why}. Features are num_channels copies of every degree from 0 "
            f"to max_L with parity (-1)^l, such as '128x0e + 128x1o + 128x2e'."
        )
    return {"num_channels": read[0][0], "max_L": len(read) - 1}


def _misfit(irreps: list[tuple[int, int, str]]) -> str | None:
    """Why (multiplicity, degree, parity) triples are no dense natural-parity features, or None."""
    pseudo = [f"{degree}{parity}" for _, degree, parity in irreps if parity != "eo"[degree % 2]]
    if pseudo:
        return f"{', '.join(pseudo)} are pseudo-tensors"
    degrees = [degree for _, degree, _ in irreps]
    if degrees != list(range(len(degrees))):
        return f"the degrees are {', '.join(map(str, degrees))}, not 0, 1, 2, ... each once"
    multiplicities = {multiplicity for multiplicity, _, _ in irreps}
    if len(multiplicities) > 1:
        return f"the multiplicities differ ({', '.join(map(str, sorted(multiplicities)))})"
    return "there are no channels" if 0 in multiplicities else None
