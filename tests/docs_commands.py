"""What the fenced blocks of the documentation hold that can be run: commands of the shell, and Python."""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "data" / "README.md", *sorted(ROOT.glob("docs/*.md"))]
BLOCK = re.compile(r"^```(?P<language>\w*)[^\n]*\n(?P<text>.*?)^```", re.MULTILINE | re.DOTALL)
SHELLS = ("", "bash", "sh", "shell", "console")
PYTHON = re.compile(r"^python -c (?=[\"'])")


@dataclass(frozen=True)
class Command:
    """A `mace-gaunt` command of a page, and the configuration files that the page shows."""

    page: Path
    text: str
    files: tuple[tuple[str, str], ...] = ()

    @property
    def words(self) -> list[str]:
        """What follows `mace-gaunt`, also behind `mpirun` or variables, without a comment."""
        words = shlex.split(self.text, comments=True)
        return words[words.index("mace-gaunt") + 1 :]


@dataclass(frozen=True)
class Snippet:
    """Python of a page, from a block of its own or after `python -c`."""

    page: Path
    text: str


def steps_of(page: Path) -> list[Command | Snippet]:
    """What a page has a reader run, in its order."""
    text, found, files = page.read_text(encoding="utf-8"), [], {}
    for block in BLOCK.finditer(text):
        if block["language"] in ("yaml", "yml"):
            named = re.findall(r"`([\w./-]+\.ya?ml)`", text[: block.start()])
            if named:
                files[named[-1]] = block["text"]
        if block["language"] == "python":
            found.append((Snippet, block["text"]))
        if block["language"] in SHELLS:
            found += [
                (kind, line) for line in block["text"].replace("\\\n", " ").splitlines() if (kind := kind_of(line))
            ]
    shown = tuple(files.items())
    return [
        Command(page, line.strip(), shown)
        if kind is Command
        else Snippet(page, shlex.split(line)[2] if PYTHON.match(line) else line)
        for kind, line in found
    ]


def kind_of(line: str) -> type[Command] | type[Snippet] | None:
    """What a line of a shell's block is, None for all that is not run here."""
    if PYTHON.match(line):
        return Snippet
    called = re.search(r"(^|\s)mace-gaunt\s", line.split(" #")[0])
    return Command if called and not line.strip().startswith("#") else None


def commands_of(page: Path) -> list[Command]:
    """The commands of a page alone."""
    return [step for step in steps_of(page) if isinstance(step, Command)]


COMMANDS = [command for page in PAGES for command in commands_of(page)]
