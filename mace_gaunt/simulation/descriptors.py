"""Frames as a trained model sees them."""

from pathlib import Path

import ase
import numpy as np
import torch

from mace_gaunt.data.atomic_data import AtomicData
from mace_gaunt.model.descriptors import node_scalars
from mace_gaunt.model.gradients import pair_vectors
from mace_gaunt.model.mace import MACE
from mace_gaunt.simulation.loading import open_model


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
            scalars = node_scalars(self.model, vectors, graph.node_types, graph.pair_index)
        return scalars.mean(dim=0).cpu().numpy()
