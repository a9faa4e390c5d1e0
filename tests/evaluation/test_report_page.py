"""The page of a report: complete, in one file, and what it shows is what was found."""

import base64
import csv
import io
import json
import re
import struct
from html.parser import HTMLParser
from pathlib import Path

import pytest
from matplotlib.image import imread
from rich.console import Console

from mace_gaunt.errors import UserError
from mace_gaunt.evaluation.html import Code, Image, Section, Table, Text, cell, facts, table_of, write_page
from mace_gaunt.evaluation.report import report
from mace_gaunt.evaluation.results import Extras, rebuild
from mace_gaunt.evaluation.several_models import write_comparison

VOID = {"meta", "link", "img", "br", "hr", "input"}


class Strict(HTMLParser):
    """Elements of a page: every one that is opened is closed, in order."""

    def __init__(self, text):
        super().__init__()
        self.open, self.headings, self.images, self.urls, self.ids = [], [], [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        if tag not in VOID:
            self.open.append(tag)
        if tag == "img":
            assert found["alt"]
            self.images.append(found["src"])
        self.ids += [found["id"]] if "id" in found else []
        self.urls += [found[name] for name in ("src", "href", "action", "data") if name in found]
        assert tag not in ("script", "iframe", "object", "embed") and not any(name.startswith("on") for name in found)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] == "h2":
            self.headings.append(data)


def read_page(path: Path) -> Strict:
    """A page that asks for nothing outside itself; its images are PNG files with pixels."""
    text = path.read_text(encoding="utf-8")
    page = Strict(text)
    assert all(url.startswith(("data:", "#")) for url in page.urls)
    assert {url[1:] for url in page.urls if url.startswith("#")} <= set(page.ids)
    assert not re.search(r"url\(|@import|https?://[^\s<]+\.(js|css|png)", text)
    for source in page.images:
        content = base64.b64decode(source.removeprefix("data:image/png;base64,"), validate=True)
        assert content[:8] == b"\x89PNG\r\n\x1a\n" and min(struct.unpack(">II", content[16:24])) > 300
        assert imread(io.BytesIO(content))[..., :3].std() > 0.02
    return page


@pytest.fixture
def run(tmp_path):
    """A run folder as a training leaves it, but for the model."""
    folder = tmp_path / "run"
    folder.mkdir()
    header = "epoch,step,seconds,train/loss,lr,valid/loss,valid/loss_energy,valid/energy_rmse_meV_per_atom"
    lines = [
        f"{epoch},{epoch},{2.5 * epoch},{9 / epoch},0.01,{5 / epoch},{4 / epoch},{8 / epoch}" for epoch in (1, 2, 3)
    ]
    (folder / "metrics.csv").write_text("\n".join([header, *lines]) + "\n")
    (folder / "config.yaml").write_text("seed: 7  # <the seed>\n")
    (folder / "run.json").write_text(json.dumps({"id": "x", "data_sha256": {"train.xyz": "abc123"}, "seed": 7}))
    return folder


def make(springs, splits, out, **settings):
    return report(springs, splits, out, progress=False, console=Console(file=io.StringIO()), **settings)


def test_a_report_in_one_file(springs, frames, run, tmp_path):
    about = {
        "model": "springs & co",
        "kernels": {"edge": "none"},
        "data_sha256": {"test.xyz": "fed"},
        "configuration": "a: 1",
    }
    splits = {"test_300K": frames, "mine<b>": frames[:1]}
    rows = make(springs, splits, run / "report", published=True, metrics_csv=run / "metrics.csv", about=about)
    page = read_page(run / "report" / "report.html")
    errors = ["Errors by split", "Parity", "Errors by element", "Errors by size of the force"]
    assert page.headings == [*errors, "Training", "Configuration and origin"]
    assert len(page.images) == 5
    text = (run / "report" / "report.html").read_text(encoding="utf-8")
    given = ["springs &amp; co", "mine&lt;b&gt;", "abc123", "data_sha256.test.xyz", "seed: 7  # &lt;the seed&gt;"]
    found = ["published, test_300K: MACE", cell(rows[0]["energy_rmse_meV"]), "1 of 3 frames have no forces"]
    for shown in given + found:
        assert shown in text
    written = json.loads((run / "report" / "report.json").read_text(encoding="utf-8"))
    assert written["rows"] == rows and written["about"] == about


def test_errors_by_element_and_size(springs, frames, tmp_path):
    make(springs, {"a": frames}, tmp_path / "out")
    with (tmp_path / "out" / "by_element.csv").open() as file:
        by_element = {row["element"]: row for row in csv.DictReader(file)}
    assert {name: int(row["n_atoms"]) for name, row in by_element.items()} == {"H": 3, "O": 2}
    assert all(float(row["forces_rmse_meV_A"]) == pytest.approx(5) for row in by_element.values())
    with (tmp_path / "out" / "by_force_size.csv").open() as file:
        by_size = list(csv.DictReader(file))
    assert sum(int(row["n_atoms"]) for row in by_size) == 5
    for row in by_size:
        high = float(row["to_eV_A"] or "inf")
        assert float(row["from_eV_A"]) <= float(row["reference_rms_meV_A"]) * 3**0.5 / 1000 <= high


def test_rebuilt_from_its_predictions(springs, frames, tmp_path):
    splits = {"a": frames, "b[::2]": frames[:2]}
    rows = make(springs, splits, tmp_path / "old")
    equivariance = json.loads((tmp_path / "old" / "report.json").read_text(encoding="utf-8"))["equivariance"]
    given = (tmp_path / "old", list(splits), Extras(equivariance=equivariance))
    assert rebuild(*given, tmp_path / "new", Console(file=io.StringIO())) == rows
    for name in ("metrics.csv", "by_element.csv", "by_force_size.csv", "report.json"):
        assert (tmp_path / "new" / name).read_bytes() == (tmp_path / "old" / name).read_bytes()
    read_page(tmp_path / "new" / "report.html")
    with pytest.raises(UserError, match=r"no predictions .*c\.npz"):
        rebuild(tmp_path / "old", ["c"], Extras(), tmp_path / "new", Console(file=io.StringIO()))


def test_several_models_side_by_side(springs, frames, tmp_path):
    rows = {name: make(springs, {"a": frames, "b": frames[:1]}, tmp_path / name) for name in ("one", "two")}
    console = Console(file=io.StringIO(), width=100)
    found = write_comparison(tmp_path, rows, {"one": {"kernels": {}}, "two": {"parameters": 7}}, False, console)
    assert [(row["split"], row["model"]) for row in found] == [("a", "one"), ("a", "two"), ("b", "one"), ("b", "two")]
    page = read_page(tmp_path / "report.html")
    assert page.headings == ["Errors by split", "Side by side", "Model one", "Model two"] and len(page.images) == 9
    assert (tmp_path / "metrics.csv").read_text().startswith("model,split,n_frames,")
    assert "two" in console.file.getvalue()


def test_pages_of_others(tmp_path):
    """What other verbs make pages of: any sections, of which empty ones are left out."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4, 4))
    figure.subplots().plot([0, 1], [1, 0], linewidth=8)
    FigureCanvasAgg(figure)
    figure.savefig(tmp_path / "a.png")
    rows = [{"a": 1.23456, "b": None}, {"a": 123456.7, "b": "x"}]
    parts = [
        Text(["one", "two"]),
        table_of(rows, {"a": "A", "b": "B"}),
        Image(tmp_path / "a.png", "a line"),
        Code("c", "d"),
    ]
    nothing = Section("empty", [])
    path = write_page(
        tmp_path / "page.html", "T", "S", [Section("first", parts), nothing, Section("more", facts({"x": {"y": 1}}))]
    )
    page, text = read_page(path), path.read_text(encoding="utf-8")
    assert page.headings == ["first", "more"] and "<td>1.235</td><td>-</td>" in text and "<td>123457</td>" in text
    assert "<td>x.y</td><td>1</td>" in text
    assert Table(["a"], [["b"]]).kind == "table"


def test_a_picture_that_is_not_there_leaves_no_page(tmp_path):
    with pytest.raises(FileNotFoundError):
        write_page(tmp_path / "page.html", "T", "S", [Section("a", [Image(tmp_path / "absent.png", "x")])])
    assert not list(tmp_path.iterdir())
