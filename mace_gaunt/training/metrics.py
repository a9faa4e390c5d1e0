"""Errors in physical units, kept as sums and counts: the split into batches and processes does not matter."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from mace_gaunt.training.loss import atoms_per_frame

EV_TO_MEV = 1000.0

# What is measured -> (its part of the metric's name, unit).
QUANTITIES = {
    "energy": ("energy", "meV"),
    "energy_per_atom": ("energy", "meV_per_atom"),
    "forces": ("forces", "meV_A"),
    "stress": ("stress", "meV_A3"),
}


class ErrorMetrics(Metric):
    """Root mean square and mean absolute errors of energy, forces and stress.

    Energies count per frame, forces and stresses per component. Labels that are NaN are left out, and a quantity
    without any label has no entry in the result. Sums are float64 and are added over processes.
    """

    full_state_update = False

    def __init__(self) -> None:
        super().__init__()
        for name in QUANTITIES:
            self.add_state(name, torch.zeros(3, dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, prediction: Mapping[str, Tensor], batch: Any) -> None:
        """Add one batch.

        Args:
            prediction: What `mace_gaunt.model.gradients.predict` returns; `stress` may be absent.
            batch: The labelled frames.
        """
        n_atoms = atoms_per_frame(batch)
        self._add("energy", prediction["energy"], batch.energy)
        self._add("energy_per_atom", prediction["energy"] / n_atoms, batch.energy / n_atoms)
        self._add("forces", prediction["forces"], batch.forces)
        if "stress" in prediction:
            self._add("stress", prediction["stress"], batch.stress)

    def _add(self, name: str, found: Tensor, label: Tensor) -> None:
        known = ~torch.isnan(label)
        error = found.detach().double()[known] - label[known]
        count = torch.full((), error.numel(), dtype=torch.float64, device=error.device)
        setattr(self, name, getattr(self, name) + torch.stack([error.square().sum(), error.abs().sum(), count]))

    def compute(self) -> dict[str, Tensor]:
        """`energy_rmse_meV`, `energy_mae_meV`, `energy_rmse_meV_per_atom`, ..., each a float64 scalar."""
        result = {}
        for name, (word, unit) in QUANTITIES.items():
            squares, sizes, count = getattr(self, name)
            if count > 0:
                result[f"{word}_rmse_{unit}"] = EV_TO_MEV * (squares / count).sqrt()
                result[f"{word}_mae_{unit}"] = EV_TO_MEV * sizes / count
        return result


class LossMetric(Metric):
    """The terms of the loss over a whole data set, from the sums and counts of its batches."""

    full_state_update = False

    def __init__(self) -> None:
        super().__init__()
        for name in ("energy", "forces", "stress"):
            self.add_state(name, torch.zeros(2, dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, sums: Mapping[str, tuple[Tensor, Tensor]]) -> None:
        """Add what `WeightedLoss.sums` returned for one batch."""
        for name, (total, count) in sums.items():
            setattr(self, name, getattr(self, name) + torch.stack([total.detach().double(), count.double()]))

    def compute(self) -> dict[str, Tensor]:
        """Unweighted mean of each term, each a float64 scalar; 0 for a term without labels."""
        states = {name: getattr(self, name) for name in ("energy", "forces", "stress")}
        return {name: state[0] / state[1].clamp(min=1) for name, state in states.items()}
