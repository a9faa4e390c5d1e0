"""From the counts of a file to its report: values, and what they say."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mace_gaunt.data.atomic_data import symbols
from mace_gaunt.data.inspection.compositions import CompositionFit
from mace_gaunt.data.inspection.file_report import FileReport
from mace_gaunt.data.inspection.outliers import HUGE_FORCE, Outlier, energy_outliers, force_outliers
from mace_gaunt.data.inspection.tally import FileTally, count_symbols, finite
from mace_gaunt.data.inspection.units import guess_units
from mace_gaunt.data.label_table import near_miss
from mace_gaunt.data.labels import QUANTITIES

NAMED = 5
"""Examples that a warning names."""
# Nearer than this part of the sum of covalent radii, atoms are inside each other (H2: 1.19, bonds: 0.85 to 1.1).
TOO_NEAR = 0.6
# Of a data set's own book-keeping; their names only look like labels.
BOOKKEEPING = {"energy_reference", "reference_energy", "relaxed_energy", "relaxed_positions", "free_energy"}
OTHER_LABELS = ("relaxed_energy", "relaxed_positions")


def summarise(path: str, file_format: str, tally: FileTally) -> FileReport:
    """Report on a file.

    Args:
        path: The file, as it was named.
        file_format: Its format.
        tally: Its counts.

    Returns:
        The report; `across` adds what concerns several files, duplicates among it.
    """
    labels = tally.labels.counts(path)
    counted = {quantity: labels.count(quantity) for quantity in QUANTITIES}
    counted |= {name: tally.counts[name] for name in OTHER_LABELS}
    report = FileReport(
        path=path,
        format=file_format,
        frames=tally.frames,
        usable=tally.frames - tally.bad,
        labels={name: n for name, n in counted.items() if n},
        label_places={quantity: places for quantity, places in labels.used.items() if places},
        problems=list(tally.problems),
        elements=count_symbols(tally.elements),
        atoms={**_range(tally, "n_atoms"), "total": tally.counts["n_atoms"]} if tally.sample.items else None,
        one_atom=tally.counts["one_atom"],
        periodic=tally.counts["periodic"],
        config_types={name: n for name, n in tally.config_types.items() if set(tally.config_types) != {"Default"}},
        energy_per_atom=_range(tally, "energy_per_atom") or None,
        forces=_forces(tally),
        distances=_distances(tally),
        edges=_edges(tally),
        tags={str(tag): n for tag, n in sorted(tally.tags.items())},
        fixed={"frames": tally.counts["fixed_frames"], "atoms": tally.counts["fixed_atoms"]},
        identifiers={name: tally.counts[name] for name in ("sid", "fid")},
        energy_reference=dict(tally.references),
        E0s=describe_fit(tally.fit),
    )
    if tally.bad > len(tally.problems):
        report.problems.append(f"{tally.bad - len(tally.problems)} more records that cannot be used")
    _add_outliers(report, tally)
    _add_units(report, tally)
    _warn_about_labels(report, tally)
    _warn_about_frames(report, tally)
    return report


def describe_fit(fit: CompositionFit) -> dict[str, Any] | None:
    """Elements of frames with an energy, rank of their compositions, and the elements that cannot be told apart."""
    if not fit.n_frames:
        return None
    free = fit.undetermined
    return {"elements": len(fit.elements), "rank": fit.rank, "undetermined": symbols(free).split(", ") if free else []}


def _range(tally: FileTally, name: str) -> dict[str, float]:
    """min, median and max of one of the measures; empty when no frame has it."""
    values = finite(
        getattr(frame, name) for frame in tally.sample.items if name != "energy_per_atom" or frame.n_atoms > 1
    )
    if name not in tally.least or not values:
        return {}
    return {"min": tally.least[name], "median": float(np.median(values)), "max": tally.most[name]}


def _forces(tally: FileTally) -> dict[str, Any] | None:
    if not (n := tally.counts["free_components"]):
        return None
    n_fixed = tally.counts["fixed_components"]
    frames = tally.sample.items
    return {
        "rms": float(np.sqrt(tally.sums["free_squares"] / n)),
        "rms_fixed": float(np.sqrt(tally.sums["fixed_squares"] / n_fixed)) if n_fixed else None,
        "median_max": float(np.median(finite(frame.max_force for frame in frames) or [np.nan])),
        "max": tally.most.get("max_force"),
        "median_net": float(np.median(finite(frame.net_force for frame in frames) or [np.nan])),
    }


def _distances(tally: FileTally) -> dict[str, Any] | None:
    nearest = [frame for _, frame in tally.nearest.items()]
    if not nearest:
        return None
    closest = [
        {"record": frame.index, "distance": frame.closest, "covalent_radii": frame.contact, "between": frame.between}
        for frame in nearest
    ]
    return {**_range(tally, "closest"), "closest": closest}


def _edges(tally: FileTally) -> dict[str, float] | None:
    if not (n_atoms := tally.counts["n_atoms"]):
        return None
    per_atom = tally.counts["n_edges"] / n_atoms
    return {"per_atom": per_atom, **_range(tally, "n_edges"), "frames_with_lone_atoms": tally.counts["alone"]}


def _add_outliers(report: FileReport, tally: FileTally) -> None:
    frames = tally.sample.items
    energies, forces = energy_outliers(frames, tally.fit), force_outliers(frames)
    known = {outlier.index for outlier in forces}
    strong = [(value, frame.index) for value, frame in tally.strongest.items() if value > HUGE_FORCE]
    forces += [Outlier(index, value, float("nan")) for value, index in strong if index not in known]
    for values, outliers, what, unit in (
        (report.energy_per_atom, energies, "energies far from the other frames'", "eV/atom"),
        (report.forces, forces, "forces far beyond the other frames'", "eV/Å"),
    ):
        if values is None:
            continue
        values["outliers"] = [{"record": o.index, "value": o.value, "spreads": _or_none(o.spreads)} for o in outliers]
        if outliers:
            named = name_some([f"record {o.index} ({o.value:+.3g} {unit})" for o in outliers])
            report.warnings.append(f"{len(outliers)} {what}: {named}")
    if not tally.sample.is_complete:
        report.notes.append(
            f"medians and outliers are of a random {len(frames)} of the {tally.sample.seen} frames; "
            "extremes and sums are of all"
        )


def _add_units(report: FileReport, tally: FileTally) -> None:
    guess = guess_units(tally.evidence())
    report.units = {
        "energy": guess.energy,
        "forces": guess.forces,
        "length": guess.length,
        "probability": guess.probability,
        "sure": guess.sureness,
        "reasons": guess.reasons,
    }
    if not guess.is_expected:
        report.warnings.append(f"units look like {guess}; eV, eV/Å and Å are expected. {'; '.join(guess.reasons)}")
    if guess.gradients:
        report.warnings.append("forces have the sign of gradients: forces = -dE/dr is expected")


def _warn_about_labels(report: FileReport, tally: FileTally) -> None:
    found = tally.labels.counts(report.path)
    for name, place in list(found.found):
        if name in BOOKKEEPING:
            del found.found[name, place]
    relaxed = report.labels.get("relaxed_energy", 0)
    for quantity, lacking in (("energy", tally.counts["no energy"]), ("forces", tally.counts["no forces"])):
        if lacking and getattr(tally.keys, quantity) is not None and relaxed != report.usable:
            report.warnings.append(f"{lacking} of {report.usable} frames have no {quantity}")
    partial = report.labels.get("stress", 0)
    if 0 < partial < report.usable:
        report.warnings.append(f"{report.usable - partial} of {report.usable} frames have no stress, the others have")
    for quantity in QUANTITIES:
        if getattr(tally.keys, quantity) is None or found.count(quantity):
            continue
        if (near := near_miss(found, tally.keys, quantity)) is not None:
            report.warnings.append(f"no {quantity}, but '{near}': if that is meant, set {quantity}_key={near}")
    told = {name: n for name, n in report.energy_reference.items() if name != "not told"}
    if len(told) > 1:
        report.warnings.append(f"energies of several references: {name_counts(told)}")


def _warn_about_frames(report: FileReport, tally: FileTally) -> None:
    near = [frame for _, frame in tally.nearest.items() if frame.contact < TOO_NEAR]
    if near:
        named = [f"record {f.index} ({f.between}: {f.contact:.2f} of the sum of covalent radii)" for f in near]
        report.warnings.append(f"atoms very near each other: {name_some(named)}")
    if report.edges and report.edges["frames_with_lone_atoms"]:
        n = report.edges["frames_with_lone_atoms"]
        report.notes.append(f"{n} frames have an atom without neighbours within {tally.r_max:g} Å")


def name_some(texts: Sequence[str]) -> str:
    """The first few, and how many more."""
    more = f" and {len(texts) - NAMED} more" if len(texts) > NAMED else ""
    return ", ".join(texts[:NAMED]) + more


def name_counts(counts: Mapping[str, int]) -> str:
    """ "a (3), b (4)"."""
    return ", ".join(f"{name} ({n})" for name, n in counts.items())


def _or_none(value: float) -> float | None:
    return value if np.isfinite(value) else None
