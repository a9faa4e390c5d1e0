"""What a mace-torch model's settings say, read strictly: what this program lacks is refused by its name."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

SCALE_SHIFT = "ScaleShiftMACE"
INTERACTIONS = {
    "RealAgnosticInteractionBlock": "agnostic",
    "RealAgnosticResidualInteractionBlock": "residual",
    "RealAgnosticDensityInteractionBlock": "density",
    "RealAgnosticDensityResidualInteractionBlock": "density_residual",
}
GATES = {"silu": "silu", "tanh": "tanh", "abs": "abs", "None": "identity"}
TRANSFORMS = {"None": None, "Agnesi": "agnesi", "Soft": "soft"}
REFUSED = (
    "use_so3",
    "use_edge_irreps_first",
    "keep_last_layer_irreps",
    "lammps_mliap",
    "embedding_specs",
    "edge_irreps",
    "cueq_config",
    "oeq_config",
)
"""Settings that change the function or the layout of the weights, where they are set."""
WITHOUT_EFFECT = (
    "seed",
    "dtype",
    "default_dtype",
    "device",
    "num_elements",
    "use_embedding_readout",
    "name",
    "note",
    "source",
)
"""Of other things, or (the embedding readout) without effect unless something refused is set."""


@dataclass(frozen=True)
class MaceConfig:
    """Settings of a mace-torch model, in our words.

    Attributes:
        r_max: Cutoff radius (Å).
        num_bessel: Number of radial functions.
        num_polynomial_cutoff: Order of the envelope.
        max_ell: Largest degree of edge harmonics.
        degrees: Degrees of the features between layers, in the order of their weights.
        num_channels: Their multiplicity.
        kinds: Kind of interaction of each layer.
        orders: Highest order of the node product of each layer.
        readouts: Kind of readout of each layer.
        gate: Activation of the last readout.
        mlp_width: Hidden scalars of the last readout.
        radial_MLP: Hidden widths of the radial networks.
        basis: bessel or gaussian.
        transform: agnesi, soft or None.
        envelope: Whether it multiplies radial "features" or "weights".
        zbl: Whether there is a pair repulsion.
        agnostic_product: Whether the node products have the same weights for all elements.
        scaled: Whether it is a ScaleShiftMACE.
        heads: Names.
        avg_num_neighbors: Messages are divided by it.
    """

    r_max: float
    num_bessel: int
    num_polynomial_cutoff: int
    max_ell: int
    degrees: tuple[int, ...]
    num_channels: int
    kinds: tuple[str, ...]
    orders: tuple[int, ...]
    readouts: tuple[str, ...]
    gate: str
    mlp_width: int
    radial_MLP: tuple[int, ...]
    basis: str
    transform: str | None
    envelope: str
    zbl: bool
    agnostic_product: bool
    scaled: bool
    heads: tuple[str, ...]
    avg_num_neighbors: float


def read_config(config: Mapping[str, Any]) -> MaceConfig:
    """Read the settings.

    Args:
        config: Arguments of mace-torch's model class, plain values; `cls` names the class.

    Raises:
        NotImplementedError: If something is not supported; names it.
        ValueError: If something is missing or contradicts itself; names it.
    """
    settings = Settings(config)
    settings.one_of("cls", ("MACE", SCALE_SHIFT), SCALE_SHIFT)
    settings.refuse(REFUSED)
    settings.one_of("readout_cls", ("NonLinearReadoutBlock",), "NonLinearReadoutBlock")
    layers = int(settings.needed("num_interactions"))
    first, later = (
        INTERACTIONS[settings.one_of(name, INTERACTIONS)] for name in ("interaction_cls_first", "interaction_cls")
    )
    hidden = read_irreps(settings.needed("hidden_irreps"), "hidden_irreps")
    found = MaceConfig(
        r_max=float(settings.needed("r_max")),
        num_bessel=int(settings.needed("num_bessel")),
        num_polynomial_cutoff=int(settings.needed("num_polynomial_cutoff")),
        max_ell=int(settings.needed("max_ell")),
        degrees=feature_degrees(hidden),
        num_channels=hidden[0][0],
        kinds=(first, *[later] * (layers - 1)),
        orders=tuple(int(order) for order in settings.per_layer("correlation", layers)),
        readouts=readout_kinds(layers, last_only=bool(settings.get("use_last_readout_only", False))),
        gate=GATES[settings.one_of("gate", GATES)],
        mlp_width=scalar_width(read_irreps(settings.needed("MLP_irreps"), "MLP_irreps")),
        radial_MLP=tuple(int(width) for width in settings.get("radial_MLP", None) or (64, 64, 64)),
        basis=settings.one_of("radial_type", ("bessel", "gaussian"), "bessel"),
        transform=TRANSFORMS[settings.one_of("distance_transform", TRANSFORMS, "None")],
        envelope="features" if settings.get("apply_cutoff", True) in (True, None) else "weights",
        zbl=bool(settings.get("pair_repulsion", False)),
        agnostic_product=bool(settings.get("use_agnostic_product", False)),
        scaled=settings.one_of("cls", ("MACE", SCALE_SHIFT), SCALE_SHIFT) == SCALE_SHIFT,
        heads=tuple(str(name) for name in settings.get("heads", None) or ("Default",)),
        avg_num_neighbors=float(settings.needed("avg_num_neighbors")),
    )
    reach = found.max_ell * min(found.orders)
    if layers > 1 and max(found.degrees) > reach:
        raise NotImplementedError(
            f"hidden_irreps of degree {max(found.degrees)} are not supported: max_ell={found.max_ell} and "
            f"correlation={min(found.orders)} reach degree {reach}"
        )
    settings.refuse_others(
        ("atomic_numbers", "atomic_energies", "atomic_inter_scale", "atomic_inter_shift", "use_reduced_cg")
    )
    return found


class Settings:
    """A config that remembers what has been read of it.

    Args:
        config: The settings by their names.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.config, self.known = config, set(WITHOUT_EFFECT)

    def get(self, name: str, default: Any) -> Any:
        """A setting, or its default where it is absent."""
        self.known.add(name)
        return self.config.get(name, default)

    def needed(self, name: str) -> Any:
        """A setting that has no default."""
        value = self.get(name, None)
        if value is None:
            raise ValueError(f"the config of the MACE model lacks '{name}'")
        return value

    def one_of(self, name: str, choices: Mapping[str, Any] | Sequence[str], default: str | None = None) -> str:
        """A setting that is one of a few words; None counts as "None", or as the default where that is no choice."""
        value = self.get(name, default)
        if value is None and "None" not in choices:
            value = default
        if str(value) not in choices:
            raise NotImplementedError(f"{name}={value} of a MACE model is not supported; {', '.join(choices)} are")
        return str(value)

    def per_layer(self, name: str, layers: int) -> list[Any]:
        """A setting for all layers, or one for each."""
        value = self.needed(name)
        if not isinstance(value, Sequence):
            return [value] * layers
        if len(value) != layers:
            raise ValueError(f"{name} of the MACE model has {len(value)} entries for {layers} layers")
        return list(value)

    def refuse(self, names: Sequence[str]) -> None:
        """Settings that must not be set."""
        for name in names:
            value = self.get(name, None)
            if value not in (None, False, "None") and value != {} and not is_switched_off(value):
                raise NotImplementedError(f"{name}={value} of a MACE model is not supported")

    def refuse_others(self, names: Sequence[str]) -> None:
        """Settings that are neither known nor among `names`, if they are set."""
        self.refuse([name for name in self.config if name not in self.known and name not in names])


def is_switched_off(value: Any) -> bool:
    """Whether this is the configuration of a kernel library that is not used."""
    return isinstance(value, Mapping) and value.get("enabled") is False


def read_irreps(value: Any, name: str) -> list[tuple[int, int, int]]:
    """(multiplicity, degree, parity) of each term of "8x0e + 8x1o", ["8x0e", "8x1o"] or [[8, [0, 1]], [8, [1, -1]]].

    Raises:
        ValueError: If it is none of these.
    """
    terms = value.split("+") if isinstance(value, str) else list(value)
    found = []
    for term in terms:
        if isinstance(term, str):
            match = re.fullmatch(r"\s*(?:(\d+)\s*x\s*)?(\d+)([eo])\s*", term)
            if match is None:
                raise ValueError(f"{name}: '{term}' is no irrep such as 8x1o")
            found.append((int(match[1] or 1), int(match[2]), 1 if match[3] == "e" else -1))
        elif isinstance(term[1], str):
            found += [(int(term[0]), degree, parity) for _, degree, parity in read_irreps(term[1], name)]
        else:
            found.append((int(term[0]), int(term[1][0]), int(term[1][1])))
    if not found:
        raise ValueError(f"{name} is empty")
    return found


def feature_degrees(hidden: list[tuple[int, int, int]]) -> tuple[int, ...]:
    """Degrees of the features, if every one has the same multiplicity and the parity of its harmonics."""
    words = "+".join(f"{mul}x{degree}{'e' if parity > 0 else 'o'}" for mul, degree, parity in hidden)
    degrees = tuple(degree for _, degree, _ in hidden)
    if any(parity != (-1) ** degree for _, degree, parity in hidden):
        raise NotImplementedError(
            f"hidden_irreps={words}: only the parities of harmonics (0e, 1o, 2e, ...) are supported"
        )
    if len({mul for mul, _, _ in hidden}) > 1 or len(set(degrees)) < len(degrees):
        raise NotImplementedError(f"hidden_irreps={words}: several multiplicities are not supported")
    if degrees[0] != 0:
        raise NotImplementedError(f"hidden_irreps={words}: the scalars must be there and come first")
    return degrees


def scalar_width(irreps: list[tuple[int, int, int]]) -> int:
    """Number of scalars in MLP_irreps."""
    if any((degree, parity) != (0, 1) for _, degree, parity in irreps):
        raise NotImplementedError(f"MLP_irreps={irreps}: only even scalars (0e) are supported")
    return sum(mul for mul, _, _ in irreps)


def readout_kinds(layers: int, *, last_only: bool) -> tuple[str, ...]:
    """A linear readout of every layer but the last, which has an mlp; where there is one layer, it has a linear one."""
    if layers == 1:
        if last_only:
            raise NotImplementedError("use_last_readout_only=True leaves a MACE model of one layer without a readout")
        return ("linear",)
    return (*["none" if last_only else "linear"] * (layers - 1), "mlp")
