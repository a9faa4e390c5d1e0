"""The page of a report: what is shown in which section."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mace_gaunt.evaluation.dihedrals import slice_errors
from mace_gaunt.evaluation.equivariance import ENERGY, FORCES
from mace_gaunt.evaluation.html import FILE, Code, Image, Part, Section, Table, Text, cell, facts, table_of, write_page
from mace_gaunt.evaluation.learning_curves import last_row
from mace_gaunt.evaluation.metrics import missing_labels
from mace_gaunt.evaluation.oc20_report import HEADINGS as OC20_HEADINGS
from mace_gaunt.evaluation.published import published_rows, sources
from mace_gaunt.evaluation.published_oc20 import published_s2ef, s2ef_sources
from mace_gaunt.evaluation.run_facts import RunFacts
from mace_gaunt.evaluation.tables import HEADINGS

EQUIVARIANCE = {ENERGY: "E equivariance\nmeV", FORCES: "F equivariance\nmeV/Å"}
FORCE_HEADINGS = {
    "n_atoms": "atoms",
    "forces_rmse_meV_A": "F RMSE\nmeV/Å",
    "forces_mae_meV_A": "F MAE\nmeV/Å",
    "reference_rms_meV_A": "rms of the reference\nmeV/Å",
}
BY_ELEMENT = {"split": "split", "element": "element", **FORCE_HEADINGS}
BY_SIZE = {"split": "split", "from_eV_A": "from\neV/Å", "to_eV_A": "to\neV/Å", **FORCE_HEADINGS}
SLICES = {"slice": "slice", "n_frames": "frames", "rmse_meV": "RMSE\nmeV", "n_low": "below 0.5 eV",
          "low_rmse_meV": "RMSE of these\nmeV"}  # fmt: skip
RMSE_NOTE = "RMSE and MAE over all frames; energies are totals, forces per component."
EQUIVARIANCE_NOTE = (
    "Equivariance: the largest change of an energy, and of a force component, under a random rotation, with reflection "
    "in every other frame, and a random order of the atoms; in float64."
)


@dataclass(frozen=True)
class Found:
    """The figures of a report.

    Attributes:
        rows: One per split, of `ErrorSums.row` and `equivariance_errors`.
        by_element: Of `Breakdown.by_element`.
        by_size: Of `Breakdown.by_size`.
        oc20: Of `oc20_rows`; empty where they are not shown.
        published: Whether the published 3BPA errors are shown.
        about: With what and on what was evaluated.
        run: Of the training.
    """

    rows: list[dict[str, Any]]
    by_element: list[dict[str, Any]]
    by_size: list[dict[str, Any]]
    oc20: list[dict[str, Any]]
    published: bool
    about: Mapping[str, Any]
    run: RunFacts


@dataclass(frozen=True)
class Drawn:
    """The plots of a report; None and nothing where there was nothing to draw.

    Attributes:
        parity: By split.
        by_element: Force errors by element.
        by_size: Force errors by size of the force.
        dihedrals: CSV files of dihedral slices by split; the plots lie beside them.
        training: Curves of the training.
    """

    parity: Mapping[str, Path] = field(default_factory=dict)
    by_element: Path | None = None
    by_size: Path | None = None
    dihedrals: Mapping[str, Path] = field(default_factory=dict)
    training: Path | None = None


def write_report_page(folder: Path, found: Found, drawn: Drawn) -> Path:
    """Write report.html: one file that needs nothing beside it.

    Args:
        folder: Of the report.
        found: The figures.
        drawn: The plots.

    Returns:
        The file.
    """
    run = found.run.metrics_csv.resolve().parent.name if found.run.metrics_csv else folder.resolve().name
    model = found.about.get("model") or run
    when = found.about.get("evaluated") or found.run.record.get("finished") or ""
    n_frames = sum(row["n_frames"] for row in found.rows)
    subtitle = f"{n_frames} frames in {len(found.rows)} splits" + (f", {when}" if when else "")
    return write_page(folder / FILE, f"Errors of {model}", subtitle, sections_of(found, drawn))


def sections_of(found: Found, drawn: Drawn) -> list[Section]:
    """All sections of a report; those without content are empty.

    Args:
        found: The figures.
        drawn: The plots.
    """
    by_element: list[Part] = [*_images(drawn.by_element, "Force RMSE by element")]
    by_size: list[Part] = [*_images(drawn.by_size, "Force RMSE against the length of the reference force")]
    if found.by_element:
        by_element.append(table_of(found.by_element, BY_ELEMENT))
    if found.by_size:
        by_size.append(table_of(found.by_size, BY_SIZE))
    return [
        Section("Errors by split", errors_by_split(found.rows, found.published)),
        Section("OC20 metrics", oc20_parts(found.oc20)),
        Section("Parity", parity_parts(drawn.parity)),
        Section("Errors by element", by_element),
        Section("Errors by size of the force", by_size),
        Section("Dihedral slices of 3BPA", dihedral_parts(drawn.dihedrals)),
        Section("Training", training_parts(found.run, drawn.training)),
        Section("Configuration and origin", origin_parts(found.about, found.run)),
    ]


def errors_by_split(rows: list[dict[str, Any]], published: bool, extra: Mapping[str, str] | None = None) -> list[Part]:
    """The table of splits, published rows below those they belong to, and what labels are missing.

    Args:
        rows: One per split.
        published: Whether the published 3BPA errors are shown.
        extra: Columns after the split, name -> heading.
    """
    measured = {name: text for name, text in EQUIVARIANCE.items() if any(row.get(name) is not None for row in rows)}
    headings = {"split": HEADINGS["split"], **(extra or {}), **HEADINGS, **measured}
    cells: list[list[str]] = []
    quiet: set[int] = set()
    for index, row in enumerate(rows):
        cells.append([cell(row.get(name)) for name in headings])
        last = index + 1 == len(rows) or rows[index + 1]["split"] != row["split"]
        for paper in published_rows(row["split"]) if published and last else []:
            values = {"split": f"published, {paper.split}: {paper.method}"}
            values["energy_rmse_meV"] = "±".join(map(str, paper.energy))
            values["forces_rmse_meV_A"] = "±".join(map(str, paper.forces))
            quiet.add(len(cells))
            cells.append([values.get(name, "") for name in headings])
    notes = [
        RMSE_NOTE,
        *([EQUIVARIANCE_NOTE] if measured else []),
        *(line for row in rows for line in missing_labels(row)),
    ]
    if quiet:
        notes += [f"Published: {source}" for source in sources()]
    return [Table(list(headings.values()), cells, quiet=frozenset(quiet)), Text(notes, note=True)]


def oc20_parts(rows: list[dict[str, Any]]) -> list[Part]:
    """OC20's metrics, the published means below them.

    Args:
        rows: Of `oc20_rows`.
    """
    if not rows:
        return []
    papers = published_s2ef()
    own = [[cell(row.get(name)) for name in OC20_HEADINGS] for row in rows]
    theirs = [[cell(row.get(name)) for name in OC20_HEADINGS] for row in papers]
    quiet = frozenset(range(len(own), len(own) + len(theirs)))
    caption = "Forces of free atoms; E within 0.02 eV, F within 0.03 eV/Å. Grey: published means over the four splits."
    table = Table(list(OC20_HEADINGS.values()), own + theirs, caption, quiet)
    return [table, Text([f"Published: {line}" for line in s2ef_sources()], note=True)]


def parity_parts(files: Mapping[str, Path]) -> list[Part]:
    """The parity plots.

    Args:
        files: By split.
    """
    return [Image(file, f"Predicted against reference energies and forces of {split}") for split, file in files.items()]


def dihedral_parts(files: Mapping[str, Path]) -> list[Part]:
    """Errors and maps of the dihedral slices.

    Args:
        files: CSV files by split; the plots lie beside them.
    """
    if not files:
        return []
    rows = [{"slice": split, **slice_errors(file)} for split, file in files.items()]
    caption = "Energies relative to the reference's lowest structure of the slice, which is right by definition."
    images = [Image(file.with_suffix(".png"), f"Energies of {split} over α and γ") for split, file in files.items()]
    return [table_of(rows, SLICES, caption), *images]


def training_parts(run: RunFacts, curves: Path | None) -> list[Part]:
    """Curves and last values of a training.

    Args:
        run: Of the training.
        curves: The plot.
    """
    if curves is None or run.metrics_csv is None:
        return []
    last = last_row(run.metrics_csv)
    return [
        Image(curves, "Losses, validation errors, learning rate and time per epoch against the epoch"),
        *facts(last, "Last values of metrics.csv"),
    ]


def origin_parts(about: Mapping[str, Any], run: RunFacts) -> list[Part]:
    """With what and on what was trained and evaluated: data hashes, kernels, versions, hardware, configuration.

    Args:
        about: Of the evaluation.
        run: Of the training.
    """
    said = {name: value for name, value in about.items() if name != "configuration"}
    parts: list[Part] = [*facts(said, "Evaluation"), *facts(run.record, "Training (run.json)")]
    for title, text in (
        ("Configuration of the evaluation", about.get("configuration")),
        ("Configuration of the training (config.yaml)", run.configuration),
    ):
        if text:
            parts.append(Code(title, str(text)))
    return parts


def _images(path: Path | None, alt: str) -> list[Image]:
    return [] if path is None else [Image(path, alt)]
