"""Carrying a comparison out: trainings, speed, tables and plots, each kept as soon as it is there."""

import dataclasses
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from mace_gaunt.cli.compare_plan import Comparison, difference, write_file
from mace_gaunt.cli.run_folder import check_free, write_json
from mace_gaunt.comparison import local, tables
from mace_gaunt.comparison.budget import tell_seconds
from mace_gaunt.comparison.local import Cores
from mace_gaunt.comparison.members import (
    FINISHED,
    UNFINISHED,
    Member,
    errors_of,
    read_json,
    reason_of_failure,
    state_of,
    training_seconds,
)
from mace_gaunt.errors import UserError
from mace_gaunt.files import write_csv
from mace_gaunt.locks import check_not_held

RECORD, SPEED_FILE = "compare.json", "speed.json"
FRONTIER, SUMMARY, FRONTIER_JSON = "frontier.csv", "summary.csv", "frontier.json"


def run_comparison(comparison: Comparison, words: list[str]) -> int:
    """Do what is left of a comparison.

    Args:
        comparison: The plan.
        words: The command, for the record.

    Returns:
        Exit status: 1 when a member failed.

    Raises:
        UserError: If the folder is another's, members there have other settings or are being trained, or the first
            member cannot be trained.
    """
    changed = check_members(comparison)
    waiting = [member for member in comparison.members if member in changed or state_of(member) != FINISHED]
    for member in waiting:
        # A comparison that was killed leaves its trainings behind.
        check_not_held(member.path)
    if any(member not in comparison.peers for member in waiting):
        check_first(comparison)
    for member in changed:
        remove(comparison, member)
    begin(comparison, words)
    for member, composed in comparison.jobs:
        if member in waiting:
            write_file(member, composed)
    failed = train_all(comparison, waiting)
    measure(comparison)
    write_results(comparison, failed)
    print(f"\n{(comparison.folder / 'summary.md').read_text()}")
    print(f"frontier  {comparison.folder / FRONTIER}\nreport    {comparison.folder / 'report.html'}")
    return int(bool(failed))


def check_members(comparison: Comparison) -> list[Member]:
    """Refuse a folder that cannot be used; nothing is changed.

    Returns:
        Members that were trained with other settings, where overwrite=true lets them be trained anew.

    Raises:
        UserError: If it is another's, or members there were trained with other settings.
    """
    folder = comparison.folder
    check_free(folder, True, "never")
    if folder.exists() and any(folder.iterdir()) and not (folder / RECORD).is_file():
        raise UserError(
            f"the folder {folder} is not empty and holds no comparison (no {RECORD}). Choose another run=NAME; "
            "overwrite=true replaces members of a comparison alone."
        )
    changed = []
    for member in comparison.members:
        change = change_of(comparison, member)
        if change and not comparison.settings["overwrite"]:
            raise UserError(
                f"{member.path} was trained with other settings: {change}. Choose another run, or overwrite=true to "
                "train it anew."
            )
        changed += [member] * bool(change)
    return changed


def change_of(comparison: Comparison, member: Member) -> str | None:
    """What of a member's settings is not as it was trained, in words; None where nothing is."""
    if member in comparison.peers:
        from mace_gaunt.cli.compare_peer import peer_difference

        return peer_difference(comparison, member)
    return difference(member, next(composed for other, composed in comparison.jobs if other == member))


def remove(comparison: Comparison, member: Member) -> None:
    """Remove a trained member, and what was told and measured of it."""
    shutil.rmtree(member.path)
    member.log.unlink(missing_ok=True)
    (comparison.folder / SPEED_FILE).unlink(missing_ok=True)


def check_first(comparison: Comparison) -> None:
    """Build everything of the first member, so that a mistake ends the comparison before its first training.

    Raises:
        UserError: If something is not as it must be.
    """
    from mace_gaunt.cli.train import train

    train(dataclasses.replace(comparison.first, config=comparison.first.config.copy()), validate_only=True)
    print()


def begin(comparison: Comparison, words: list[str]) -> None:
    """Write compare.json: what is compared, how, and on what."""
    from mace_gaunt.cli.record import git_state, hardware, now, versions

    record = {
        "command": ["mace-gaunt", *words],
        "started": now(),
        "budget": dataclasses.asdict(comparison.budget),
        "title": comparison.budget.title,
        "conditions": comparison.budget.conditions,
        "parallel": len(comparison.slots),
        "threads": len(comparison.slots[0]),
        "members": {
            member.name: {"group": member.group, "settings": dict(member.settings)} for member in comparison.members
        },
        "hardware": hardware(),
        "versions": versions(),
        "git": git_state(),
    }
    comparison.folder.mkdir(parents=True, exist_ok=True)
    write_json(comparison.folder / RECORD, {**read_json(comparison.folder / RECORD), **record})


def train_all(comparison: Comparison, waiting: list[Member]) -> list[str]:
    """Train what is left, and write the tables after each member.

    Args:
        comparison: The plan.
        waiting: Members that are not finished.

    Returns:
        Names of those that failed.
    """
    failed: list[str] = []
    done = len(comparison.members) - len(waiting)
    print(f"{comparison.budget.title}; {len(comparison.members)} members, {done} finished", flush=True)

    def launch(member: Member, cores: Cores) -> local.Running:
        verb = "continued" if state_of(member) == UNFINISHED else "trained"
        if verb == "trained":
            # What an earlier start said is not said of this one.
            member.log.unlink(missing_ok=True)
        print(f"... {member.name}: {verb} on processors {', '.join(map(str, cores))}", flush=True)
        return launch_member(comparison, member, cores)

    def ended(member: Member, status: int) -> None:
        if status != 0 or state_of(member) != FINISHED:
            failed.append(member.name)
            print(f"... {member.name}: failed: {reason_of_failure(member)}", flush=True)
        else:
            print(f"... {member.name}: {tell_member(member)}", flush=True)
        write_tables(comparison, failed)

    local.run_all(waiting, comparison.slots, launch, ended)
    return failed


def launch_member(comparison: Comparison, member: Member, cores: Cores) -> local.Running:
    """Start the training of a member in a process of its own."""
    if member in comparison.peers:
        from mace_gaunt.cli.compare_peer import launch_peer

        return launch_peer(comparison, member, cores)
    return local.launch_training(member, cores)


def tell_member(member: Member) -> str:
    """What became of a member, in a line."""
    seconds = training_seconds(member)
    words = [f"{read_json(member.path / 'run.json').get('epochs')} epochs"]
    words += [f"in {tell_seconds(seconds)}"] if seconds is not None else []
    forces = errors_of(member).get("valid", {}).get(tables.FORCES)
    words += [f"validation force RMSE {forces:.1f} meV/Å"] if forces is not None else []
    return "  ".join(words)


def measure(comparison: Comparison) -> None:
    """Measure speed and memory of all groups with a finished member in turns, unless these groups have been before.

    Where a group could not be measured, all are measured again the next time.
    """
    from mace_gaunt.cli.compare_speed import groups_of, measure_groups

    chosen = groups_of(comparison)
    if comparison.settings["speed"] == "none" or not chosen:
        return
    kept = read_json(comparison.folder / SPEED_FILE)
    wanted = {
        "threads": len(comparison.slots[0]),
        "variants": {group: variant for group, (_, variant) in chosen.items()},
    }
    if any(kept.get(key) != value for key, value in wanted.items()) or failures(kept.get("groups", {})):
        with pinned(comparison.slots[0]):
            groups = measure_groups(comparison, chosen)
        write_json(comparison.folder / SPEED_FILE, {**wanted, "groups": groups})
        for line in failures(groups):
            print(f"... {line}", flush=True)


def failures(groups: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """A line for everything that could not be measured, with the reason."""
    return [
        f"{group}: {what} could not be measured: {reason}"
        for group, speed in groups.items()
        for what, reason in speed.get("failed", {}).items()
    ]


@contextmanager
def pinned(cores: Cores) -> Iterator[None]:
    """Let the processes that are started here run on these processors alone."""
    before = local.own_cores()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, before)


def write_tables(comparison: Comparison, failed: list[str]) -> tuple[list[tables.Row], list[tables.Row]]:
    """Write the tables.

    Returns:
        The rows of all members, and the published ones.
    """
    from mace_gaunt.cli.build import is_real_3bpa

    folder, budget = comparison.folder, comparison.budget
    rows = tables.make_rows(comparison.members, failed, read_json(folder / SPEED_FILE).get("groups", {}))
    real = is_real_3bpa(comparison.first.config.data)
    published = tables.published_of(tables.splits_of(rows)) if real else []
    write_csv(folder / FRONTIER, rows)
    write_csv(folder / SUMMARY, tables.summarize(rows))
    (folder / "summary.md").write_text(tables.markdown(rows, published, budget.title, budget.conditions))
    return rows, published


def write_results(comparison: Comparison, failed: list[str]) -> None:
    """Write tables, plots and the page."""
    from mace_gaunt.comparison.page import write_comparison_page
    from mace_gaunt.comparison.plots import plot_curves, plot_frontiers

    rows, published = write_tables(comparison, failed)
    folder, title = comparison.folder, comparison.budget.title
    plot_frontiers(rows, published, title, folder)
    plot_curves(comparison.members, title, folder)
    settings = read_json(folder / RECORD)
    tables.write_frontier_json(folder / FRONTIER_JSON, settings, rows, published)
    write_comparison_page(folder, settings, rows, published)
