"""Steps whose gradient is no number: left out, explained, and after a few of them the end."""

import logging
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from mace_gaunt.errors import UserError
from mace_gaunt.model.gradients import predict
from mace_gaunt.training.loss import WeightedLoss, frames_of_nodes
from mace_gaunt.training.passes import split_batch

MOST = 3
"""Bad steps in a row that end a training."""
NAMED = 5
"""Frames that are named."""

log = logging.getLogger(__name__)


class BadSteps:
    """Leaves out the steps whose gradient is not finite.

    Attributes:
        in_a_row: How many there have been since the last good one.
    """

    def __init__(self) -> None:
        self.in_a_row = 0

    def is_bad(self, parameters: Iterable[Tensor]) -> bool:
        """Whether a gradient is not finite; waits for the device."""
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        norms = torch._foreach_norm(gradients) if gradients else ()
        bad = bool(norms) and not bool(torch.stack(norms).isfinite().all())
        self.in_a_row = self.in_a_row + 1 if bad else 0
        return bad

    def tell(self, where: str, why: str) -> None:
        """Warn of a step that was left out.

        Args:
            where: Epoch, step and rate.
            why: What `diagnose` found.

        Raises:
            UserError: At the last of `MOST` in a row.
        """
        told = f"the gradient is no number {where}: {why}"
        if self.in_a_row >= MOST:
            raise UserError(
                f"{told}. That was the {MOST}rd step in a row: training stopped. None of them was applied; "
                "checkpoints/last.ckpt is the state after the last epoch or stop. `mace-gaunt data inspect` names "
                "frames with overlapping atoms or wrong labels; else lower optimizer.lr"
            )
        log.warning("%s. The step is left out", told)


def diagnose(model: Any, loss: WeightedLoss, batches: Iterable[Any], max_edges: int | None = None) -> str:
    """Which frames, and what of them, is not finite.

    Args:
        model: The potential.
        loss: The loss.
        batches: Those of the step.
        max_edges: Bound on what is computed at once.

    Returns:
        In words; frames by their position in their file.
    """
    found: dict[str, list[int]] = {}
    for batch in batches:
        for part in split_batch(batch, max_edges):
            if part.num_graphs:
                _look(model, loss, part, found)
    if not found:
        return "energies, forces and labels are finite, the derivative of the loss is not"
    return ", ".join(
        f"{what} of frame{'s' * (len(frames) > 1)} {', '.join(map(str, sorted(frames)[:NAMED]))}"
        + (f" and {len(frames) - NAMED} more" if len(frames) > NAMED else "")
        for what, frames in found.items()
    )


def _look(model: Any, loss: WeightedLoss, batch: Any, found: dict[str, list[int]]) -> None:
    prediction = predict(model, batch, stress=loss.needs_stress)
    # An absent label is NaN, and no error.
    looked = {
        "energy label": batch.energy.isinf(),
        "force label": _of_frames(batch, batch.forces.isinf()),
        "energy": ~prediction["interaction_energy"].isfinite(),
        "forces": _of_frames(batch, ~prediction["forces"].isfinite()),
    }
    for what, bad in looked.items():
        frames = batch.frame_index.to(bad.device)[bad].tolist()
        if frames:
            found.setdefault(what, []).extend(frames)


def _of_frames(batch: Any, bad: Tensor) -> Tensor:
    """Whether any component of any atom of a frame is bad, shape [n_graphs]."""
    counts = torch.zeros(batch.num_graphs, dtype=torch.float32, device=bad.device).index_add(
        0, frames_of_nodes(batch), bad.any(dim=1).float()
    )
    return counts > 0
