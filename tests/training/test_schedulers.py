"""Learning rates by step, and what a switch or a resume does to them."""

import math
from collections.abc import Callable

import pytest
import torch

from mace_gaunt.errors import UserError
from mace_gaunt.training import schedulers
from mace_gaunt.training.groups import RATE, apply_rates
from mace_gaunt.training.stage_two import StageTwo

LR = 0.01
PLAN = {"total_steps": 40, "steps_per_epoch": 4}


@pytest.fixture
def optimizer() -> torch.optim.Optimizer:
    return torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=LR)


def rate(optimizer: torch.optim.Optimizer) -> float:
    return optimizer.param_groups[0]["lr"]


def rates(optimizer: torch.optim.Optimizer, schedule: schedulers.Schedule, steps: int) -> list[float]:
    """Rate of each optimizer step."""
    found = []
    for _ in range(steps):
        found.append(rate(optimizer))
        optimizer.step()
        schedule.step()
    return found


def test_cosine(optimizer: torch.optim.Optimizer) -> None:
    found = rates(optimizer, schedulers.cosine(optimizer, **PLAN, warmup_epochs=1, final_ratio=0.1), 40)
    assert found[:5] == pytest.approx([LR * k / 5 for k in range(1, 6)])
    assert found[4] == max(found)
    assert found[39] == pytest.approx(0.1 * LR)
    middle = 0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * 16 / 35))
    assert found[20] == pytest.approx(LR * middle)


def test_constant_and_exponential(optimizer: torch.optim.Optimizer) -> None:
    assert rates(optimizer, schedulers.constant(optimizer, **PLAN), 5) == [LR] * 5
    found = rates(optimizer, schedulers.exponential(optimizer, **PLAN, gamma=0.5), 9)
    assert (found[4], found[8]) == pytest.approx((LR / 2, LR / 4))


def test_warmup(optimizer: torch.optim.Optimizer) -> None:
    with pytest.raises(UserError, match="warmup_epochs must not be negative, found -1"):
        schedulers.cosine(optimizer, **PLAN, warmup_epochs=-1)
    found = rates(optimizer, schedulers.cosine(optimizer, **PLAN, warmup_epochs=50), 40)
    assert found == sorted(found)


def test_plateau_counts_validations(optimizer: torch.optim.Optimizer) -> None:
    schedule = schedulers.plateau(optimizer, **PLAN, factor=0.5, patience=2)
    found = []
    for loss in [1.0, 2.0, 2.0, 2.0, 0.5, 0.6]:
        schedule.step(loss)
        found.append(rate(optimizer))
    assert found == [LR, LR, LR, LR / 2, LR / 2, LR / 2]


def test_restart_lets_a_schedule_go_on_from_the_new_rate(optimizer: torch.optim.Optimizer) -> None:
    schedule = schedulers.cosine(optimizer, **PLAN, warmup_epochs=0, final_ratio=0.0)
    before = rates(optimizer, schedule, 30)
    at_switch = rate(optimizer)
    schedulers.restart_schedule(optimizer, schedule, 1e-3)
    after = rates(optimizer, schedule, 10)
    assert after[0] == 1e-3
    factor = 1e-3 / at_switch
    assert before[-1] > at_switch
    expected = [factor * LR * 0.5 * (1 + math.cos(math.pi * step / 39)) for step in range(30, 40)]
    assert after == pytest.approx(expected, abs=1e-15)


def test_restart_keeps_the_factor_of_a_group() -> None:
    weights = [torch.nn.Parameter(torch.zeros(1)) for _ in range(2)]
    optimizer = torch.optim.Adam([{"params": weights[:1]}, {"params": weights[1:], RATE: 10.0}], lr=LR)
    apply_rates(optimizer)
    schedule = schedulers.cosine(optimizer, **PLAN, warmup_epochs=0, final_ratio=0.0)
    found = [[group["lr"] for group in optimizer.param_groups]]
    rates(optimizer, schedule, 30)
    schedulers.restart_schedule(optimizer, schedule, 1e-3)
    found.append([group["lr"] for group in optimizer.param_groups])
    rates(optimizer, schedule, 5)
    found.append([group["lr"] for group in optimizer.param_groups])
    assert found[0] == [LR, 10 * LR] and found[1] == [1e-3, 1e-2]
    assert all(one == pytest.approx(base * 10) for base, one in found)
    assert found[2][0] < 1e-3


def test_restart_makes_a_plateau_forget(optimizer: torch.optim.Optimizer) -> None:
    schedule = schedulers.plateau(optimizer, **PLAN, factor=0.5, patience=1)
    for loss in [1.0, 2.0]:
        schedule.step(loss)
    schedulers.restart_schedule(optimizer, schedule, None)
    for loss in [50.0, 60.0]:
        schedule.step(loss)
    assert rate(optimizer) == LR
    schedule.step(60.0)
    assert rate(optimizer) == LR / 2


@pytest.mark.parametrize("make", [schedulers.cosine, schedulers.exponential, schedulers.plateau])
def test_state_continues_but_settings_are_the_configured_ones(
    optimizer: torch.optim.Optimizer, make: Callable[..., schedulers.Schedule]
) -> None:
    def run(schedule: schedulers.Schedule, losses: list[float]) -> float:
        for loss in losses:
            optimizer.step()
            schedule.step(*([loss] if make is schedulers.plateau else []))
        return rate(optimizer)

    schedule = make(optimizer, **PLAN)
    run(schedule, [1.0] * 7)
    state = schedulers.schedule_state(schedule)
    expected = run(schedule, [1.0] * 7)
    optimizer.param_groups[0]["lr"] = LR
    again = make(optimizer, **PLAN)
    schedulers.restore_schedule(again, state)
    optimizer.param_groups[0]["lr"] = state["state"]["_last_lr"][0]
    assert run(again, [1.0] * 7) == expected
    if make is schedulers.plateau:
        tuned = make(optimizer, **PLAN, patience=3)
        schedulers.restore_schedule(tuned, state)
        assert tuned.patience == 3


def test_another_type_of_schedule_is_refused(optimizer: torch.optim.Optimizer) -> None:
    state = schedulers.schedule_state(schedulers.plateau(optimizer, **PLAN))
    with pytest.raises(UserError, match="written with a ReduceLROnPlateau schedule, this run has a LambdaLR"):
        schedulers.restore_schedule(schedulers.constant(optimizer, **PLAN), state)


def test_no_cosine_without_an_end(optimizer: torch.optim.Optimizer) -> None:
    with pytest.raises(UserError, match=r"cosine falls towards the last step.*give max_epochs"):
        schedulers.cosine(optimizer, total_steps=0, steps_per_epoch=4)


def test_start_of_stage_two() -> None:
    assert StageTwo(start=7).first_epoch(0) == 7
    with pytest.raises(UserError, match=r"stage_two.start=0.75 is a fraction of the epochs"):
        StageTwo(start=0.75).first_epoch(0)
    assert StageTwo(start=0.75).first_epoch(100) == 75
    assert StageTwo(start=0.5).first_epoch(5) == 2
    assert StageTwo(start=0.7).first_epoch(10) == 7
    assert StageTwo(start=0.9).first_epoch(1) == 0
    assert StageTwo(start=7).first_epoch(10) == 7
    with pytest.raises(UserError, match="is epoch 10, but the training has only 10 epochs"):
        StageTwo(start=10).first_epoch(10)
    with pytest.raises(UserError, match=r"found 1.5"):
        StageTwo(start=1.5)
