"""MACE with interchangeable tensor products: edge vectors to node energies."""

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Self

import torch
from torch import Tensor, nn

from mace_gaunt.model.blocks import (
    EdgeProductFactory,
    ElementEmbedding,
    Interaction,
    LinearReadout,
    MLPReadout,
    NodeProductFactory,
)
from mace_gaunt.model.radial import BesselBasis, ZBLRepulsion, polynomial_cutoff
from mace_gaunt.model.trunk import build_layers, check_trunk, layer_features
from mace_gaunt.so3.harmonics import spherical_harmonics
from mace_gaunt.so3.mirror import harmonic_parities, mirror_harmonics, mirror_index, sum_at_receivers


class MACE(nn.Module):
    """Message-passing potential with many-body node products (Batatia et al., NeurIPS 2022).

    Args:
        r_max: Cutoff radius (Å).
        num_bessel: Number of radial functions.
        num_polynomial_cutoff: Order of the cutoff envelope.
        max_ell: Largest degree of edge harmonics and messages.
        max_L: Largest degree of the features between layers.
        num_channels: Channels per degree.
        correlation: Highest order of the node product.
        num_interactions: Layers.
        radial_MLP: Hidden widths of the radial networks.
        MLP_irreps: Hidden scalars of the last readout, as "16x0e".
        gate: Activation: silu, tanh, sigmoid, gelu.
        edge_product: Factory of the edge products (`EdgeProductFactory`).
        node_product: Factory of the node products (`NodeProductFactory`).
        selfmix: Family of the feature products that multiply the features of each layer with themselves (`Selfmix`), as
            "gaunt" or "clebsch_gordan"; None for a model without.
        zbl: Whether to add the ZBL repulsion.
        atomic_numbers: Elements, ascending; `node_types` index into them.
        E0s: Energy of each isolated element (eV).
        avg_num_neighbors: Mean number of neighbours in the training set.
        scale: Factor of the readouts (eV).
        shift: Mean interaction energy per atom (eV).

    Raises:
        ValueError: If an argument is impossible; the message names it.
    """

    E0s: Tensor
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
        correlation: int = 3,
        num_interactions: int = 2,
        radial_MLP: Sequence[int] = (64, 64, 64),
        MLP_irreps: str = "16x0e",
        gate: str = "silu",
        edge_product: EdgeProductFactory,
        node_product: NodeProductFactory,
        selfmix: str | None = None,
        zbl: bool = False,
        atomic_numbers: Sequence[int],
        E0s: Sequence[float],
        avg_num_neighbors: float,
        scale: float,
        shift: float,
    ) -> None:
        super().__init__()
        check_trunk(r_max, num_bessel, num_channels, num_interactions, avg_num_neighbors)
        check_elements(atomic_numbers, E0s)
        self.hyperparameters: dict[str, Any] = {
            "r_max": float(r_max),
            "num_bessel": num_bessel,
            "num_polynomial_cutoff": num_polynomial_cutoff,
            "max_ell": max_ell,
            "max_L": max_L,
            "num_channels": num_channels,
            "correlation": correlation,
            "num_interactions": num_interactions,
            "radial_MLP": list(radial_MLP),
            "MLP_irreps": MLP_irreps,
            "gate": gate,
            "selfmix": selfmix,
            "zbl": zbl,
            "atomic_numbers": [int(number) for number in atomic_numbers],
            "E0s": [float(energy) for energy in E0s],
            "avg_num_neighbors": float(avg_num_neighbors),
            "scale": float(scale),
            "shift": float(shift),
        }
        self.metadata: dict[str, Any] = {}
        self.r_max, self.max_ell = float(r_max), max_ell
        self.atomic_numbers = [int(number) for number in atomic_numbers]
        self.scale, self.shift = float(scale), float(shift)
        self.register_buffer("E0s", torch.tensor(E0s, dtype=torch.float64), persistent=False)
        self.register_buffer("parities", harmonic_parities(max_ell), persistent=False)
        num_elements = len(self.atomic_numbers)

        self.embedding = ElementEmbedding(num_elements, num_channels)
        self.radial_basis = BesselBasis(self.r_max, num_bessel, num_polynomial_cutoff)
        self.interactions, self.products, self.readouts = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        layers = build_layers(
            num_interactions=num_interactions,
            max_ell=max_ell,
            max_L=max_L,
            correlation=correlation,
            num_channels=num_channels,
            num_elements=num_elements,
            radial_widths=[num_bessel, *radial_MLP],
            gate=gate,
            avg_num_neighbors=avg_num_neighbors,
            edge_product=edge_product,
            node_product=node_product,
            selfmix=selfmix,
        )
        for layer, (interaction, product) in enumerate(layers, start=1):
            self.interactions.append(interaction)
            self.products.append(product)
            last, width = layer == num_interactions, scalar_width(MLP_irreps)
            self.readouts.append(MLPReadout(num_channels, width, gate) if last else LinearReadout(num_channels))
        self.zbl = ZBLRepulsion(self.atomic_numbers, num_polynomial_cutoff) if zbl else None
        self.to(torch.get_default_dtype())

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Convert as usual, but keep the energies of isolated atoms in float64: totals need it."""
        E0s = self.E0s
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self.E0s = E0s.to(self.E0s.device)
        return self

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
        neither, so that its isolated atoms miss E0.

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
        lengths = torch.linalg.vector_norm(vectors, dim=-1, keepdim=True)
        edge_attrs = spherical_harmonics(vectors / lengths, self.max_ell)
        edge_feats = self.radial_basis(lengths)
        isolated = torch.arange(len(self.atomic_numbers), device=node_types.device)
        types, index = torch.cat([isolated, node_types]), edge_index + isolated.shape[0]
        if mirrored:
            edge_attrs, index = mirror_harmonics(edge_attrs, self.parities), mirror_index(index)
        readouts = self.readout_sum(types, edge_attrs, edge_feats, index, mirrored=mirrored)
        readouts = readouts[isolated.shape[0] :] - readouts[: isolated.shape[0]][node_types]
        envelope = polynomial_cutoff(lengths[:, 0], self.r_max, self.radial_basis.p)
        coordination = sum_at_receivers(envelope, edge_index, node_types.shape[0], mirrored=mirrored)
        energy = self.scale * readouts + self.shift * torch.tanh(coordination)
        return energy if self.zbl is None else energy + self.zbl(lengths, node_types, edge_index, mirrored=mirrored)

    def readout_sum(
        self, node_types: Tensor, edge_attrs: Tensor, edge_feats: Tensor, edge_index: Tensor, *, mirrored: bool
    ) -> Tensor:
        """Sum of the readouts of all layers, shape [n_nodes]; arguments as in `Interaction`."""
        layers = layer_features(
            self.interactions,
            self.products,
            self.embedding(node_types),
            node_types,
            edge_attrs,
            edge_feats,
            edge_index,
            mirrored=mirrored,
        )
        energies = [readout(node_feats) for readout, node_feats in zip(self.readouts, layers, strict=True)]
        return torch.stack(energies).sum(0)

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


def check_elements(atomic_numbers: Sequence[int], E0s: Sequence[float]) -> None:
    """Refuse impossible elements."""
    if not atomic_numbers or list(atomic_numbers) != sorted(set(atomic_numbers)):
        raise ValueError(f"atomic_numbers must be ascending and unique, found {list(atomic_numbers)}")
    if len(E0s) != len(atomic_numbers):
        raise ValueError(f"E0s needs one energy per element: {len(atomic_numbers)} elements, {len(E0s)} energies")


def scalar_width(irreps: str) -> int:
    """Number of scalars in "16x0e".

    Raises:
        ValueError: If there is anything but even scalars.
    """
    match = re.fullmatch(r"\s*(\d+)\s*x\s*0e\s*", irreps)
    if match is None or int(match[1]) < 1:
        raise ValueError(f"MLP_irreps holds even scalars only, as '16x0e'; found '{irreps}'")
    return int(match[1])
