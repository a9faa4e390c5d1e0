"""The loss of OC20's models, `kind="l2mae"`, against plain sums, finite differences and other batches."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor

from mace_gaunt.training.loss import WeightedLoss
from mace_gaunt.training.metrics import LossMetric
from mace_gaunt.training.passes import count_whole, partial_loss

SIZES = (3, 1, 4, 2)


def frames() -> SimpleNamespace:
    """Four frames; every other atom is fixed and has no label, one frame has none at all, one no energy."""
    random = np.random.default_rng(0)
    n_nodes = sum(SIZES)

    def draw(*shape: int) -> Tensor:
        return torch.from_numpy(random.normal(size=shape))

    batch = SimpleNamespace(
        node_types=torch.zeros(n_nodes, dtype=torch.int64),
        batch=torch.repeat_interleave(torch.arange(4), torch.tensor(SIZES)),
        num_graphs=4,
        energy=1000.0 + draw(4),
        forces=draw(n_nodes, 3),
        stress=draw(4, 3, 3),
        weight=torch.tensor([1.0, 2.0, 0.5, 1.0], dtype=torch.float64),
        **{f"{name}_weight": draw(4).abs() for name in ("energy", "forces", "stress")},
    )
    batch.forces[::2] = torch.nan
    batch.forces[5, 1] = torch.nan
    batch.energy[1] = batch.forces[3] = torch.nan
    return batch


def predictions() -> dict[str, Tensor]:
    random = np.random.default_rng(1)
    shapes = {"interaction_energy": (4,), "forces": (sum(SIZES), 3), "stress": (4, 3, 3)}
    return {name: torch.from_numpy(random.normal(size=shape)) for name, shape in shapes.items()}


def part(batch: SimpleNamespace, prediction: dict[str, Tensor], keep: list[int]) -> tuple[SimpleNamespace, dict]:
    """Some of the frames as a batch of their own."""
    nodes = torch.isin(batch.batch, torch.tensor(keep))
    of_nodes = ("node_types", "batch", "forces")
    fields = {
        name: value[nodes] if name in of_nodes else value[keep]
        for name, value in vars(batch).items()
        if name != "num_graphs"
    }
    fields["batch"] = torch.searchsorted(torch.tensor(keep), fields["batch"])
    chosen = {name: value[nodes] if name == "forces" else value[keep] for name, value in prediction.items()}
    return SimpleNamespace(num_graphs=len(keep), **fields), chosen


def test_against_plain_sums() -> None:
    batch, found = frames(), predictions()
    reference = batch.energy - 999.0
    loss, parts = WeightedLoss(2.0, 100.0, 3.0, kind="l2mae")(found, batch, reference)
    energies, lengths, stresses = [], [], []
    for frame in range(4):
        if frame != 1:
            error = abs(found["interaction_energy"][frame] - reference[frame])
            energies.append(batch.weight[frame] * batch.energy_weight[frame] * error)
        stresses.append(
            batch.weight[frame] * batch.stress_weight[frame] * (found["stress"] - batch.stress)[frame].abs()
        )
    for atom in (1, 7, 9):
        frame = batch.batch[atom]
        length = np.linalg.norm((found["forces"] - batch.forces)[atom].numpy())
        lengths.append(batch.weight[frame] * batch.forces_weight[frame] * length)
    expected = {"energy": np.mean(energies), "forces": np.mean(lengths), "stress": torch.stack(stresses).mean().item()}
    assert {name: value.item() for name, value in parts.items()} == pytest.approx(expected, rel=1e-13)
    total = 2 * expected["energy"] + 100 * expected["forces"] + 3 * expected["stress"]
    assert loss.item() == pytest.approx(total, rel=1e-13)


def test_gradients_against_finite_differences() -> None:
    batch, found = frames(), predictions()
    loss = WeightedLoss(2.0, 100.0, 3.0, kind="l2mae")

    def of(*values: Tensor) -> Tensor:
        return loss(dict(zip(found, values, strict=True)), batch, batch.energy - 999.0)[0]

    assert torch.autograd.gradcheck(of, [value.requires_grad_() for value in found.values()])


def test_the_gradient_at_no_error_and_at_no_label_is_zero() -> None:
    batch = frames()
    reference = batch.energy - 999.0
    found = {
        "interaction_energy": torch.nan_to_num(reference).requires_grad_(),
        "forces": torch.nan_to_num(batch.forces).requires_grad_(),
        "stress": torch.full((4, 3, 3), torch.nan, dtype=torch.float64).requires_grad_(),
    }
    batch.stress[:] = torch.nan
    loss, _ = WeightedLoss(1.0, 1.0, 1.0, kind="l2mae")(found, batch, reference)
    loss.backward()
    assert loss.item() == 0
    for value in found.values():
        assert value.grad is not None and not value.grad.any()


@pytest.mark.parametrize("split", [[[0], [1], [2], [3]], [[0, 1, 2], [3]], [[1], [0, 2, 3]]])
def test_sums_and_counts_add_up_over_batches(split: list[list[int]]) -> None:
    batch, found = frames(), predictions()
    loss = WeightedLoss(2.0, 100.0, kind="l2mae")
    whole, metric, shares = count_whole(loss, batch), LossMetric(), []
    assert whole.counts.tolist() == [3, 3]
    for keep in split:
        some, of_some = part(batch, found, keep)
        sums = loss.sums(of_some, some, some.energy - 999.0)
        metric.update(sums)
        shares.append(partial_loss(loss, sums, whole))
    direct, parts = loss(found, batch, batch.energy - 999.0)
    means = metric.compute()
    assert {name: means[name].item() for name in parts} == pytest.approx(
        {n: v.item() for n, v in parts.items()}, rel=1e-14
    )
    assert torch.stack(shares).sum().item() == pytest.approx(direct.item(), rel=1e-14)


def test_without_labels_the_terms_are_zero() -> None:
    batch, found = frames(), predictions()
    batch.forces[:] = batch.energy[:] = torch.nan
    loss, parts = WeightedLoss(kind="l2mae")(found, batch, batch.energy)
    assert loss.item() == 0 and set(parts) == {"energy", "forces"}


def test_totals_of_thousands_of_ev_lose_nothing_in_float32() -> None:
    """The interaction energy is compared, not the total, so float32 has its full precision."""
    batch, found = frames(), {name: value.float() for name, value in predictions().items()}
    exact, _ = WeightedLoss(kind="l2mae")({n: v.double() for n, v in found.items()}, batch, batch.energy - 1000.0)
    single, _ = WeightedLoss(kind="l2mae")(found, batch, batch.energy - 1000.0)
    assert single.dtype == torch.float32
    assert single.item() == pytest.approx(exact.item(), rel=1e-6)
