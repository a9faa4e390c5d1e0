"""The metrics of OC20, kept as sums and counts: the split into batches and processes does not matter.

Definitions are those of fairchem-core 1.10 (modules/evaluator.py), which the leaderboard and the published tables use;
docs/oc20.md has them in words. Labels that are NaN are left out: with forces_mask=free those of the fixed atoms.
"""

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from ase.geometry import find_mic
from torch import Tensor
from torchmetrics import Metric

from mace_gaunt.evaluation.metrics import Predictions
from mace_gaunt.training.loss import frames_of_nodes

ENERGY_THRESHOLD = 0.02
"""Largest energy error of EFwT and EwT (eV)."""
FORCE_THRESHOLD = 0.03
"""Largest error of a force component of EFwT (eV/Å)."""
DISTANCE_THRESHOLDS = np.arange(0.01, 0.5, 0.001)
"""Mean distances over which ADwT is averaged (Å)."""
PERCENT = 100.0
SPLITS = ("id", "ood_ads", "ood_cat", "ood_both")
"""The four splits of validation and of the leaderboard, without `val_` or `test_`."""


class OC20Metrics(Metric):
    """Errors of energies and forces, as of S2EF; of energies alone, as of IS2RE, where there are no labels of forces.

    All frames, atoms and components of a split count alike. Sums are float64 and are added over processes.
    """

    full_state_update = False
    energies: Tensor
    forces: Tensor
    cosines: Tensor
    within: Tensor

    def __init__(self) -> None:
        super().__init__()
        # Sums, and their counts last: |dE| and hits, |dF| of components, cosines of atoms, hits of EFwT.
        for name, size in (("energies", 3), ("forces", 2), ("cosines", 2), ("within", 2)):
            self.add_state(name, torch.zeros(size, dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, prediction: Mapping[str, Tensor], batch: Any) -> None:
        """Add one batch.

        Args:
            prediction: What `mace_gaunt.model.gradients.predict` returns.
            batch: The labelled frames; an atom counts when no component of its force is NaN.
        """
        energy_error = (prediction["energy"].detach().double() - batch.energy).abs()
        with_energy, near = ~torch.isnan(batch.energy), energy_error < ENERGY_THRESHOLD
        self.energies = self.energies + totals(energy_error[with_energy], near[with_energy])
        known = ~torch.isnan(batch.forces).any(dim=1)
        found, label = prediction["forces"].detach().double()[known], batch.forces[known].double()
        frames = frames_of_nodes(batch)[known]
        error = (found - label).abs()
        self.forces = self.forces + totals(error.flatten())
        self.cosines = self.cosines + totals(torch.nn.functional.cosine_similarity(found, label, dim=1))
        # Atoms that miss the threshold are counted: a prediction that is no number misses it too.
        misses = torch.zeros_like(energy_error).index_add(0, frames, (~(error < FORCE_THRESHOLD)).any(dim=1).double())
        with_both = with_energy & (torch.zeros_like(misses).index_add(0, frames, torch.ones_like(error[:, 0])) > 0)
        self.within = self.within + totals((near & (misses == 0))[with_both])

    def compute(self) -> dict[str, Tensor]:
        """What has labels of energy_mae_eV, ewt_percent, forces_mae_eV_A, forces_cosine, efwt_percent; float64."""
        result = {}
        if self.energies[-1] > 0:
            result["energy_mae_eV"] = self.energies[0] / self.energies[-1]
            result["ewt_percent"] = PERCENT * self.energies[1] / self.energies[-1]
        if self.forces[-1] > 0:
            result["forces_mae_eV_A"] = self.forces[0] / self.forces[-1]
            result["forces_cosine"] = self.cosines[0] / self.cosines[-1]
        if self.within[-1] > 0:
            result["efwt_percent"] = PERCENT * self.within[0] / self.within[-1]
        return result


def totals(*values: Tensor) -> Tensor:
    """Sums of vectors of one length, and that length, float64."""
    count = torch.full((), len(values[0]), dtype=torch.float64, device=values[0].device)
    return torch.stack([*(value.double().sum() for value in values), count])


class PositionMetrics(Metric):
    """Distances of relaxed positions from those of DFT, as of IS2RS: ADwT, and their mean.

    The distance of a system is the mean over its free atoms, each by the nearest periodic image; ADwT is the share of
    `DISTANCE_THRESHOLDS` above it, averaged over systems.
    """

    full_state_update = False
    distances: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("distances", torch.zeros(3, dtype=torch.float64), dist_reduce_fx="sum")

    def update(
        self, positions: np.ndarray, expected: np.ndarray, free: np.ndarray, cell: np.ndarray, pbc: np.ndarray
    ) -> None:
        """Add one system.

        Args:
            positions: Relaxed by the model, shape [n_nodes, 3] (Å).
            expected: Relaxed by DFT, shape [n_nodes, 3] (Å).
            free: Which atoms move, shape [n_nodes], bool; a system without any does not count.
            cell: Rows are cell vectors, shape [3, 3] (Å).
            pbc: Periodic directions, shape [3].
        """
        if not np.any(free):
            return
        _, lengths = find_mic((positions - expected)[free], cell, pbc)
        distance = float(np.mean(lengths))
        values = [distance, float(np.mean(distance < DISTANCE_THRESHOLDS)), 1.0]
        self.distances = self.distances + torch.tensor(values, dtype=torch.float64, device=self.distances.device)

    def compute(self) -> dict[str, Tensor]:
        """distance_A and adwt_percent, float64; nothing without systems."""
        if self.distances[-1] == 0:
            return {}
        distance, within, count = self.distances
        return {"distance_A": distance / count, "adwt_percent": PERCENT * within / count}


def add_predictions(metrics: OC20Metrics, part: Predictions) -> None:
    """Add some frames.

    Args:
        metrics: Changed in place.
        part: Predictions and labels.
    """
    n_atoms = torch.from_numpy(part.n_atoms)
    found = {name: torch.from_numpy(getattr(part, name)) for name in ("energy", "forces")}
    labels = {name: torch.from_numpy(getattr(part, f"{name}_label")) for name in found}
    frames = torch.arange(len(n_atoms)).repeat_interleave(n_atoms)
    metrics.update(found, SimpleNamespace(batch=frames, node_types=frames, **labels))


def as_numbers(values: Mapping[str, Tensor]) -> dict[str, float]:
    """What `compute` returns, as plain numbers."""
    return {name: value.item() for name, value in values.items()}


def split_name(split: str) -> str | None:
    """The official split that a name stands for, as "ood_ads" for "val_ood_ads"; None for any other name."""
    bare = split.removeprefix("val_").removeprefix("test_")
    return bare if bare in SPLITS else None


def with_mean(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows of splits, and their mean as published: every split counts alike, whatever its size.

    Args:
        rows: One per split, with `split` and numbers.

    Returns:
        The rows, and one more if there are several; it has the numbers that all splits have, `n_frames` summed.
    """
    if len(rows) < 2:
        return rows
    four = {split_name(row["split"]) for row in rows} == set(SPLITS) and len(rows) == len(SPLITS)
    counts = [name for name in rows[0] if name.startswith("n_")]
    shared = [name for name in rows[0] if name != "split" and name not in counts and all(name in row for row in rows)]
    mean = {"split": "mean of the four splits" if four else f"mean of {len(rows)} splits"}
    mean |= {name: sum(row[name] for row in rows) for name in counts}
    return [*rows, mean | {name: float(np.mean([row[name] for row in rows])) for name in shared}]
