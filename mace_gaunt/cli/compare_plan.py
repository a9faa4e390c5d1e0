"""From the command line of `compare` to its members: each composed, checked, and with the budget written into it."""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser

from mace_gaunt.cli.arguments import Arguments
from mace_gaunt.cli.build import refuse_limits
from mace_gaunt.cli.compose import Composed, complete_plain, complete_text, compose
from mace_gaunt.cli.keys import MISSING
from mace_gaunt.cli.multirun import one_job
from mace_gaunt.cli.request import Request, leaves, load_yaml, read_request, set_nested
from mace_gaunt.cli.resume import IGNORED, UNKNOWN_THEN, differ, settle_node_lr
from mace_gaunt.cli.run_folder import name_folder
from mace_gaunt.comparison.budget import MOST_EPOCHS, Budget, read_budget
from mace_gaunt.comparison.local import Cores, own_cores, share
from mace_gaunt.comparison.members import FAMILY, PEER, SEED, Member
from mace_gaunt.errors import UserError
from mace_gaunt.training.compilation import LONG_TRAINING, missing_compiler

TIME_BUDGET = "mace_gaunt.training.budget.TimeBudget"
PLANS_ONLY = {"--print-config", "--help-keys"}
"""Flags that print, on whatever machine."""


@dataclass
class Comparison:
    """A checked comparison.

    Attributes:
        settings: Keys of configs/compare.yaml.
        folder: Where it lives.
        budget: What is equal.
        slots: Processors of each member that is trained at a time; none where the plan is only printed.
        jobs: The members trained here, and their configurations.
        peers: The members that mace-torch trains.
    """

    settings: dict[str, Any]
    folder: Path
    budget: Budget
    slots: list[Cores]
    jobs: list[tuple[Member, Composed]]
    peers: list[Member]

    @property
    def members(self) -> list[Member]:
        """All of them, ours first."""
        return [*(member for member, _ in self.jobs), *self.peers]

    @property
    def first(self) -> Composed:
        """The configuration of the first member."""
        return self.jobs[0][1]


def plan_comparison(settings: dict[str, Any], arguments: Arguments) -> Comparison:
    """Compose and check all members; nothing is written.

    Args:
        settings: Keys of configs/compare.yaml.
        arguments: The command line of the trainings.

    Raises:
        UserError: If a key or a combination is wrong, or two members would be one.
    """
    budget = read_budget(settings["budget"], settings["epochs"])
    slots = [] if PLANS_ONLY & arguments.flags else share(own_cores(), settings["parallel"])
    request = read_request("train", arguments)
    folder = name_folder(settings["run"], "compare")
    jobs = [make_job(request, chosen, folder, budget) for chosen in combinations(request)]
    names = [member.name for member, _ in jobs]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise UserError(f"two members are called {twice}: every value may be given once.")
    peers = list(dict.fromkeys(member.seed for member, _ in jobs)) if settings["peer"] else []
    return Comparison(
        settings, folder, budget, slots, jobs, [Member({FAMILY: PEER, SEED: seed}, folder) for seed in peers]
    )


def combinations(request: Request) -> list[list[str]]:
    """One override for each key with several values, in all combinations.

    Raises:
        UserError: If a value is no plain list.
    """
    parser = OverridesParser.create()
    values = []
    for text in request.sweeps:
        override = parser.parse_override(text)
        if not override.is_discrete_sweep():
            raise UserError(
                f"{text.removeprefix('++')}: only values with commas, choice() and range() can be compared."
            )
        values.append([f"{override.get_key_element()}={value}" for value in override.sweep_string_iterator()])
    return [list(chosen) for chosen in itertools.product(*values)]


def make_job(request: Request, chosen: list[str], folder: Path, budget: Budget) -> tuple[Member, Composed]:
    """One member.

    Args:
        request: The request with several values.
        chosen: One override for each of them.
        folder: Of the comparison.
        budget: Is written into the configuration.

    Raises:
        UserError: If the combination is wrong, or is no training of a potential.
    """
    job = one_job(request, chosen)
    limit(job, budget)
    composed = compose(job)
    if composed.config.task != "potential":
        raise UserError(f"compare is for potentials, not for task={composed.config.task}.")
    refuse_limits(composed.config, "end members before they have a result")
    if budget.seconds is not None and composed.config.compile == "auto":
        # `auto` asks how long the run will take, which here is known.
        composed.config.compile = "on" if budget.seconds >= LONG_TRAINING and not missing_compiler() else "off"
    settle_node_lr(composed.config)
    swept = [text.removeprefix("++").partition("=") for text in chosen]
    differs = {key: value for key, _, value in swept if key not in (FAMILY, SEED)}
    family = composed.choices.get(FAMILY) or "product"
    return Member({FAMILY: family, SEED: int(composed.config.seed), **differs}, folder), composed


def limit(job: Request, budget: Budget) -> None:
    """Write a budget into a request.

    Args:
        job: Changed in place.
        budget: The limit.

    Raises:
        UserError: If the command line sets the number of epochs beside it.
    """
    given = "max_epochs" in (job.body.get("trainer") or {})
    if given and (budget.seconds or budget.epochs):
        raise UserError("the comparison has a budget: leave max_epochs out.")
    if budget.seconds is not None:
        set_nested(job.body, "callbacks.budget", {"_target_": TIME_BUDGET, "seconds": budget.seconds})
        set_nested(job.body, "trainer.max_epochs", MOST_EPOCHS)
    elif budget.epochs is not None:
        set_nested(job.body, "trainer.max_epochs", budget.epochs)


def write_file(member: Member, composed: Composed) -> None:
    """Write the file that a member is trained from."""
    member.file.parent.mkdir(parents=True, exist_ok=True)
    config = composed.config.copy()
    config.run, config.resume, config.overwrite = None, "never", False
    header = f"member {member.name} of a comparison: mace-gaunt train {member.file}"
    member.file.write_text(complete_text(config, composed.request.known, header))


def difference(member: Member, composed: Composed) -> str | None:
    """What of a member's settings is not as it was trained, in words; None where all is, or nothing was trained.

    Args:
        member: The member.
        composed: Its configuration now.
    """
    file = member.path / "config.yaml"
    if not file.is_file():
        return None
    return first_difference(
        {**UNKNOWN_THEN, **dict(leaves(load_yaml(file)))},
        dict(leaves(complete_plain(composed.config, composed.request.known))),
    )


def first_difference(before: Mapping[str, Any], now: Mapping[str, Any]) -> str | None:
    """The first key, of either, whose values differ, in words; None where none does.

    Args:
        before: Leaves of the configuration that was trained.
        now: Those of the one to train; what the data will fill is not compared.
    """
    # A part that is switched off now has its keys in `before` alone.
    for key in dict.fromkeys([*now, *before]):
        if key in IGNORED or key.endswith("kernel") or now.get(key) == MISSING:
            continue
        if differ(before.get(key), now.get(key)):
            return f"{key} was {before.get(key)} and is {now.get(key)} now"
    return None
