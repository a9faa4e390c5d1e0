"""The documentation site: every page in its place, what is generated up to date, and it builds without a warning."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from mace_gaunt.cli.main import main
from mace_gaunt.cli.reference import library_versions, reference_page

ROOT = Path(__file__).resolve().parents[1]
MESSAGE = re.compile(r"^```text\n> mace-gaunt (.*)\n(error: .*)\n```", re.MULTILINE)
MESSAGES = MESSAGE.findall((ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8"))


def pages_of(entry):
    """The files below an entry of the navigation."""
    if isinstance(entry, str):
        return [entry]
    return [page for part in (entry.values() if isinstance(entry, dict) else entry) for page in pages_of(part)]


def test_every_page_has_its_place():
    settings = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    placed = pages_of(settings["nav"])
    assert len(placed) == len(set(placed))
    assert set(placed) == {path.name for path in (ROOT / "docs").glob("*.md")}
    assert settings["strict"] is True


def test_the_reference_is_up_to_date():
    text, page = reference_page(), (ROOT / "docs" / "reference.md").read_text(encoding="utf-8")
    if library_versions() in page:
        assert page == text, "run python scripts/make_reference.py"
    for key in ("model.num_channels", "trainer.max_epochs", "optimizer.amsgrad", "data.batch_size", "equivariance"):
        assert f"| `{key}` |" in text
    assert not re.search(r"0x[0-9a-f]{6}|/home/|/root", text)


def test_messages_are_there():
    assert len(MESSAGES) > 15


@pytest.mark.parametrize(("words", "message"), MESSAGES, ids=[words for words, _ in MESSAGES])
def test_messages_are_what_the_program_says(words, message, monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MACE_GAUNT_DATA", raising=False)
    assert main(words.split()) == 2
    assert capsys.readouterr().err.strip() == message


@pytest.mark.slow
def test_the_site_builds_without_a_warning(tmp_path):
    pytest.importorskip("material", reason="the site needs the extra docs")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--config-file", str(ROOT / "mkdocs.yml")]
    done = subprocess.run([*command, "--site-dir", str(tmp_path / "site")], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for name in ("index.html", "reference.html", "troubleshooting.html"):
        text = (tmp_path / "site" / name).read_text(encoding="utf-8")
        # Nothing that a reader's browser would fetch from elsewhere.
        assert not re.search(r'<(?:script|img|link rel="stylesheet")[^>]*(?:src|href)="(?:https?:)?//', text)
