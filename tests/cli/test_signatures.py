from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import pytest

from mace_gaunt.cli.signatures import list_arguments, misfit
from mace_gaunt.errors import UserError


def test_arguments_reach_base_classes_through_kwargs():
    arguments = list_arguments("mace_gaunt.data.threebpa.ThreeBPADataModule")
    assert arguments is not None
    assert {"root", "train", "energy_key", "max_edges_per_batch"} <= set(arguments)
    assert "settings" not in arguments


def test_every_argument_of_the_trainer_is_found():
    arguments = list_arguments("lightning.Trainer")
    assert arguments is not None
    assert {"max_epochs", "accumulate_grad_batches", "limit_val_batches", "strategy"} <= set(arguments)


@pytest.mark.parametrize("target", ["mace_gaunt.no.Such", "no_such_package.Thing", "torch.optim.Adamm"])
def test_targets_that_do_not_exist_are_the_users_mistake(target):
    with pytest.raises(UserError, match="_target_"):
        list_arguments(target)


@pytest.mark.parametrize(
    ("value", "annotation"),
    [
        (1, float),
        (None, int | None),
        ([1, 2], Sequence[int]),
        ({"a": 1}, Mapping[str, float] | None),
        ("a.xyz", str | Path),
        ("on", Literal["on", "off"]),
        ("anything", Any),
        (True, bool),
    ],
)
def test_values_that_fit(value, annotation):
    assert misfit(value, annotation) is None


@pytest.mark.parametrize(
    ("value", "annotation", "expected"),
    [
        ("abc", float, "a number"),
        (1.5, int, "an integer"),
        (True, int, "an integer"),
        (3, bool, "true or false"),
        ("of", Literal["on", "off"], "Did you mean 'off'"),
        (5, str | None, "text or null"),
    ],
)
def test_values_that_do_not_fit_are_told_what_was_expected(value, annotation, expected):
    assert expected in str(misfit(value, annotation))
