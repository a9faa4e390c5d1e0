"""A model over the frames of data splits."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from mace_gaunt.data.atomic_data import AtomicData
from mace_gaunt.evaluation.metrics import Predictions, metrics_row
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
        One row per split, in order; see `metrics_row`.
    """
    predictions = predict_splits(model, frames_by_split, max_edges_per_batch=max_edges_per_batch, progress=progress)
    return [metrics_row(split, found) for split, found in predictions.items()]


def predict_splits(
    model: MACE,
    frames_by_split: Mapping[str, Sequence[AtomicData]],
    *,
    max_edges_per_batch: int = MAX_EDGES_PER_BATCH,
    gradient: EdgeGradient | None = None,
    progress: bool = True,
) -> dict[str, Predictions]:
    """Energies and forces of every frame of every split, in the frames' order.

    Args:
        model: The model, on the device where it is to run.
        frames_by_split: Frames built with the model's r_max and atomic_numbers; read once, a batch at a time.
        max_edges_per_batch: How much is computed at once.
        gradient: Of `compile_inference`; None computes eagerly.
        progress: Whether a progress line, with the structures per second, goes to stderr.

    Returns:
        Predictions by split.
    """
    line = ProgressLine(sum(map(len, frames_by_split.values())), "evaluate", "structures", progress)
    predictions = {}
    for split, frames in frames_by_split.items():
        batches = predict_batches(model, frames, max_edges_per_batch, gradient_of=lambda batch: gradient)
        predictions[split] = _gather(batches, line, split)
    line.close()
    return predictions


def _gather(batches: Iterable[tuple[Any, dict[str, Tensor]]], line: ProgressLine, split: str) -> Predictions:
    parts = []
    for batch, prediction in batches:
        parts.append(_collect(prediction, batch))
        line.update(line.done + batch.num_graphs, split)
    if not parts:
        return _NONE
    return Predictions(**{name: np.concatenate([part[name] for part in parts]) for name in parts[0]})


def _collect(prediction: dict[str, Tensor], batch: Any) -> dict[str, np.ndarray]:
    return {
        "n_atoms": _numpy(batch.ptr.diff()),
        "frame_index": _numpy(batch.frame_index),
        "atomic_numbers": _numpy(batch.atomic_numbers),
        "energy": _numpy(prediction["energy"]).astype(np.float64),
        "energy_label": _numpy(batch.energy),
        "forces": _numpy(prediction["forces"]).astype(np.float64),
        "forces_label": _numpy(batch.forces),
    }


def _numpy(tensor: Tensor) -> np.ndarray:
    return tensor.detach().cpu().numpy()


_NO_INTEGERS = np.zeros(0, dtype=np.int64)
# What a split without frames gives.
_NONE = Predictions(
    n_atoms=_NO_INTEGERS,
    frame_index=_NO_INTEGERS,
    atomic_numbers=_NO_INTEGERS,
    energy=np.zeros(0),
    energy_label=np.zeros(0),
    forces=np.zeros((0, 3)),
    forces_label=np.zeros((0, 3)),
)
