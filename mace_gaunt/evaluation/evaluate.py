"""A model over the frames of data splits."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from typing import Any

import numpy as np
from torch import Tensor

from mace_gaunt.data.atomic_data import AtomicData
from mace_gaunt.evaluation.metrics import LAYOUT, ErrorSums, Predictions
from mace_gaunt.model.gradients import EdgeGradient
from mace_gaunt.model.mace import MACE
from mace_gaunt.simulation.batching import MAX_EDGES_PER_BATCH, predict_batches
from mace_gaunt.simulation.progress import ProgressLine


def evaluate_splits(
    model: MACE,
    frames_by_split: Mapping[str, Sequence[AtomicData]],
    *,
    max_edges_per_batch: int = MAX_EDGES_PER_BATCH,
    progress: bool = True,
) -> list[dict[str, Any]]:
    """Errors of a model on every split.

    Args:
        model: The model, on the device where it is to run.
        frames_by_split: Frames built with the model's r_max and atomic_numbers.
        max_edges_per_batch: How much is computed at once.
        progress: Whether a progress line goes to stderr.

    Returns:
        One row per split, in order; see `ErrorSums.row`.
    """
    sums = {split: ErrorSums() for split in frames_by_split}
    for split, part in predict_parts(
        model, frames_by_split, max_edges_per_batch=max_edges_per_batch, progress=progress
    ):
        sums[split].add(part)
    return [found.row(split) for split, found in sums.items()]


def predict_splits(
    model: MACE,
    frames_by_split: Mapping[str, Sequence[AtomicData]],
    *,
    max_edges_per_batch: int = MAX_EDGES_PER_BATCH,
    gradient: EdgeGradient | None = None,
    progress: bool = True,
) -> dict[str, Predictions]:
    """Energies and forces of every frame of every split, in the frames' order, in memory.

    Args:
        model: The model, on the device where it is to run.
        frames_by_split: Frames built with the model's r_max and atomic_numbers.
        max_edges_per_batch: How much is computed at once.
        gradient: Of `compile_inference`; None computes eagerly.
        progress: Whether a progress line goes to stderr.

    Returns:
        Predictions by split.
    """
    parts: dict[str, list[Predictions]] = {split: [] for split in frames_by_split}
    for split, part in predict_parts(
        model, frames_by_split, max_edges_per_batch=max_edges_per_batch, gradient=gradient, progress=progress
    ):
        parts[split].append(part)
    return {split: join(found) for split, found in parts.items()}


def predict_parts(
    model: MACE,
    frames_by_split: Mapping[str, Sequence[AtomicData]],
    *,
    max_edges_per_batch: int = MAX_EDGES_PER_BATCH,
    gradient: EdgeGradient | None = None,
    progress: bool = True,
) -> Iterator[tuple[str, Predictions]]:
    """Energies and forces of every frame of every split, a batch at a time.

    Args:
        model: The model, on the device where it is to run.
        frames_by_split: Frames built with the model's r_max and atomic_numbers; read once, a batch at a time.
        max_edges_per_batch: How much is computed at once.
        gradient: Of `compile_inference`; None computes eagerly.
        progress: Whether a progress line, with the structures per second, goes to stderr.

    Yields:
        Split and predictions, in the frames' order; nothing for a split without frames.
    """
    line = ProgressLine(sum(map(len, frames_by_split.values())), "evaluate", "structures", progress)
    for split, frames in frames_by_split.items():
        for batch, prediction in predict_batches(
            model, frames, max_edges_per_batch, gradient_of=lambda batch: gradient
        ):
            yield split, _collect(prediction, batch)
            line.update(line.done + batch.num_graphs, split)
    line.close()


def join(parts: Sequence[Predictions]) -> Predictions:
    """Predictions one behind the other.

    Args:
        parts: Any number.
    """
    empty: dict[str, np.ndarray] = {name: np.zeros((0, *row), dtype=kind) for name, (kind, row) in LAYOUT.items()}
    return Predictions(
        **{name: np.concatenate([none, *(getattr(part, name) for part in parts)]) for name, none in empty.items()}
    )


def _collect(prediction: dict[str, Tensor], batch: Any) -> Predictions:
    found = {
        "n_atoms": batch.ptr.diff(),
        "energy": prediction["energy"],
        "energy_label": batch.energy,
        "forces": prediction["forces"],
        "forces_label": batch.forces,
    }
    names = [field.name for field in fields(Predictions)]
    tensors = {name: found[name] if name in found else batch[name] for name in names}
    return Predictions(
        **{name: tensor.detach().cpu().numpy().astype(LAYOUT[name][0]) for name, tensor in tensors.items()}
    )
