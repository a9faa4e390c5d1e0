"""Frames of files -> graphs, each built once."""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal

import ase
import torch

from mace_gaunt.data.atomic_data import AtomicData, node_types
from mace_gaunt.data.labels import LabelKeys
from mace_gaunt.data.readers import Frames
from mace_gaunt.errors import UserError

log = logging.getLogger(__name__)

ForcesMask = Literal["all", "free"]
FORCES_MASKS = ("all", "free")
Finish = Callable[[ase.Atoms, AtomicData], None]


def mask_forces(graph: AtomicData, forces_mask: ForcesMask) -> None:
    """Take the labels of forces away from atoms that do not count.

    Args:
        graph: Changed in place.
        forces_mask: "free" makes the forces of fixed atoms NaN, which losses and metrics leave out; "all" keeps them.
    """
    if forces_mask == "free":
        graph.forces[graph.fixed] = torch.nan


class GraphBuilder:
    """Builds the graphs of one data module and keeps them, so that overlapping slices of a file share theirs."""

    def __init__(
        self,
        r_max: float,
        keys: LabelKeys,
        weights: Mapping[str, float] | None = None,
        finish: Finish | None = None,
        label_settings: Mapping[str, str] | None = None,
    ) -> None:
        """Start with none.

        Args:
            r_max: Cutoff radius (Å).
            keys: Where the labels are.
            weights: Weight of each config_type in the loss.
            finish: Changes every graph in place when it has been built from its structure.
            label_settings: The settings that `finish` depends on, by name; what is kept of the graphs is kept by them.
        """
        self.r_max = r_max
        self.keys = keys
        self.weights = dict(weights or {})
        self.finish = finish
        self.label_settings = dict(label_settings or {})
        self._built: dict[tuple[Path, int], AtomicData] = {}

    def build(self, frames: Frames, atomic_numbers: Sequence[int]) -> list[AtomicData]:
        """The graphs of some frames, in order.

        Args:
            frames: The frames.
            atomic_numbers: The elements of the model, sorted.

        Returns:
            One graph per frame; `frame_index` is the position in the file.

        Raises:
            UserError: If an element is unknown, or a position, cell or label is unusable; names file and frame.
        """
        for atoms, index in zip(frames.atoms, frames.indices, strict=True):
            try:
                if (frames.path, index) not in self._built:
                    graph = AtomicData.from_atoms(atoms, self.r_max, atomic_numbers, self.keys, self.weights, index)
                    if self.finish is not None:
                        self.finish(atoms, graph)
                    self._built[frames.path, index] = graph
                self._built[frames.path, index].node_types = node_types(atoms.numbers, atomic_numbers)
            except UserError as error:
                raise UserError(f"{frames.path}, frame {index}: {error}") from error
        return [self._built[frames.path, index] for index in frames.indices]

    def set_node_types(self, graphs: Iterable[AtomicData], atomic_numbers: Sequence[int]) -> None:
        """Let graphs that were built here count the elements of a model.

        Args:
            graphs: The graphs, changed in place.
            atomic_numbers: The elements of the model, sorted.

        Raises:
            UserError: If an element is unknown; names file and frame.
        """
        for graph in graphs:
            try:
                graph.node_types = node_types(graph.atomic_numbers.numpy(), atomic_numbers)
            except UserError as error:
                path, index = next(place for place, built in self._built.items() if built is graph)
                raise UserError(f"{path}, frame {index}: {error}") from error
