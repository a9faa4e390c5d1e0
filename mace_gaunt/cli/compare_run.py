"""Carrying a comparison out: trainings, speed, tables and plots, each kept as soon as it is there."""

import dataclasses
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

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
        UserError: If the folder is another's, members there have other settings, or the first member cannot be trained.
    """
    prepare_folder(comparison)
    waiting = [member for member in comparison.members if state_of(member) != FINISHED]
    if any(member not in comparison.peers for member in waiting):
        check_first(comparison)
    for member, composed in comparison.jobs:
        if member in waiting:
            write_file(member, composed)
    begin(comparison, words)
    failed = train_all(comparison, waiting)
    measure(comparison)
    write_results(comparison, failed)
    print(f"\n{(comparison.folder / 'summary.md').read_text()}")
    print(f"frontier  {comparison.folder / FRONTIER}\nreport    {comparison.folder / 'report.html'}")
    return int(bool(failed))


def prepare_folder(comparison: Comparison) -> None:
    """Refuse a folder that cannot be used; members with other settings go where overwrite=true says so.

    Raises:
        UserError: If it is another's, or members there were trained with other settings.
    """
    if not (comparison.folder / RECORD).is_file():
        check_free(comparison.folder, False, "never")
    for member, composed in comparison.jobs:
        changed = difference(member, composed)
        if changed and not comparison.settings["overwrite"]:
            raise UserError(
                f"{member.path} was trained with other settings: {changed}. Choose another run, or overwrite=true to "
                "train it anew."
            )
        if changed:
            shutil.rmtree(member.path)


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
    """Measure speed and memory of all groups with a finished member in turns, unless these groups have been before."""
    from mace_gaunt.cli.compare_speed import groups_of, measure_groups

    chosen = groups_of(comparison)
    if comparison.settings["speed"] == "none" or not chosen:
        return
    kept = read_json(comparison.folder / SPEED_FILE)
    wanted = {
        "threads": len(comparison.slots[0]),
        "variants": {group: variant for group, (_, variant) in chosen.items()},
    }
    if any(kept.get(key) != value for key, value in wanted.items()):
        with pinned(comparison.slots[0]):
            write_json(comparison.folder / SPEED_FILE, {**wanted, "groups": measure_groups(comparison, chosen)})


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
