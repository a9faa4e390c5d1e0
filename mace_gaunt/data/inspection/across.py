"""What concerns several files: duplicates, leaks, elements not trained on, references and units that differ."""

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mace_gaunt.data.inspection.duplicates import Repeats
from mace_gaunt.data.inspection.file_report import FileReport
from mace_gaunt.data.inspection.report import Report
from mace_gaunt.data.inspection.splits import assign_roles, elements_only_tested
from mace_gaunt.data.inspection.summarise import name_counts, name_some


def add_duplicates(files: Sequence[FileReport], repeats: Sequence[Repeats], part: float) -> None:
    """Write the repeated frames into the reports of their files.

    Args:
        files: The reports.
        repeats: Of each file.
        part: Part of the frames in which repetitions were looked for.
    """
    for number, (file, found) in enumerate(zip(files, repeats, strict=True)):
        before: Counter[str] = Counter()
        for first, n in found.counts.items():
            before[files[first].path] += round(n / part) if first != number else 0
        other_energy = round(found.contradictions / part)
        file.duplicates = {
            "within": round(found.counts.get(number, 0) / part),
            "before": {path: n for path, n in before.items() if n},
            "other_energy": other_energy,
            "examples": [
                {
                    "record": index,
                    "of": files[first.file].path,
                    "of_record": first.index,
                    "energy_difference": float(difference) if np.isfinite(difference) else None,
                }
                for index, first, difference in found.examples
            ],
            "part": part,
        }
        _warn_about_duplicates(file)


def add_splits(report: Report, one_by_one: bool) -> None:
    """Write which files train and test, the elements that only test files have, and frames that both have.

    Args:
        report: The report of all files.
        one_by_one: Whether the user named each file: then the first is for training where no name tells.
    """
    folder = common_folder([file.path for file in report.files])
    roles, remark = assign_roles([file.path.removeprefix(folder) for file in report.files], one_by_one)
    by_path = {file.path: role for file, role in zip(report.files, roles, strict=True)}
    new = elements_only_tested(report.files, roles)
    report.splits = {"roles": {path: role for path, role in by_path.items() if role}, "elements_only_in_test": new}
    for path, elements in new.items():
        assumed = f" ({remark})" if remark else ""
        report.warnings.append(f"{path} has elements that no training file has: {', '.join(elements)}{assumed}")
    if remark is None:
        _warn_about_leaks(report, by_path)


def _warn_about_leaks(report: Report, roles: Mapping[str, str | None]) -> None:
    for file in report.files:
        before = file.duplicates["before"].items()
        shared = {path: n for path, n in before if {roles[path], roles[file.path]} == {"train", "test"}}
        if shared:
            report.warnings.append(f"training and test share frames: {file.path} has some of {name_counts(shared)}")


def warn_about_mixtures(report: Report) -> None:
    """Files whose energies have several references, or that look like several units."""
    told: Counter[str] = Counter()
    for file in report.files:
        told.update({name: n for name, n in file.energy_reference.items() if name != "not told"})
    if len(told) > 1:
        report.warnings.append(
            f"energies of several references: {name_counts(told)}. They cannot be trained on together: choose one"
        )
    for kind in ("energy", "length"):
        seen: dict[str, list[str]] = {}
        for file in report.files:
            if file.units.get(kind) and file.units["sure"] == "sure":
                seen.setdefault(file.units[kind], []).append(file.path)
        if len(seen) > 1:
            units = [f"{unit} ({name_some(paths)})" for unit, paths in seen.items()]
            report.warnings.append(f"files look like different units of {kind}: {', '.join(units)}")


def _warn_about_duplicates(file: FileReport) -> None:
    found: dict[str, Any] = file.duplicates
    total = found["within"] + sum(found["before"].values())
    if not total:
        return
    where = [f"{found['within']} within the file"] if found["within"] else []
    before = sorted(found["before"].items(), key=lambda item: -item[1])
    where += [f"{n} also in {path}" for path, n in before]
    estimate = "" if found["part"] == 1 else f" (estimated from {found['part']:g} of the frames)"
    example = found["examples"][0] if found["examples"] else None
    named = f"; record {example['record']} is record {example['of_record']} of {example['of']}" if example else ""
    file.warnings.append(f"{total} repeated frames: {name_some(where)}{estimate}{named}")
    if found["other_energy"]:
        file.warnings.append(
            f"{found['other_energy']} repeated frames have another energy than before{_difference(found)}"
        )


def _difference(found: dict[str, Any]) -> str:
    differences = [e["energy_difference"] for e in found["examples"] if e["energy_difference"]]
    return f", by {differences[0]:+.6g} eV for one" if differences else ""


def common_folder(paths: Sequence[str]) -> str:
    """The part of the paths that is common to all, up to a slash; of a single one, its folder."""
    folders = [os.path.dirname(path) for path in paths]
    common = os.path.commonpath(folders) if len({os.path.isabs(folder) for folder in folders}) == 1 else ""
    return f"{common}/" if common else ""
