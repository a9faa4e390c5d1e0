"""Self-contained HTML pages: sections of text, tables and images, readable from disk and without a network."""

import base64
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined

from mace_gaunt.files import write_whole

FILE = "report.html"


@dataclass(frozen=True)
class Text:
    """Paragraphs.

    Attributes:
        lines: One paragraph each; plain text.
        note: Whether they are set small, as a remark.
    """

    lines: Sequence[str]
    note: bool = False
    kind: str = field(default="text", init=False)


@dataclass(frozen=True)
class Table:
    """A table; the first column names the row.

    Attributes:
        headings: Of the columns, with units.
        rows: Cells as text, as many as headings.
        caption: What it shows.
        quiet: Indices of rows that are set back, such as published ones.
    """

    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str = ""
    quiet: frozenset[int] = frozenset()
    kind: str = field(default="table", init=False)


@dataclass(frozen=True)
class Image:
    """A PNG file, which is written into the page.

    Attributes:
        path: The file.
        alt: What it shows, for those who cannot see it.
        caption: Below the image.
    """

    path: Path
    alt: str
    caption: str = ""
    kind: str = field(default="image", init=False)

    @property
    def data(self) -> str:
        """The file as a data URL."""
        return f"data:image/png;base64,{base64.b64encode(self.path.read_bytes()).decode('ascii')}"


@dataclass(frozen=True)
class Code:
    """Text that keeps its lines, folded away.

    Attributes:
        title: What is unfolded.
        text: The lines.
    """

    title: str
    text: str
    kind: str = field(default="code", init=False)


Part = Text | Table | Image | Code


@dataclass(frozen=True)
class Section:
    """A part of a page with a heading.

    Attributes:
        title: The heading.
        parts: What stands below it.
    """

    title: str
    parts: Sequence[Part]


def write_page(path: str | Path, title: str, subtitle: str, sections: Iterable[Section]) -> Path:
    """Write a page. Sections without parts are left out.

    Args:
        path: The HTML file; it appears when it is complete.
        title: Heading of the page.
        subtitle: A line below it.
        sections: In their order.

    Returns:
        The file as a path.
    """
    path = Path(path)
    template = resources.files("mace_gaunt.evaluation").joinpath("page.html.jinja").read_text(encoding="utf-8")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    shown = [section for section in sections if section.parts]
    write_whole(path, environment.from_string(template).render(title=title, subtitle=subtitle, sections=shown))
    return path


def table_of(
    rows: Sequence[Mapping[str, Any]], headings: Mapping[str, str], caption: str = "", digits: int = 4
) -> Table:
    """Rows of a CSV file as a table.

    Args:
        rows: One mapping per row; a missing or None value is shown as "-".
        headings: Key -> heading, in the order of the columns.
        caption: What it shows.
        digits: Significant digits of floats.

    Returns:
        The table.
    """
    cells = [[cell(row.get(name), digits) for name in headings] for row in rows]
    return Table(list(headings.values()), cells, caption)


def cell(value: Any, digits: int = 4) -> str:
    """A value as text.

    Args:
        value: Anything; None is "-".
        digits: Significant digits of floats.
    """
    if value is None or value == "":
        return "-"
    if isinstance(value, float):
        return f"{value:.0f}" if abs(value) >= 10**digits else f"{value:.{digits}g}"
    return str(value)


def facts(pairs: Mapping[str, Any], caption: str = "") -> list[Table]:
    """Names and values as a table of two columns; none where there are no pairs.

    Args:
        pairs: Name -> value; nested mappings are written as name.name.
        caption: What it shows.
    """
    rows = [[name, cell(value)] for name, value in _flat(pairs)]
    return [Table(["", ""], rows, caption)] if rows else []


def _flat(pairs: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for name, value in pairs.items():
        if isinstance(value, Mapping):
            found += _flat(value, f"{prefix}{name}.")
        else:
            text = ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else value
            found.append((f"{prefix}{name}", text))
    return found
