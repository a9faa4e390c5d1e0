"""The loss against numbers worked out by hand."""

from types import SimpleNamespace

import pytest
import torch

from mace_gaunt.errors import UserError
from mace_gaunt.training.loss import WeightedLoss, atoms_per_frame
from mace_gaunt.training.stage_two import StageTwo


def tensor(*values: object) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


@pytest.fixture
def batch() -> SimpleNamespace:
    """Two frames, of one and of two atoms."""
    return SimpleNamespace(
        node_types=torch.tensor([0, 0, 1]),
        batch=torch.tensor([0, 1, 1]),
        energy=tensor(1.0, 2.0),
        forces=torch.zeros(3, 3, dtype=torch.float64),
        stress=torch.zeros(2, 3, 3, dtype=torch.float64),
        weight=tensor(1.0, 2.0),
        energy_weight=tensor(1.0, 3.0),
        forces_weight=tensor(1.0, 0.5),
        stress_weight=tensor(4.0, 1.0),
    )


@pytest.fixture
def prediction() -> dict[str, torch.Tensor]:
    return {
        "interaction_energy": tensor(0.5, 1.0),
        "forces": tensor([1.0, 0.0, 0.0], [0.0, 2.0, 0.0], [0.0, 0.0, -3.0]),
        "stress": torch.stack([torch.full((3, 3), 0.1), torch.full((3, 3), 0.2)]).double(),
    }


REFERENCE = tensor(0.2, 0.4)
# energy: 1 * 0.3^2 and 6 * (0.6 / 2)^2 over 2 frames; forces: 1 * 1, 1 * 4, 1 * 9 over 9 components;
# stress: 4 * 0.01 and 2 * 0.04, nine times each, over 18 components
ENERGY, FORCES, STRESS = (0.09 + 6 * 0.09) / 2, 14 / 9, (4 * 0.01 + 2 * 0.04) / 2


def test_normalisation_and_weights(batch: SimpleNamespace, prediction: dict[str, torch.Tensor]) -> None:
    loss, parts = WeightedLoss(2.0, 10.0, 5.0)(prediction, batch, REFERENCE)
    assert parts["energy"].item() == pytest.approx(ENERGY, abs=1e-9)
    assert parts["forces"].item() == pytest.approx(FORCES, abs=1e-9)
    assert parts["stress"].item() == pytest.approx(STRESS, abs=1e-8)
    assert loss.item() == pytest.approx(2 * ENERGY + 10 * FORCES + 5 * STRESS, abs=1e-7)


def test_stress_is_not_asked_for_at_weight_zero(batch: SimpleNamespace, prediction: dict[str, torch.Tensor]) -> None:
    del prediction["stress"]
    loss, parts = WeightedLoss(1.0, 1.0)(prediction, batch, REFERENCE)
    assert set(parts) == {"energy", "forces"}
    assert loss.item() == pytest.approx(ENERGY + FORCES)


def test_missing_labels_are_left_out_of_sum_and_count(
    batch: SimpleNamespace, prediction: dict[str, torch.Tensor]
) -> None:
    batch.forces[2] = torch.nan
    batch.stress[0] = torch.nan
    prediction["stress"][0] = torch.nan  # no volume
    for value in prediction.values():
        value.requires_grad_()
    loss, parts = WeightedLoss(1.0, 1.0, 1.0)(prediction, batch, tensor(0.2, torch.nan))
    assert parts["energy"].item() == pytest.approx(0.09)
    assert parts["forces"].item() == pytest.approx(5 / 6)
    assert parts["stress"].item() == pytest.approx(2 * 0.04)
    loss.backward()
    for value in prediction.values():
        assert value.grad is not None and torch.isfinite(value.grad).all()


def test_energy_only_data_has_no_forces_term(batch: SimpleNamespace, prediction: dict[str, torch.Tensor]) -> None:
    batch.forces[:] = torch.nan
    loss, parts = WeightedLoss()(prediction, batch, REFERENCE)
    assert parts["forces"].item() == 0
    assert loss.item() == pytest.approx(ENERGY)


def test_huber(batch: SimpleNamespace, prediction: dict[str, torch.Tensor]) -> None:
    _, parts = WeightedLoss(kind="huber", huber_delta=1.5)(prediction, batch, REFERENCE)
    assert parts["energy"].item() == pytest.approx(ENERGY / 2)
    assert parts["forces"].item() == pytest.approx((0.5 + 1.5 * (2 - 0.75) + 1.5 * (3 - 0.75)) / 9)


def test_float32_predictions_take_float64_labels(batch: SimpleNamespace, prediction: dict[str, torch.Tensor]) -> None:
    loss, _ = WeightedLoss()({name: value.float() for name, value in prediction.items()}, batch, REFERENCE)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(ENERGY + 100 * FORCES, rel=1e-6)


def test_unbatched_frame_is_one_frame(batch: SimpleNamespace) -> None:
    del batch.batch
    batch.energy = tensor(1.0)
    assert atoms_per_frame(batch).tolist() == [3.0]


def test_mistakes_are_named() -> None:
    with pytest.raises(UserError, match=r"'hubber' does not exist. Did you mean 'huber'"):
        WeightedLoss(kind="hubber")  # type: ignore[arg-type]
    with pytest.raises(UserError, match="forces_weight must not be negative, found -1"):
        WeightedLoss(forces_weight=-1)
    with pytest.raises(UserError, match="energy_weight must not be negative"):
        StageTwo(energy_weight=-1)
