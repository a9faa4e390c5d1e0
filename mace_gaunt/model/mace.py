"""MACE with interchangeable tensor products: edge vectors to node energies."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mace_gaunt.model.blocks import (
    EdgeProductFactory,
    ElementEmbedding,
    Interaction,
    NodeProductFactory,
)
from mace_gaunt.model.heads import Headed, make_readout
from mace_gaunt.model.radial import ZBLRepulsion, polynomial_cutoff
from mace_gaunt.model.radial_features import RadialFeatures
from mace_gaunt.model.trunk import build_layers, check_trunk, layer_features, per_layer
from mace_gaunt.so3.harmonics import spherical_harmonics
from mace_gaunt.so3.mirror import harmonic_parities, mirror_harmonics, mirror_index, sum_at_receivers
from mace_gaunt.so3.scatter import rows_of


class MACE(Headed):
    """Message-passing potential with many-body node products (Batatia et al., NeurIPS 2022).

    Args:
        r_max: Cutoff radius (Å).
        num_bessel: Number of radial functions.
        num_polynomial_cutoff: Order of the cutoff envelope.
        max_ell: Largest degree of edge harmonics and messages.
        max_L: Largest degree of the features between layers.
        num_channels: Channels per degree.
        correlation: Highest order of the node product, or one per layer.
        num_interactions: Layers.
        radial_MLP: Hidden widths of the radial networks.
        MLP_irreps: Hidden scalars of the last readout, as "16x0e".
        gate: Activation: silu, tanh, sigmoid, gelu, abs, identity.
        edge_product: Factory of the edge products (`EdgeProductFactory`).
        node_product: Factory of the node products (`NodeProductFactory`).
        selfmix: Family of the feature products that multiply the features of each layer with themselves (`Selfmix`), as
            "gaunt" or "clebsch_gordan"; None for a model without.
        zbl: Whether to add the ZBL repulsion, or its constants (keywords of `ZBLRepulsion`).
        interaction: Kind of the interactions, one of `blocks.INTERACTIONS`, or one per layer.
        radial: Radial basis, distance transform, envelope and `gate` of the radial networks: see `RadialFeatures`;
            None for Bessel functions of the length and the same gate as in the readout.
        readouts: "linear", "mlp" or "none" for each layer; None for linear ones and an mlp at last.
        isolated_atoms: "E0": an atom without neighbours has its E0, see `forward`; "predicted": what is read from its
            features and the shift, as in MACE.
        heads: Names of the heads, of which the trunk is shared; None for one without a name.
        atomic_numbers: Elements, ascending; `node_types` index into them.
        E0s: Energy of each isolated element (eV); with several heads a row for each.
        avg_num_neighbors: Mean number of neighbours in the training set.
        scale: Factor of the readouts (eV), or one per head.
        shift: Mean interaction energy per atom (eV), or one per head.

    Raises:
        ValueError: If an argument is impossible; the message names it.
    """

    parities: Tensor

    def __init__(
        self,
        *,
        r_max: float = 5.0,
        num_bessel: int = 8,
        num_polynomial_cutoff: int = 5,
        max_ell: int = 3,
        max_L: int = 1,
        num_channels: int = 64,
        correlation: int | Sequence[int] = 3,
        num_interactions: int = 2,
        radial_MLP: Sequence[int] = (64, 64, 64),
        MLP_irreps: str = "16x0e",
        gate: str = "silu",
        edge_product: EdgeProductFactory,
        node_product: NodeProductFactory,
        selfmix: str | None = None,
        zbl: bool | Mapping[str, Any] = False,
        interaction: str | Sequence[str] = "residual",
        radial: Mapping[str, Any] | None = None,
        readouts: Sequence[str] | None = None,
        isolated_atoms: str = "E0",
        heads: Sequence[str] | None = None,
        atomic_numbers: Sequence[int],
        E0s: Sequence[float] | Sequence[Sequence[float]],
        avg_num_neighbors: float,
        scale: float | Sequence[float],
        shift: float | Sequence[float],
    ) -> None:
        super().__init__()
        check_trunk(r_max, num_bessel, num_channels, num_interactions, avg_num_neighbors)
        self.set_heads(heads, atomic_numbers, E0s, scale, shift)
        if max_L < 0:
            raise ValueError(f"max_L is a degree, at least 0, found {max_L}")
        if isolated_atoms not in ("E0", "predicted"):
            raise ValueError(f"isolated_atoms is 'E0' or 'predicted', found '{isolated_atoms}'")
        self.hyperparameters: dict[str, Any] = {
            "r_max": float(r_max),
            "num_bessel": num_bessel,
            "num_polynomial_cutoff": num_polynomial_cutoff,
            "max_ell": max_ell,
            "max_L": max_L,
            "num_channels": num_channels,
            "correlation": plain(correlation),
            "num_interactions": num_interactions,
            "radial_MLP": list(radial_MLP),
            "MLP_irreps": MLP_irreps,
            "gate": gate,
            "selfmix": selfmix,
            "zbl": plain(zbl),
            "atomic_numbers": [int(number) for number in atomic_numbers],
            "E0s": by_head([head.E0s for head in self.of_head]),
            "avg_num_neighbors": float(avg_num_neighbors),
            "scale": by_head([head.scale for head in self.of_head]),
            "shift": by_head([head.shift for head in self.of_head]),
        }
        # Left out where they are the defaults, so that programs older than these options read the model.
        options = {
            "interaction": (interaction, "residual"),
            "radial": (radial, None),
            "readouts": (readouts, None),
            "isolated_atoms": (isolated_atoms, "E0"),
            "heads": (heads, None),
        }
        self.hyperparameters |= {name: plain(value) for name, (value, default) in options.items() if value != default}
        self.metadata: dict[str, Any] = {}
        self.r_max, self.max_ell, self.isolated_atoms = float(r_max), max_ell, isolated_atoms
        self.atomic_numbers = [int(number) for number in atomic_numbers]
        num_elements = len(self.atomic_numbers)
        self.register_buffer("parities", harmonic_parities(max_ell), persistent=False)

        self.embedding = ElementEmbedding(num_elements, num_channels)
        self.radial_basis = RadialFeatures(self.r_max, num_bessel, num_polynomial_cutoff, self.atomic_numbers, radial)
        self.interactions, self.products, self.readouts = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        self.read_layers: list[int] = []
        layers = build_layers(
            num_interactions=num_interactions,
            max_ell=max_ell,
            max_L=max_L,
            correlation=correlation,
            num_channels=num_channels,
            num_elements=num_elements,
            radial_widths=[num_bessel, *radial_MLP],
            gate=(radial or {}).get("gate") or gate,
            avg_num_neighbors=avg_num_neighbors,
            edge_product=edge_product,
            node_product=node_product,
            selfmix=selfmix,
            interaction=interaction,
        )
        kinds = per_layer(readouts or ["linear"] * (num_interactions - 1) + ["mlp"], num_interactions, "readouts")
        for layer, (block, product) in enumerate(layers):
            self.interactions.append(block)
            self.products.append(product)
            readout = make_readout(kinds[layer], num_channels, MLP_irreps, gate, len(self.of_head))
            if readout is not None:
                self.readouts.append(readout)
                self.read_layers.append(layer)
        if not self.read_layers:
            raise ValueError("readouts: one layer at least must be read")
        constants = zbl if isinstance(zbl, Mapping) else {}
        self.zbl = ZBLRepulsion(self.atomic_numbers, num_polynomial_cutoff, **constants) if zbl else None
        self.to(torch.get_default_dtype())
        self.use_default_head()

    @property
    def dtype(self) -> torch.dtype:
        """Precision of the weights."""
        return self.embedding.weight.dtype

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return self.embedding.weight.device

    def forward(self, vectors: Tensor, node_types: Tensor, edge_index: Tensor, *, mirrored: bool = False) -> Tensor:
        """Interaction energy of each node: what it has beyond its E0.

        An atom without neighbours has exactly none: the readouts of an isolated atom of its element are subtracted (it
        rides along as one more node per element), and the shift comes in smoothly with the coordination. MACE has
        neither, so that its isolated atoms miss E0; nor have we where `isolated_atoms` is "predicted".

        Edges come in pairs, one in each direction. Where both are in one list, it is enough to give one of them:
        lengths, harmonics and radial networks are then evaluated once for both.

        Args:
            vectors: positions[receiver] - positions[sender] + shifts, shape [n_edges, 3] (Å), the model's dtype.
            node_types: Element indices, shape [n_nodes], int64.
            edge_index: Senders and receivers, shape [2, n_edges], int64; every edge shorter than r_max, none of
                length zero.
            mirrored: Whether every pair is there once, in either direction, and stands for both.

        Returns:
            Shape [n_nodes] (eV).
        """
        if self.isolated_atoms == "predicted":
            return self.predicted(vectors, node_types, edge_index, mirrored=mirrored)
        lengths = torch.linalg.vector_norm(vectors, dim=-1, keepdim=True)
        isolated = torch.arange(len(self.atomic_numbers), device=node_types.device)
        types, index = torch.cat([isolated, node_types]), edge_index + isolated.shape[0]
        readouts = self.readout_sum(vectors, lengths, types, index, mirrored=mirrored)
        readouts = readouts[isolated.shape[0] :] - rows_of(readouts[: isolated.shape[0]], node_types)
        envelope = polynomial_cutoff(lengths[:, 0], self.r_max, self.radial_basis.p)
        coordination = sum_at_receivers(envelope, edge_index, node_types.shape[0], mirrored=mirrored)
        energy = self.scale * readouts + self.shift * torch.tanh(coordination)
        return energy if self.zbl is None else energy + self.repulsion(lengths, node_types, edge_index, mirrored)

    def predicted(self, vectors: Tensor, node_types: Tensor, edge_index: Tensor, *, mirrored: bool) -> Tensor:
        """Energy of each node as it is read, and the shift: MACE's energy; arguments as in `forward`."""
        lengths = torch.linalg.vector_norm(vectors, dim=-1, keepdim=True)
        readouts = self.readout_sum(vectors, lengths, node_types, edge_index, mirrored=mirrored)
        energy = self.scale * readouts + self.shift
        return energy if self.zbl is None else energy + self.repulsion(lengths, node_types, edge_index, mirrored)

    def repulsion(self, lengths: Tensor, node_types: Tensor, edge_index: Tensor, mirrored: bool) -> Tensor:
        """ZBL energy of each node, shape [n_nodes] (eV); arguments as in `ZBLRepulsion.forward`."""
        assert self.zbl is not None
        energy: Tensor = self.zbl(lengths, node_types, edge_index, mirrored=mirrored)
        return self.scale * energy if self.zbl.scaled else energy

    def readout_sum(
        self, vectors: Tensor, lengths: Tensor, node_types: Tensor, edge_index: Tensor, *, mirrored: bool
    ) -> Tensor:
        """Sum of the readouts of all layers, shape [n_nodes]; arguments as in `layer_features`."""
        layers = self.layer_features(vectors, lengths, node_types, edge_index, mirrored=mirrored)
        readouts = dict(zip(self.read_layers, self.readouts, strict=True))
        energies = [readouts[layer](feats) for layer, feats in enumerate(layers) if layer in readouts]
        return torch.stack(energies).sum(0)

    def layer_features(
        self, vectors: Tensor, lengths: Tensor, node_types: Tensor, edge_index: Tensor, *, mirrored: bool
    ) -> Iterator[Tensor]:
        """The features that each layer gives: see `trunk.layer_features`.

        Args:
            vectors: As in `forward`, shape [n_edges, 3] (Å).
            lengths: Their lengths, shape [n_edges, 1] (Å).
            node_types: Shape [n_nodes].
            edge_index: Shape [2, n_edges].
            mirrored: As in `forward`.
        """
        edge_attrs = spherical_harmonics(vectors / lengths, self.max_ell)
        edge_feats, envelope = self.radial_basis(lengths, node_types, edge_index)
        if mirrored:
            edge_attrs, edge_index = mirror_harmonics(edge_attrs, self.parities), mirror_index(edge_index)
        return layer_features(
            self.interactions,
            self.products,
            self.embedding(node_types),
            node_types,
            edge_attrs,
            edge_feats,
            edge_index,
            envelope,
            mirrored=mirrored,
        )

    def decay_parameters(self) -> Iterator[nn.Parameter]:
        """Parameters with weight decay in MACE: the Linear after each edge product, and the whole products."""
        for interaction in self.interactions:
            assert isinstance(interaction, Interaction)
            yield from interaction.linear.parameters()
        yield from self.products.parameters()

    def no_decay_parameters(self) -> Iterator[nn.Parameter]:
        """All other parameters."""
        decayed = {id(parameter) for parameter in self.decay_parameters()}
        return (parameter for parameter in self.parameters() if id(parameter) not in decayed)


def plain(value: Any) -> Any:
    """Mappings and sequences as dict and list, for JSON."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, Sequence) and not isinstance(value, str) else value


def by_head(values: list[Any]) -> Any:
    """The value of the one head, or the values of all of them."""
    return values[0] if len(values) == 1 else values
