"""The training loss: weighted energy, forces and stress terms."""

from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn

from mace_gaunt.errors import UserError, nearest

KINDS = ("mse", "huber", "l2mae")


def frames_of_nodes(batch: Any) -> Tensor:
    """The frame each node belongs to, shape [n_nodes]; zeros for a single, unbatched frame."""
    frames = getattr(batch, "batch", None)
    return torch.zeros_like(batch.node_types) if frames is None else frames


def atoms_per_frame(batch: Any) -> Tensor:
    """Number of atoms of each frame, shape [n_graphs], in the dtype of the energies."""
    frames = frames_of_nodes(batch)
    return torch.zeros_like(batch.energy).index_add(0, frames, torch.ones_like(frames, dtype=batch.energy.dtype))


class WeightedLoss(nn.Module):
    """Sum of three weighted means, normalised as in MACE.

    With w the product of a frame's `weight` and its own weight of the term:

    - energy: mean over frames of w (dE / n_atoms)^2,
    - forces: mean over all components of all atoms of w dF^2,
    - stress: mean over all nine components of all frames of w dS^2 (not divided by the number of atoms).

    A missing label (NaN) is left out of the sum and of the count; a term without any label is 0. `kind="huber"` puts
    r^2 / 2 for |r| < delta and delta (|r| - delta / 2) beyond it in the place of r^2.

    `kind="l2mae"` is the loss of OC20's models:

    - energy: mean over frames of w |dE|, not divided by the number of atoms,
    - forces: mean over atoms of w |dF|, the length of the vector dF; an atom counts when it has all three labels,
    - stress: mean over components of w |dS|; OC20 has none.

    Its gradient where the error is zero is zero.

    Sources: `WeightedEnergyForcesStressLoss` of MACE (mace/modules/loss.py), where unlabelled frames count in the mean;
    the losses `mae` and `l2mae` of fairchem-core 1.10 (modules/loss.py).

    Args:
        energy_weight: Factor of the energy term (1/eV^2 when the loss is to be dimensionless).
        forces_weight: Factor of the forces term.
        stress_weight: Factor of the stress term; at 0 no stress is computed.
        kind: "mse", "huber" or "l2mae".
        huber_delta: Where the Huber loss turns linear (eV, eV/Å or eV/Å^3).

    Raises:
        UserError: If `kind` does not exist, a weight is negative or `huber_delta` is not positive.
    """

    def __init__(
        self,
        energy_weight: float = 1.0,
        forces_weight: float = 100.0,
        stress_weight: float = 0.0,
        kind: Literal["mse", "huber", "l2mae"] = "mse",
        huber_delta: float = 0.01,
    ) -> None:
        super().__init__()
        if kind not in KINDS:
            raise UserError(f"loss kind '{kind}' does not exist.{nearest(kind, KINDS)}")
        if huber_delta <= 0:
            raise UserError(f"huber_delta must be positive, found {huber_delta}")
        self.weights: dict[str, float] = {}
        self.set_weights(energy=energy_weight, forces=forces_weight, stress=stress_weight)
        self.kind = kind
        self.huber_delta = huber_delta

    def set_weights(self, **weights: float | None) -> None:
        """Replace the weights of the named terms; None keeps the one there is."""
        for name, weight in weights.items():
            if weight is not None and weight < 0:
                raise UserError(f"{name}_weight must not be negative, found {weight}")
        self.weights |= {name: float(weight) for name, weight in weights.items() if weight is not None}

    @property
    def needs_stress(self) -> bool:
        """Whether a prediction must contain `stress`."""
        return self.weights["stress"] > 0

    def forward(
        self, prediction: Mapping[str, Tensor], batch: Any, interaction_reference: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of a batch.

        Args:
            prediction: What `mace_gaunt.model.gradients.predict` returns.
            batch: The labelled frames.
            interaction_reference: Label of the interaction energy, energy minus the sum of E0 taken in float64,
                shape [n_graphs] (eV).

        Returns:
            The loss, shape [], and its unweighted means by term, each of shape [].
        """
        sums = self.sums(prediction, batch, interaction_reference)
        parts = {name: total / count.clamp(min=1) for name, (total, count) in sums.items()}
        return self.combine(parts), parts

    def combine(self, parts: Mapping[str, Tensor]) -> Tensor:
        """The loss from its means by term."""
        return torch.stack([self.weights[name] * part for name, part in parts.items()]).sum()

    def sums(
        self, prediction: Mapping[str, Tensor], batch: Any, interaction_reference: Tensor
    ) -> dict[str, tuple[Tensor, Tensor]]:
        """Sum and number of the labelled entries of each term, so that batches can be added up exactly."""
        frames = frames_of_nodes(batch)
        energy, energy_weight = prediction["interaction_energy"], batch.weight * batch.energy_weight
        forces, forces_weight = prediction["forces"], (batch.weight * batch.forces_weight)[frames]
        if self.kind == "l2mae":
            sums = {
                "energy": self._sum(energy, interaction_reference, energy_weight),
                "forces": self._sum_of_lengths(forces, batch.forces, forces_weight),
            }
        else:
            n_atoms = atoms_per_frame(batch).to(energy.dtype)
            sums = {
                "energy": self._sum(energy, interaction_reference, energy_weight, n_atoms),
                "forces": self._sum(forces, batch.forces, forces_weight),
            }
        if self.needs_stress:
            sums["stress"] = self._sum(prediction["stress"], batch.stress, batch.weight * batch.stress_weight)
        return sums

    def _sum(self, found: Tensor, label: Tensor, weight: Tensor, scale: Tensor | None = None) -> tuple[Tensor, Tensor]:
        known = ~torch.isnan(label)
        # torch.where on the prediction too: a frame without a cell has no finite stress, and 0 * inf is NaN.
        residual = torch.where(known, found, 0.0) - torch.where(known, label, 0.0).to(found.dtype)
        if scale is not None:
            residual = residual / scale
        weight = weight.to(found.dtype).reshape(-1, *[1] * (found.dim() - 1))
        return (weight * self._penalty(residual)).sum(), known.sum()

    @staticmethod
    def _sum_of_lengths(found: Tensor, label: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        known = ~torch.isnan(label).any(dim=-1)
        residual = torch.where(known[:, None], found, 0.0) - torch.where(known[:, None], label, 0.0).to(found.dtype)
        # The gradient of the length of a zero vector is zero.
        return (weight.to(found.dtype) * torch.linalg.vector_norm(residual, dim=-1)).sum(), known.sum()

    def _penalty(self, residual: Tensor) -> Tensor:
        if self.kind == "mse":
            return residual.square()
        size = residual.abs()
        if self.kind == "l2mae":
            return size
        linear = self.huber_delta * (size - 0.5 * self.huber_delta)
        return torch.where(size < self.huber_delta, 0.5 * residual.square(), linear)
