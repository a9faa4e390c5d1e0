"""Errors do not depend on how frames are batched."""

import itertools
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch_geometric.data import Batch

from mace_gaunt.model.gradients import predict
from mace_gaunt.training.loss import WeightedLoss
from mace_gaunt.training.metrics import ErrorMetrics, LossMetric
from mace_gaunt.training.module import interaction_reference


def measure(model: torch.nn.Module, frames: list, split: list[int]) -> dict[str, float]:
    errors, terms, loss = ErrorMetrics(), LossMetric(), WeightedLoss(1.0, 10.0)
    edges = np.cumsum([0, *split])
    for start, stop in itertools.pairwise(edges):
        batch = Batch.from_data_list(frames[start:stop])
        prediction = predict(model, batch)
        errors.update(prediction, batch)
        terms.update(loss.sums(prediction, batch, interaction_reference(model, batch)))
    values = errors.compute() | {"loss": loss.combine(terms.compute())}
    return {name: value.item() for name, value in values.items()}


def test_split_does_not_matter(make_frames: Callable, pair_potential: Callable) -> None:
    frames, model = make_frames(7), pair_potential()
    frames[2] = frames[2].clone()
    frames[2].forces = torch.full_like(frames[2].forces, torch.nan)
    frames[3].weight = torch.tensor([0.3], dtype=torch.float64)
    whole = measure(model, frames, [7])
    for split in ([1] * 7, [3, 4], [6, 1]):
        parts = measure(model, frames, split)
        assert parts.keys() == whole.keys()
        for name, value in parts.items():
            assert value == pytest.approx(whole[name], rel=1e-12), name


def test_against_numpy(make_frames: Callable, pair_potential: Callable) -> None:
    frames, model = make_frames(4), pair_potential()
    found = measure(model, frames, [4])
    predictions = [predict(model, frame) for frame in frames]
    energy = np.array([(p["energy"] - f.energy).item() for p, f in zip(predictions, frames, strict=True)])
    per_atom = energy / [frame.num_nodes for frame in frames]
    forces = np.concatenate([(p["forces"] - f.forces).numpy() for p, f in zip(predictions, frames, strict=True)])
    expected = {
        "energy_rmse_meV": 1000 * np.sqrt(np.mean(energy**2)),
        "energy_mae_meV": 1000 * np.mean(abs(energy)),
        "energy_rmse_meV_per_atom": 1000 * np.sqrt(np.mean(per_atom**2)),
        "energy_mae_meV_per_atom": 1000 * np.mean(abs(per_atom)),
        "forces_rmse_meV_A": 1000 * np.sqrt(np.mean(forces**2)),
        "forces_mae_meV_A": 1000 * np.mean(abs(forces)),
    }
    assert {name: value for name, value in found.items() if name != "loss"} == pytest.approx(expected, rel=1e-12)


def test_unlabelled_quantities_have_no_entry(make_frames: Callable, pair_potential: Callable) -> None:
    frames = [frame.clone() for frame in make_frames(2)]
    for frame in frames:
        frame.forces = torch.full_like(frame.forces, torch.nan)
    names = measure(pair_potential(), frames, [2])
    assert not [name for name in names if name.startswith(("forces", "stress"))]


def test_a_prediction_without_value_shows(make_frames: Callable, pair_potential: Callable) -> None:
    model = pair_potential()
    with torch.no_grad():
        model.strength.fill_(torch.nan)
    assert np.isnan(measure(model, make_frames(2), [2])["forces_rmse_meV_A"])
