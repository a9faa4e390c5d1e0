"""The trunk of MACE: from species and edges to the features of every layer. What is read from them is a model's own."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from torch import Tensor, nn

from mace_gaunt.model.blocks import EdgeProductFactory, Interaction, NodeProductFactory, Product


def build_layers(
    *,
    num_interactions: int,
    max_ell: int,
    max_L: int,
    correlation: int | Sequence[int],
    num_channels: int,
    num_elements: int,
    radial_widths: Sequence[int],
    gate: str,
    avg_num_neighbors: float,
    edge_product: EdgeProductFactory,
    node_product: NodeProductFactory,
    selfmix: str | None = None,
    interaction: str | Sequence[str] = "residual",
) -> Iterator[tuple[Interaction, Product]]:
    """The layers one after the other; lazily, so that random weights are drawn in the order in which a model is built.

    The first layer reads scalars and the last one gives scalars. Where a product makes pseudo-tensors, all features
    behind it have the parity axis.

    Args:
        num_interactions: Layers.
        max_ell: Largest degree of edge harmonics and messages.
        max_L: Largest degree of the features between layers.
        correlation: Highest order of the node product, or one per layer.
        num_channels: Channels per degree.
        num_elements: Number of elements.
        radial_widths: Width of the radial basis and of the hidden layers of the radial networks.
        gate: Activation of the radial networks.
        avg_num_neighbors: Messages are divided by it.
        edge_product: Factory of the edge products.
        node_product: Factory of the node products.
        selfmix: Family of the Selfmix behind each node product; none when None.
        interaction: Kind of the interactions, one of `INTERACTIONS`, or one per layer.

    Yields:
        Interaction and node product of each layer.

    Raises:
        ValueError: If there are more or fewer entries than layers, or an argument is impossible.
    """
    orders = per_layer(correlation, num_interactions, "correlation")
    kinds = per_layer(interaction, num_interactions, "interaction")
    pseudo = False
    for layer in range(num_interactions):
        l_in, l_out = (0 if layer == 0 else max_L), (0 if layer + 1 == num_interactions else max_L)
        block = Interaction(
            edge_product,
            l_in,
            max_ell,
            l_out,
            num_channels,
            num_elements,
            radial_widths,
            gate,
            avg_num_neighbors,
            pseudo_in=pseudo,
            kind=kinds[layer],
        )
        product = Product(
            node_product,
            max_ell,
            l_out,
            orders[layer],
            num_elements,
            num_channels,
            pseudo_in=block.pseudo_out,
            selfmix=selfmix,
        )
        pseudo = product.pseudo_out
        yield block, product


def per_layer(value: Any, num_interactions: int, name: str) -> list[Any]:
    """One entry per layer, of a value for all of them or a sequence.

    Raises:
        ValueError: If the sequence has another length; names it.
    """
    if isinstance(value, str) or not isinstance(value, Sequence):
        return [value] * num_interactions
    if len(value) != num_interactions:
        raise ValueError(f"{name} has {len(value)} entries, and there are {num_interactions} layers")
    return list(value)


def layer_features(
    interactions: Iterable[nn.Module],
    products: Iterable[nn.Module],
    node_feats: Tensor,
    node_types: Tensor,
    edge_attrs: Tensor,
    edge_feats: Tensor,
    edge_index: Tensor,
    envelope: Tensor | None = None,
    *,
    mirrored: bool = False,
) -> Iterator[Tensor]:
    """The features that each layer gives.

    Args:
        interactions: Of each layer.
        products: Of each layer.
        node_feats: Embedded species, shape [n_nodes, 1, C].
        node_types: Shape [n_nodes].
        edge_attrs: Harmonics, shape [n_edges, (max_ell+1)^2].
        edge_feats: Radial basis, shape [n_edges, num_bessel]; if mirrored, of the first n_edges / 2.
        edge_index: Shape [2, n_edges].
        envelope: See `Interaction.forward`.
        mirrored: Whether the second half of the edges is the first half the other way round, in the same order.

    Yields:
        Shape [n_nodes, (max_L+1)^2, C], of the last layer [n_nodes, 1, C]; with pseudo-tensors [n_nodes, 2, same, C].
    """
    for interaction, product in zip(interactions, products, strict=True):
        messages, skip = interaction(
            node_feats, node_types, edge_attrs, edge_feats, edge_index, envelope, mirrored=mirrored
        )
        node_feats = product(messages, skip, node_types)
        yield node_feats


def check_trunk(
    r_max: float, num_bessel: int, num_channels: int, num_interactions: int, avg_num_neighbors: float
) -> None:
    """Refuse impossible hyperparameters, naming them."""
    for name, value in (("num_bessel", num_bessel), ("num_channels", num_channels)):
        if value < 1:
            raise ValueError(f"{name} must be at least 1, found {value}")
    if num_interactions < 1:
        raise ValueError(f"num_interactions must be at least 1, found {num_interactions}")
    for name, number in (("r_max", r_max), ("avg_num_neighbors", avg_num_neighbors)):
        if not number > 0:
            raise ValueError(f"{name} must be positive, found {number}")
