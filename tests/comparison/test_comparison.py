"""Members, budgets, slots, tables and plots of a comparison, on run folders written by hand."""

import csv
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mace_gaunt.comparison import local
from mace_gaunt.comparison.budget import read_budget, tell_seconds
from mace_gaunt.comparison.members import (
    ABSENT,
    FINISHED,
    UNFINISHED,
    Member,
    errors_of,
    reason_of_failure,
    state_of,
    training_seconds,
)
from mace_gaunt.comparison.page import write_comparison_page
from mace_gaunt.comparison.plots import COLOURS, ORDER, plot_curves, plot_frontiers, style_of
from mace_gaunt.comparison.tables import (
    make_rows,
    markdown,
    published_of,
    splits_of,
    summarize,
    write_frontier_json,
)
from mace_gaunt.errors import UserError
from mace_gaunt.files import write_csv

SPEED = {"step_ms": 12.0, "infer_ms": 3.0, "md_steps_per_s": 250.0, "step_memory_MB": 40.0, "parameters": 1000}


def make_member(folder: Path, family: str, seed: int, **others) -> Member:
    return Member({"tensor_product": family, "seed": seed, **others}, folder)


def finish(member: Member, forces: float, seconds: float = 600.0) -> Member:
    """Write what a training leaves: errors grow with the temperature, the energy of `hot` has no labels."""
    (member.path / "report").mkdir(parents=True)
    (member.path / "run.json").write_text(json.dumps({"finished": "2026-01-01T00:00:00+00:00", "epochs": 40}))
    errors = [["valid", 4, forces / 2, forces], ["test_300K", 5, forces / 2, forces], ["hot", 5, "", 3 * forces]]
    with (member.path / "report" / "metrics.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["split", "n_frames", "energy_rmse_meV", "forces_rmse_meV_A"], *errors])
    curve = [["epoch", "seconds", "valid/forces_rmse_meV_A", "valid/energy_rmse_meV"]]
    curve += [[20, seconds / 2, 2 * forces, forces], [40, seconds, forces, forces / 2]]
    with (member.path / "metrics.csv").open("w", newline="") as file:
        csv.writer(file).writerows(curve)
    return member


@pytest.fixture
def members(tmp_path):
    """Two families with two seeds, a third with one that failed, one that was never begun."""
    done = [finish(make_member(tmp_path, "gaunt", seed), 20.0 + seed) for seed in (0, 1)]
    done += [finish(make_member(tmp_path, "clebsch_gordan", seed), 30.0 + 2 * seed, 660.0) for seed in (0, 1)]
    failed = make_member(tmp_path, "matrix", 0)
    failed.log.parent.mkdir(parents=True, exist_ok=True)
    failed.log.write_text("reading\nerror: the training loss is nan\n")
    return [*done, failed, make_member(tmp_path, "gaunt", 2)]


def test_names_and_states(members, tmp_path):
    assert [member.name for member in members[:2]] == ["gaunt-seed_0", "gaunt-seed_1"]
    wide = make_member(tmp_path, "gaunt", 0, **{"model.num_channels": 32, "data.test": "[a,b]"})
    assert wide.group == "gaunt, num_channels 32, test [a,b]" and wide.name == "gaunt-num_channels_32-test_a_b-seed_0"
    assert [state_of(member) for member in members] == [FINISHED] * 4 + [ABSENT] * 2
    (members[-1].path / "checkpoints").mkdir(parents=True)
    (members[-1].path / "checkpoints" / "last.ckpt").touch()
    assert state_of(members[-1]) == UNFINISHED
    assert training_seconds(members[2]) == 660 and errors_of(members[0])["hot"]["energy_rmse_meV"] is None
    assert reason_of_failure(members[4]) == "the training loss is nan"
    assert reason_of_failure(members[5]) == "it ended without a word"


def test_rows_and_summary(members, tmp_path):
    rows = make_rows(members, ["matrix-seed_0"], {"gaunt": SPEED})
    assert splits_of(rows) == ["valid", "test_300K", "hot"]
    assert [row["state"] for row in rows] == [FINISHED] * 4 + ["failed", ABSENT]
    assert rows[0]["forces_rmse_meV_A/hot"] == 60.0 and rows[0]["energy_rmse_meV/hot"] is None
    assert rows[0]["step_ms"] == 12.0 and rows[2]["step_ms"] is None and rows[4]["error"] == "the training loss is nan"
    gaunt, other = summarize(rows)
    assert (gaunt["n"], gaunt["forces_rmse_meV_A/test_300K"]) == (2, 20.5)
    assert gaunt["forces_rmse_meV_A/test_300K_std"] == pytest.approx(0.5**0.5)
    assert "step_ms_std" not in gaunt and "step_ms" not in other and "energy_rmse_meV/hot" not in gaunt
    assert summarize(rows[:1])[0]["n"] == 1 and "training_s_std" not in summarize(rows[:1])[0]
    write_csv(tmp_path / "frontier.csv", rows)
    with (tmp_path / "frontier.csv").open(newline="") as file:
        assert [row["member"] for row in csv.DictReader(file)] == [member.name for member in members]


def test_the_summary_in_words(members):
    rows = make_rows(members, ["matrix-seed_0"], {"gaunt": SPEED})
    text = markdown(rows, published_of(splits_of(rows)), read_budget("10min", None).title, "")
    assert "equal time: 10 min" in text
    assert "| gaunt | 2 | 40.0 ± 0.0 | 10.0 ± 0.0 | 10.2 ± 0.4 / 20.5 ± 0.7 |" in text.replace("10.25", "10.2")
    assert "| published: MACE L=2 |  |  |  |  | 3 / 8.8 |  |" in text
    assert "- matrix-seed_0: failed the training loss is nan" in text and "- gaunt-seed_2: absent" in text
    assert len({line.count("|") for line in text.splitlines() if line.startswith("|")}) == 1


def test_plots_of_what_is_there(members, tmp_path):
    rows = make_rows(members, [], {"gaunt": SPEED, "clebsch_gordan": SPEED})
    published = published_of(splits_of(rows))
    files = plot_frontiers(rows, published, "equal time", tmp_path)
    names = [
        "frontier_training_time.png",
        "frontier_inference_time.png",
        "frontier_step_time.png",
        "frontier_memory.png",
    ]
    assert [file.name for file in files] == names
    assert all(file.read_bytes().startswith(b"\x89PNG") and file.stat().st_size > 10_000 for file in files)
    assert plot_curves(members, "equal time", tmp_path).stat().st_size > 10_000
    assert plot_frontiers(rows[4:], [], "nothing", tmp_path) == [] and plot_curves(members[4:], "", tmp_path) is None
    write_frontier_json(tmp_path / "frontier.json", {"title": "equal time"}, rows, published)
    content = json.loads((tmp_path / "frontier.json").read_text())
    assert content["plots"] == sorted([*names, "learning_curves.png"]) and len(content["rows"]) == 6
    settings = {"title": "equal time", "conditions": "", "started": "now", "parallel": 1, "threads": 2}
    settings |= {
        "hardware": {"cores": 4},
        "versions": {"torch": "2"},
        "git": None,
        "command": ["mace-gaunt", "compare", "test_file={a: a b.xyz}"],
    }
    page = write_comparison_page(tmp_path, settings, rows, published).read_text()
    assert page.count("<img") == 5 and 'src="data:image/png;base64,' in page and "http" not in page.split("<body")[1]
    for text in (
        "Compared at equal time",
        "40.0 ± 0.0",
        "published: MACE L=2",
        "matrix-seed_0",
        "mace-gaunt compare &#39;test_file",
    ):
        assert text in page
    assert content["summary"][0]["n"] == 2 and {row["split"] for row in content["published"]} == {"test_300K"}


def test_every_family_has_a_colour_and_a_marker_of_its_own():
    from mace_gaunt.cli.choices import config_dir, list_choices

    families = list_choices("tensor_product", [config_dir()])
    assert set(families) <= set(ORDER)
    assert len({style_of(family, families) for family in ORDER}) == len(ORDER) == len(COLOURS)
    assert style_of("mine", ["gaunt", "mine"]) == style_of(ORDER[0], [])  # the ninth begins anew


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (("30min", None), (1800.0, None, "equal time: 30 min")),
        (("90s", None), (90.0, None, "equal time: 1.5 min")),
        (("1.5h", None), (5400.0, None, "equal time: 1.5 h")),
        ((None, 200), (None, 200, "equal epochs: 200 for each")),
        ((None, None), (None, None, "those of the recipe")),
    ],
)
def test_budgets(given, expected):
    budget = read_budget(*given)
    assert (budget.seconds, budget.epochs) == expected[:2] and expected[2] in budget.title


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("30min", 5), "exclude each other"),
        (("30", None), "is not a time"),
        (("30 parsecs", None), "is not a time"),
        (("0min", None), "not a positive time"),
        ((None, 0), "epochs is a number"),
        ((None, True), "epochs is a number"),
    ],
)
def test_budgets_that_are_refused(given, message):
    with pytest.raises(UserError, match=message):
        read_budget(*given)


def test_seconds_in_words():
    assert [tell_seconds(seconds) for seconds in (7200, 90, 45)] == ["2 h", "1.5 min", "45 s"]


def test_processors_are_shared_alike():
    assert local.share([2, 3, 5, 7, 8], 2) == [(2, 3), (5, 7)]
    with pytest.raises(UserError, match="needs as many processors"):
        local.share([0], 2)
    with pytest.raises(UserError, match="parallel is a number"):
        local.share([0, 1], 0)


class Task:
    """A training that takes some looks."""

    def __init__(self, log: list[str], name: str, looks: int, status: int = 0) -> None:
        self.log, self.name, self.looks, self.status = log, name, looks, status

    def poll(self) -> int | None:
        self.looks -= 1
        return self.status if self.looks < 0 else None

    def interrupt(self) -> None:
        self.log.append(f"interrupt {self.name}")

    def kill(self) -> None:
        self.log.append(f"kill {self.name}")


def test_as_many_at_a_time_as_there_are_slots(tmp_path, monkeypatch):
    monkeypatch.setattr(local, "POLL", 0.0)
    log: list[str] = []
    looks = {0: 5, 1: 1, 2: 1}

    def launch(member, cores):
        log.append(f"{member.seed} on {cores[0]}")
        return Task(log, str(member.seed), looks[member.seed], status=member.seed)

    members = [make_member(tmp_path, "gaunt", seed) for seed in looks]
    local.run_all(members, [(0,), (1,)], launch, lambda member, status: log.append(f"{member.seed} ended {status}"))
    assert log == ["0 on 0", "1 on 1", "1 ended 1", "2 on 1", "2 ended 2", "0 ended 0"]


def test_interrupts_reach_all_that_run(tmp_path, monkeypatch):
    """All are told at the first one; at a second one, while they are waited for, all are killed."""
    log: list[str] = []

    def interrupt(seconds: float) -> None:
        log.append("ctrl-c")
        raise KeyboardInterrupt

    monkeypatch.setattr(local.time, "sleep", interrupt)
    members = [make_member(tmp_path, "gaunt", seed) for seed in (0, 1, 2)]
    with pytest.raises(KeyboardInterrupt):
        local.run_all(members, [(0,), (1,)], lambda member, _: Task(log, str(member.seed), 10**6), lambda *_: None)
    assert log == ["ctrl-c", "interrupt 0", "interrupt 1", "ctrl-c", "kill 0", "kill 1"]


def test_what_does_not_end_is_killed_with_what_it_has_started(tmp_path, monkeypatch):
    monkeypatch.setattr(local, "GRACE", 0.3)
    monkeypatch.setattr(local, "POLL", 0.05)
    code = (
        "import signal, subprocess, sys, time; signal.signal(signal.SIGINT, signal.SIG_IGN); "
        "print(subprocess.Popen(['sleep', '600']).pid, flush=True); time.sleep(600)"
    )
    stubborn = local.Training([sys.executable, "-S", "-c", code], tmp_path / "log", local.own_cores()[:1])
    while not (tmp_path / "log").read_text().endswith("\n"):
        time.sleep(0.01)
    local.stop_all([stubborn])
    assert stubborn.poll() == -signal.SIGKILL
    state = Path(f"/proc/{int((tmp_path / 'log').read_text())}/stat")
    end = time.monotonic() + 60
    # Gone, or a zombie that nobody has asked about.
    while state.exists() and state.read_text().split()[2] != "Z":
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_process_is_pinned_and_its_lines_are_kept(tmp_path):
    core = local.own_cores()[-1]
    code = "import os, time; time.sleep(0.2); print(os.sched_getaffinity(0), os.environ['OMP_NUM_THREADS'])"
    training = local.Training([sys.executable, "-S", "-c", code], tmp_path / "log", (core,))
    assert training._process.wait(timeout=60) == training.poll() == 0
    assert (tmp_path / "log").read_text() == f"{{{core}}} 1\n"
    sleeper = local.Training([sys.executable, "-S", "-c", "import time; time.sleep(600)"], tmp_path / "log", (core,))
    local.stop_all([sleeper])
    assert sleeper.poll() not in (None, 0) and isinstance(sleeper._process, subprocess.Popen)


def test_every_training_compiles_anew(tmp_path):
    code = "import os; folder = os.environ['TORCHINDUCTOR_CACHE_DIR']; print(folder, os.listdir(folder))"
    folders = []
    for _ in range(2):
        log = tmp_path / f"log{len(folders)}"
        training = local.Training([sys.executable, "-S", "-c", code], log, local.own_cores()[:1])
        assert training._process.wait(timeout=60) == training.poll() == 0
        folder, inside = log.read_text().split(maxsplit=1)
        assert inside == "[]\n" and not Path(folder).exists()
        folders.append(folder)
    assert folders[0] != folders[1]
