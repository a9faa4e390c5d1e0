"""Structures as a trained model sees them."""

from collections.abc import Sequence
from pathlib import Path

import ase
import numpy as np
import torch

from mace_gaunt.data.atomic_data import AtomicData
from mace_gaunt.errors import UserError
from mace_gaunt.model.descriptors import flat_features, flat_irreps, node_features, node_scalars, scalars
from mace_gaunt.model.gradients import pair_vectors
from mace_gaunt.model.mace import MACE
from mace_gaunt.simulation.graphs import Graph
from mace_gaunt.simulation.loading import open_model
from mace_gaunt.simulation.results import to_numpy

Layers = int | Sequence[int] | None
"""Which layers: one, several, or all when None; counted from 0, or from the end when negative."""


def describe(model: MACE, graph: Graph, layers: Layers = None, invariants_only: bool = True) -> tuple[np.ndarray, str]:
    """Features of atoms, layer by layer.

    Args:
        model: The potential.
        graph: Structures with the pairs within r_max.
        layers: Which layers.
        invariants_only: Whether to take scalars alone (pseudo-scalars are left out: they change sign under inversion),
            or all degrees.

    Returns:
        Shape [n_nodes, sum of the layers' widths], float64, and the irreps of a row as e3nn writes and orders them.

    Raises:
        UserError: If there is no such layer.
    """
    graph = graph.to(model.device)
    with torch.no_grad():
        vectors = pair_vectors(graph).to(model.dtype)
        found = node_features(model, vectors, graph.node_types, graph.pair_index)
    chosen = [found[layer] for layer in check_layers(layers, len(found))]
    if invariants_only:
        columns, irreps = [scalars(feats) for feats in chosen], [f"{feats.shape[-1]}x0e" for feats in chosen]
    else:
        columns, irreps = [flat_features(feats) for feats in chosen], [flat_irreps(feats.shape[1:]) for feats in chosen]
    return to_numpy(torch.cat(columns, dim=1)), "+".join(irreps)


def check_layers(layers: Layers, n_layers: int) -> list[int]:
    """The layers as a list.

    Raises:
        UserError: If there is no such layer, or none is asked for.
    """
    chosen = list(range(n_layers)) if layers is None else [layers] if isinstance(layers, int) else list(layers)
    if not chosen or not all(-n_layers <= layer < n_layers for layer in chosen):
        raise UserError(f"layers={layers}: the model has the layers 0 to {n_layers - 1}.")
    return chosen


class ModelDescriptor:
    """Mean over atoms of the invariant features of every layer of a model; a `data.descriptors.Descriptor`.

    Attributes:
        name: What it is, for reports.
    """

    def __init__(self, model: str | Path | MACE, device: str = "auto") -> None:
        """Load the model.

        Args:
            model: A model folder, a run folder, or a loaded model.
            device: "auto" or a torch device.

        Raises:
            UserError: If the model cannot be loaded.
        """
        self.model = open_model(model, device, "float64")
        self.name = f"invariant features of {model if isinstance(model, (str, Path)) else 'a model'}"

    def __call__(self, atoms: ase.Atoms) -> np.ndarray:
        """Describe a frame.

        Args:
            atoms: The frame.

        Returns:
            Shape [layers times channels], the same to rounding for rotated, translated and reordered frames.

        Raises:
            UserError: If an element is unknown to the model, or the frame has no neighbour list.
        """
        graph = AtomicData.from_atoms(atoms, self.model.r_max, self.model.atomic_numbers).to(self.model.device)
        vectors = pair_vectors(graph).to(self.model.dtype)
        with torch.no_grad():
            rows = node_scalars(self.model, vectors, graph.node_types, graph.pair_index)
        return rows.mean(dim=0).cpu().numpy()
