"""A comparison as one page."""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mace_gaunt.comparison.plots import COSTS
from mace_gaunt.comparison.tables import WHAT, Row, summary_cells
from mace_gaunt.evaluation.html import Code, Image, Part, Section, Table, Text, facts, table_of, write_page

PAGE = "report.html"
CURVES = "learning_curves.png"
MEMBERS = {
    "member": "member",
    "state": "state",
    "epochs": "epochs",
    "training_s": "training (s)",
    "parameters": "parameters",
    "error": "error",
}


def write_comparison_page(
    folder: Path, settings: Mapping[str, Any], rows: Sequence[Row], published: Sequence[Row]
) -> Path:
    """Write report.html from the tables and the plots that lie in the folder.

    Args:
        folder: Of the comparison.
        settings: The content of compare.json.
        rows: From `tables.make_rows`.
        published: From `tables.published_of`.

    Returns:
        The page.
    """
    head, body = summary_cells(rows, published)
    conditions = Text([str(settings["conditions"]), "Mean and standard deviation over the seeds."], note=True)
    plots: list[Part] = [
        Image(path, f"Errors of every split against {label}")
        for name, (_, label, _) in COSTS.items()
        if (path := folder / f"frontier_{name}.png").is_file()
    ]
    curves: list[Part] = [
        Image(path, "Validation errors of every member while training") for path in [folder / CURVES] if path.is_file()
    ]
    about = {key: settings[key] for key in ("started", "parallel", "threads", "hardware", "versions", "git")}
    sections = [
        Section("Summary", [Table(head, body, WHAT), conditions]),
        Section("Errors against costs", plots),
        Section("While training", curves),
        Section("Members", [table_of(rows, MEMBERS)]),
        Section("Origin", [*facts(about), Code("the command", shlex.join(settings["command"]))]),
    ]
    return write_page(folder / PAGE, f"Comparison {folder.name}", f"Compared at {settings['title']}", sections)
