"""A report as text: two tables, a few lines about all files, then notes, warnings and problems."""

import textwrap
from collections import Counter
from collections.abc import Sequence
from typing import Any

from mace_gaunt.data.inspection.across import common_folder
from mace_gaunt.data.inspection.file_report import FileReport
from mace_gaunt.data.inspection.report import Report
from mace_gaunt.data.inspection.summarise import name_counts, name_some
from mace_gaunt.data.label_table import format_rows

MAX_FILES = 40
"""Files that the tables list."""
MAX_TEXTS = 40
"""Notes, warnings and problems that are printed, each; JSON has all."""
WIDTH = 120
LABELS = ("energy", "forces", "stress")
# Paths are not broken.
UNBROKEN: dict[str, Any] = {"break_long_words": False, "break_on_hyphens": False}


def format_report(report: Report) -> str:
    """The text that `mace-gaunt data inspect` prints.

    Args:
        report: The report.

    Returns:
        Lines, without an end.
    """
    folder = common_folder([file.path for file in report.files])
    files = [(file.path.removeprefix(folder), file) for file in report.files]
    parts = [
        format_rows(("file", "format", "frames", *LABELS, "others"), [_labels(*file) for file in files[:MAX_FILES]]),
        format_rows(
            ("file", "atoms", "eV/atom", "rms eV/Å", "max eV/Å", "nearest Å", "edges/atom", "edges/frame"),
            [_values(*file) for file in files[:MAX_FILES]],
        ),
    ]
    if len(files) > MAX_FILES:
        parts.append(f"... and {len(files) - MAX_FILES} more files; json=OUT lists all")
    parts.append("\n".join(line for name, text in _totals(report) for line in _wrapped(name, text)))
    notes, warnings, problems = (
        [(name, getattr(file, kind)) for name, file in files] for kind in ("notes", "warnings", "problems")
    )
    for title, found, common in (
        ("notes", notes, report.notes),
        ("warnings", warnings, report.warnings),
        ("problems", problems, []),
    ):
        if lines := _by_file(found, common, folder):
            parts.append("\n".join([f"{title}:", *lines]))
    return "\n\n".join(parts)


def _labels(name: str, file: FileReport) -> tuple[str, ...]:
    counts = {label: n for label, n in (file.labels | file.identifiers).items() if n and label not in LABELS}
    others = [label if n == file.frames else f"{n} {label}" for label, n in counts.items()]
    others += [f"{told} energies" for told in file.energy_reference if told != "not told"]
    others += [f"{file.fixed['atoms']} fixed atoms"] if file.fixed.get("atoms") else []
    labels = (str(file.labels.get(label, "-")) for label in LABELS)
    return name, file.format, str(file.frames), *labels, ", ".join(others) or "-"


def _values(name: str, file: FileReport) -> tuple[str, ...]:
    atoms, energy, forces, edges = file.atoms, file.energy_per_atom, file.forces, file.edges
    return (
        name,
        _span(atoms["min"], atoms["max"], "{:.0f}") if atoms else "-",
        _span(energy["min"], energy["max"], "{:.3f}", " to ") if energy else "-",
        f"{forces['rms']:.3f}" if forces else "-",
        f"{forces['max']:.1f}" if forces and forces["max"] is not None else "-",
        f"{file.distances['min']:.2f}" if file.distances else "-",
        f"{edges['per_atom']:.1f}" if edges else "-",
        _span(edges["min"], edges["max"], "{:.0f}") if edges else "-",
    )


def _span(low: float, high: float, form: str, between: str = "-") -> str:
    first, last = form.format(low), form.format(high)
    return first if first == last else f"{first}{between}{last}"


def _totals(report: Report) -> list[tuple[str, str]]:
    """What holds for all files: name and text."""
    bad = report.frames - sum(file.usable for file in report.files)
    elements = " ".join(f"{symbol}:{count}" for symbol, count in report.elements.items())
    lines = [
        ("frames", f"{report.frames} in {_files(len(report.files))}, {bad} cannot be used{_unread(report)}"),
        ("atoms", elements or "none"),
        ("tags", _tags(report)),
        ("fixed", _fixed(report)),
        ("units", _units(report)),
        ("E0s", _reference_energies(report)),
        ("batches", _batches(report)),
        ("diversity", _diversity(report)),
    ]
    return [(name, text) for name, text in lines if text]


def _unread(report: Report) -> str:
    unread = sum(bool(file.problems) and not file.frames for file in report.files)
    return f"; {_files(unread)} cannot be read" if unread else ""


def _tags(report: Report) -> str:
    tags: Counter[str] = Counter()
    for file in report.files:
        tags.update(file.tags)
    return name_counts(tags)


def _fixed(report: Report) -> str:
    rms = [file.forces["rms_fixed"] for file in report.files if file.forces and file.forces["rms_fixed"]]
    atoms = sum(file.fixed.get("atoms", 0) for file in report.files)
    if not rms:
        return f"{atoms} atoms" if atoms else ""
    size = _span(min(rms), max(rms), "{:.2f}", " to ")
    return f"{atoms} atoms; they carry forces in {_files(len(rms))} (rms {size} eV/Å): forces_mask=free leaves them out"


def _units(report: Report) -> str:
    """Each guess once, with the number of files."""
    seen: Counter[str] = Counter()
    for file in report.files:
        if not file.units:
            continue
        units = [file.units[kind] for kind in ("energy", "forces", "length") if file.units[kind]]
        sure = f" ({file.units['sure']})" if file.units["energy"] or file.units["forces"] else ""
        seen[", ".join(units) + sure if units else "nothing tells"] += 1
    if len(seen) <= 1:
        return next(iter(seen), "")
    return "; ".join(f"{guess} in {_files(n)}" for guess, n in seen.most_common())


def _reference_energies(report: Report) -> str:
    if report.E0s is None:
        return ""
    fit = report.E0s
    told = f"{fit['rank']} independent compositions for {fit['elements']} elements: E0s=regress "
    return told + (f"cannot determine {name_some(fit['undetermined'])}" if fit["undetermined"] else "can determine all")


def _batches(report: Report) -> str:
    if report.batch is None:
        return ""
    batch = report.batch
    usual = f"about {batch['frames_per_batch']:.0f} frames; " if batch["frames_per_batch"] else ""
    return (
        f"max_edges_per_batch={batch['max_edges_per_batch']} at r_max={report.r_max:g}: {usual}the largest frame has "
        f"{batch['largest_frame']} edges, {batch['memory_GB']:g} GB hold about {batch['memory_edges']}"
    )


def _diversity(report: Report) -> str:
    if report.vendi is None:
        return ""
    scores = dict(report.vendi["scores"])
    n, of = report.vendi["frames"], report.vendi["of"]
    among = f"{n} frames" if n == of else f"a sample of {n} of {of} frames"
    orders = ", ".join(f"q={order}: {value:.1f}" for order, value in scores.items() if order != "1")
    return f"{scores['1']:.1f} effectively distinct among {among} (Vendi score, q=1; {orders})"


def _files(n: int) -> str:
    return f"{n} file{'' if n == 1 else 's'}"


def _by_file(found: Sequence[tuple[str, Sequence[str]]], common: Sequence[str], folder: str) -> list[str]:
    """Lines below the file they are about, what is common to all first; of one file without its name.

    The folder of all files is left out of the texts.
    """
    texts = [("", text) for text in common] + [
        (name if len(found) > 1 else "", text) for name, texts in found for text in texts
    ]
    lines: list[str] = []
    last = ""
    for name, text in texts[:MAX_TEXTS]:
        lines += [f"  {name}"] if name != last else []
        short = text.replace(folder, "") if folder else text
        lines += textwrap.wrap(
            short, WIDTH, initial_indent="    " if name else "  ", subsequent_indent="      ", **UNBROKEN
        )
        last = name
    more = len(texts) - MAX_TEXTS
    return lines + ([f"  ... and {more} more; json=OUT lists all"] if more > 0 else [])


def _wrapped(name: str, text: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent=f"{name:10}  ", subsequent_indent=" " * 12, **UNBROKEN)
