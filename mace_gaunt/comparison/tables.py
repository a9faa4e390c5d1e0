"""The frontier as tables: a row for each member, and a row for each group with the spread over its seeds."""

import json
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mace_gaunt.comparison.members import (
    FAMILY,
    FINISHED,
    SEED,
    Member,
    errors_of,
    read_json,
    reason_of_failure,
    state_of,
    training_seconds,
)

Row = dict[str, Any]
ENERGY, FORCES = "energy_rmse_meV", "forces_rmse_meV_A"
ERRORS = (ENERGY, FORCES)
SPEED = {
    "step_ms": "training step (ms)",
    "infer_ms": "E + F (ms)",
    "md_steps_per_s": "MD (steps/s)",
    "step_memory_MB": "step memory (MB)",
    "infer_memory_MB": "E + F memory (MB)",
}
"""What is measured of a group, and its heading."""
STATED = ("member", "group", FAMILY, SEED, "state")
SPLIT_MARK = "/"
WHAT = "RMSE of total energies (meV) / of force components (meV/Å)."


def make_row(member: Member, state: str, speed: Mapping[str, Any] | None = None) -> Row:
    """The row of a member.

    Args:
        member: The member.
        state: "finished", "failed" or what else there is to say.
        speed: What was measured of its group; see `measure.Speed`.

    Returns:
        Columns of STATED and of its settings, then `epochs`, `training_s`, errors as
        "forces_rmse_meV_A/SPLIT", the columns of SPEED, `parameters` and `error`.
    """
    row: Row = {"member": member.name, "group": member.group, **member.settings, "state": state}
    if state == FINISHED:
        row |= {"epochs": read_json(member.path / "run.json").get("epochs"), "training_s": training_seconds(member)}
        for split, errors in errors_of(member).items():
            row |= {f"{name}{SPLIT_MARK}{split}": errors.get(name) for name in ERRORS}
        row |= {name: (speed or {}).get(name) for name in ("parameters", *SPEED)}
    elif state == "failed":
        row["error"] = reason_of_failure(member)
    return row


def make_rows(members: Iterable[Member], failed: Iterable[str], speeds: Mapping[str, Mapping[str, Any]]) -> list[Row]:
    """The rows of all members.

    Args:
        members: In the order of the table.
        failed: Names of those whose training failed.
        speeds: Group -> what was measured of it.
    """
    lost = set(failed)
    return [
        make_row(member, "failed" if member.name in lost else state_of(member), speeds.get(member.group))
        for member in members
    ]


def splits_of(rows: Iterable[Row]) -> list[str]:
    """The splits that any row has errors of, in their order."""
    names = (name for row in rows for name in row)
    return list(dict.fromkeys(name.partition(SPLIT_MARK)[2] for name in names if name.startswith(FORCES + SPLIT_MARK)))


def summarize(rows: Sequence[Row]) -> list[Row]:
    """A row for each group that has a finished member.

    Returns:
        `group`, `tensor_product`, `n` (finished members), and for each number of the members its mean, and as
        NAME_std the sample standard deviation over seeds where there are two or more.
    """
    groups: dict[str, list[Row]] = {}
    for row in rows:
        if row["state"] == FINISHED:
            groups.setdefault(row["group"], []).append(row)
    return [
        {"group": group, FAMILY: found[0][FAMILY], "n": len(found), **means(found)} for group, found in groups.items()
    ]


def means(rows: Sequence[Row]) -> Row:
    """Mean and spread of every number of some rows."""
    found: Row = {}
    for name in dict.fromkeys(name for row in rows for name in row if name not in STATED):
        values = [row[name] for row in rows if is_number(row.get(name))]
        if values:
            found[name] = statistics.fmean(values)
            # Speed is measured once for a group: it has no spread over seeds.
            if len(values) > 1 and name not in (*SPEED, "parameters"):
                found[f"{name}_std"] = statistics.stdev(values)
    return found


def is_number(value: Any) -> bool:
    """Whether a cell counts for a mean."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def write_frontier_json(path: Path, settings: Mapping[str, Any], rows: Sequence[Row], published: Sequence[Row]) -> None:
    """Write what pages are made from: settings, rows, summary, published rows, names of the plots beside it."""
    content = {
        "settings": dict(settings),
        "rows": list(rows),
        "summary": summarize(rows),
        "published": list(published),
        "plots": sorted(plot.name for plot in path.parent.glob("*.png")),
    }
    path.write_text(json.dumps(content, indent=1) + "\n")


def published_of(splits: Iterable[str]) -> list[Row]:
    """Published 3BPA errors beside some splits of the real data: `split`, `method`, and both errors."""
    from mace_gaunt.evaluation.published import published_rows

    return [
        {"split": split, "official": row.split, "method": row.method, ENERGY: row.energy[0], FORCES: row.forces[0]}
        for split in splits
        for row in published_rows(split)
    ]


def summary_cells(rows: Sequence[Row], published: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
    """The summary as text: a line per group with errors of the splits and costs, published ones behind.

    Args:
        rows: From `make_rows`.
        published: From `published_of`.

    Returns:
        Headings, and lines of cells.
    """
    groups, splits = summarize(rows), splits_of(rows)
    costs = [key for key in SPEED if has(groups, key)]
    head = ["", "seeds", "epochs", "training (min)", *splits, *(SPEED[key] for key in costs)]
    body = [
        [group["group"], str(group["n"]), spread(group, "epochs"), spread(group, "training_s", 1 / 60)]
        + [f"{spread(group, f'{ENERGY}/{split}')} / {spread(group, f'{FORCES}/{split}')}" for split in splits]
        + [spread(group, key) for key in costs]
        for group in groups
    ]
    return head, body + published_cells(published, splits, len(costs))


def markdown(rows: Sequence[Row], published: Sequence[Row], title: str, conditions: str) -> str:
    """The summary as markdown, failures named below.

    Args:
        rows: From `make_rows`.
        published: From `published_of`.
        title: What was equal.
        conditions: What counts.
    """
    head, body = summary_cells(rows, published)
    lines = [f"Compared at {title}. {conditions}", WHAT, "", *table_lines(head, body)]
    others = [row for row in rows if row["state"] != FINISHED]
    lines += [""] * bool(others) + [
        f"- {row['member']}: {row['state']} {row.get('error', '')}".rstrip() for row in others
    ]
    return "\n".join(lines) + "\n"


def has(groups: Iterable[Row], key: str) -> bool:
    """Whether any group has a value."""
    return any(is_number(group.get(key)) for group in groups)


def published_cells(published: Sequence[Row], splits: Sequence[str], n_costs: int) -> list[list[str]]:
    """Rows of published methods."""
    cells = []
    for method in dict.fromkeys(row["method"] for row in published):
        found = {row["split"]: row for row in published if row["method"] == method}
        errors = [f"{found[s][ENERGY]:g} / {found[s][FORCES]:g}" if s in found else "" for s in splits]
        cells.append([f"published: {method}", "", "", "", *errors, *[""] * n_costs])
    return cells


def table_lines(head: Sequence[str], body: Sequence[Sequence[str]]) -> list[str]:
    """A markdown table."""
    rule = ["---", *["---:"] * (len(head) - 1)]
    return [f"| {' | '.join(cells)} |" for cells in (head, rule, *body)]


def spread(group: Row, name: str, factor: float = 1.0) -> str:
    """A mean, with its spread where there is one, as "20.1 ± 0.3"."""
    if not is_number(group.get(name)):
        return ""
    mean, std = group[name] * factor, group.get(f"{name}_std")
    digits = 0 if abs(mean) >= 1000 else 1 if abs(mean) >= 10 else 2
    return f"{mean:.{digits}f}" + ("" if std is None else f" ± {std * factor:.{digits}f}")
