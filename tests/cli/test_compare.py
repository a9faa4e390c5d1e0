"""`mace-gaunt compare`: planning, resuming, failures, what is refused; slow, a real one with its measurements."""

import csv
import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from mace_gaunt.cli import compare_run, compare_speed
from mace_gaunt.cli.arguments import parse_arguments
from mace_gaunt.cli.compare import split_keys
from mace_gaunt.cli.compare_plan import difference, plan_comparison
from mace_gaunt.cli.compose import complete_text
from mace_gaunt.cli.main import main
from mace_gaunt.comparison import local
from mace_gaunt.comparison.members import Member

TINY = [
    "model.num_channels=2",
    "max_L=1",
    "max_ell=2",
    "correlation=2",
    "radial_MLP=[4]",
    "r_max=3.0",
    "compile=off",
    "valid_size=2",
    "device=cpu",
    "kernel=grid",
    "trainer.check_val_every_n_epoch=2",
]


class Done:
    """A training that has ended."""

    def __init__(self, status: int) -> None:
        self.status = status

    def poll(self) -> int:
        return self.status

    def interrupt(self) -> None:
        raise AssertionError("nothing runs")

    kill = interrupt


@pytest.fixture
def trained_members(monkeypatch) -> list[str]:
    """Lets members be trained in the process of the test; gives the names of those that were."""
    names: list[str] = []

    def launch(member, cores):
        names.append(member.name)
        status = main(["train", str(member.file), f"run='{member.path}'", "resume=auto", "overwrite=true"])
        member.log.write_text("" if status == 0 else "error: told on the terminal\n")
        return Done(status)

    monkeypatch.setattr(local, "launch_training", launch)
    return names


@pytest.fixture
def words(data_file) -> list[str]:
    return ["compare", f"train_file={data_file}", f"test_file={data_file}", "run=c", "speed=none", *TINY]


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_members_are_trained_compared_and_not_repeated(words, command, tmp_path, trained_members):
    words = [*words, "tensor_product=gaunt,gaunt_mix", "epochs=3", "seed=0"]
    status, out, err = command(*words)
    assert status == 0, err
    names = ["gaunt-seed_0", "gaunt_mix-seed_0"]
    assert trained_members == names and "equal epochs: 3 for each member" in out
    rows = table(tmp_path / "runs/c/frontier.csv")
    assert [row["member"] for row in rows] == names and {row["epochs"] for row in rows} == {"3"}
    assert all(float(row["forces_rmse_meV_A/frames"]) > 0 and float(row["training_s"]) > 0 for row in rows)
    for name in ("frontier_training_time.png", "learning_curves.png", "summary.md", "frontier.json", "report.html"):
        assert (tmp_path / "runs/c" / name).is_file()
    # Again: nothing is trained. An interrupted member is continued, and new ones are added.
    trained_members.clear()
    assert command(*words)[0] == 0 and trained_members == []
    record = json.loads((tmp_path / "runs/c/members/gaunt-seed_0/run.json").read_text())
    record.pop("finished")
    (tmp_path / "runs/c/members/gaunt-seed_0/run.json").write_text(json.dumps(record))
    status, out, err = command(*words[:-1], "seed=0,1")
    assert status == 0, err
    assert trained_members == ["gaunt-seed_0", "gaunt-seed_1", "gaunt_mix-seed_1"]
    assert "gaunt-seed_0: continued" in out
    summary = table(tmp_path / "runs/c/summary.csv")
    assert [(row["group"], row["n"]) for row in summary] == [("gaunt", "2"), ("gaunt_mix", "2")]
    assert float(summary[0]["forces_rmse_meV_A/frames_std"]) > 0


def test_other_settings_under_the_same_name(words, command, refused, tmp_path, trained_members):
    assert command(*words, "epochs=2")[0] == 0
    assert "trainer.max_epochs was 2 and is 3 now" in refused(*words, "epochs=3")
    # What was told and measured of the member goes with it, and not before the new one can be trained.
    log, speed = tmp_path / "runs/c/members/gaunt-seed_0.log", tmp_path / "runs/c/speed.json"
    log.write_text("compiled in 20 s\nerror: of long ago\n")
    speed.write_text("{}")
    missing = [word for word in words if not word.startswith("test_file=")]
    assert "nowhere.xyz" in refused(*missing, "test_file=nowhere.xyz", "epochs=3", "overwrite=true")
    status, _, err = command(*words, "epochs=3", "overwrite=true")
    assert status == 0, err
    assert [row["epochs"] for row in table(tmp_path / "runs/c/frontier.csv")] == ["3"]
    assert log.read_text() == "" and not speed.exists()


def test_a_part_that_is_switched_off_is_another_setting(words, command, tmp_path):
    """Its keys are in the member's file alone."""

    def planned(*further):
        given = ["epochs=2", f"run={tmp_path}/c", "--print-config", *further]
        return plan_comparison(*split_keys(parse_arguments([*words[1:], *given]))).jobs[0]

    member, composed = planned("stage_two=energy")
    member.path.mkdir(parents=True)
    (member.path / "config.yaml").write_text(complete_text(composed.config, composed.request.known))
    assert difference(member, composed) is None
    for off, key in (
        (["stage_two=none"], "stage_two."),
        (["stage_two=energy", "~callbacks.early_stopping"], "callbacks.early_stopping."),
    ):
        changed = difference(member, planned(*off)[1])
        assert changed is not None and changed.startswith(key) and changed.endswith("and is None now")


def test_members_that_a_killed_comparison_still_trains_are_not_trained_twice(words, refused, tmp_path, training_in):
    member = tmp_path / "runs/c/members/gaunt-seed_0"
    (tmp_path / "runs/c").mkdir(parents=True)
    (tmp_path / "runs/c/compare.json").write_text("{}")
    process = training_in(member)
    assert f"members/gaunt-seed_0 is in use: process {process.pid} on" in refused(*words, "epochs=2")
    assert [path.name for path in member.iterdir()] == [".lock"]


def test_an_interrupt_before_the_first_training_leaves_a_comparison(words, command, tmp_path, monkeypatch):
    """Gone on with, and not taken for a folder of something else."""
    monkeypatch.setattr(compare_run, "check_first", lambda _: None)
    for step in ("write_file", "train_all"):
        monkeypatch.setattr(compare_run, step, interrupted)
        status, _, err = command(*words, "epochs=2")
        assert (status, err) == (130, "interrupted\n")
        assert (tmp_path / "runs/c/compare.json").is_file()


def interrupted(*_):
    raise KeyboardInterrupt


def test_a_group_that_could_not_be_measured_is_told_and_measured_again(tmp_path, monkeypatch, capsys):
    member = Member({"tensor_product": "gaunt", "seed": 0}, tmp_path)
    results = iter([{"gaunt": {"failed": {"step": "out of memory"}}}, {"gaunt": {"step_ms": 1.0}}])
    monkeypatch.setattr(compare_speed, "groups_of", lambda _: {"gaunt": (member, "eager")})
    monkeypatch.setattr(compare_speed, "measure_groups", lambda *_: next(results))
    comparison = SimpleNamespace(folder=tmp_path, settings={"speed": "auto"}, slots=[local.own_cores()[:1]])
    compare_run.measure(comparison)
    assert "gaunt: step could not be measured: out of memory" in capsys.readouterr().out
    for _ in range(2):
        compare_run.measure(comparison)
        assert json.loads((tmp_path / "speed.json").read_text())["groups"] == {"gaunt": {"step_ms": 1.0}}
    assert next(results, None) is None and capsys.readouterr().out == ""


def test_mace_torch_is_measured_where_no_member_of_ours_is_finished(words, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(compare_speed, "measure_speed", lambda runners, *others: seen.append((runners, others)))
    monkeypatch.setattr("mace_gaunt.benchmark.peer.sides.find_peer", lambda _: Path("python"))
    flags = ["peer=true", "gate=identity", "batch_size=3", f"run={tmp_path}/c", "epochs=2"]
    comparison = plan_comparison(*split_keys(parse_arguments([*words[1:], *flags])))
    peer = comparison.peers[0]
    compare_speed.measure_groups(comparison, {peer.group: (peer, "eager")})
    (((runner,), (frames, batch_size, _, python, _)),) = seen
    assert (runner.side.program, python, batch_size, len(frames)) == ("mace-torch", Path("python"), 3, 8)
    assert (runner.settings["num_channels"], runner.settings["gate"]) == (2, "None")
    assert runner.settings["scale"] > 0 and runner.settings["atomic_numbers"] == [1, 6, 7, 8]


def test_a_budget_of_time_is_written_into_every_member(words, command, tmp_path, trained_members):
    status, out, err = command(*words, "budget=3s", "scheduler=cosine")
    assert status == 0, err
    assert "equal time: 3 s of training for each member" in out
    config = (tmp_path / "runs/c/members/gaunt-seed_0/config.yaml").read_text()
    assert "TimeBudget" in config and "seconds: 3.0" in config
    for row in table(tmp_path / "runs/c/frontier.csv"):
        assert int(row["epochs"]) > 2 and float(row["training_s"]) > 0


def test_a_member_that_fails_is_recorded_and_the_others_go_on(words, command, tmp_path, trained_members):
    words = [*words, "epochs=2", "trainer.gradient_clip_val=null"]
    status, out, _ = command(*words, "lr=0.01,1.0e+30")
    assert status == 1
    assert trained_members == ["gaunt-lr_0.01-seed_0", "gaunt-lr_1e_30-seed_0"]
    good, bad = table(tmp_path / "runs/c/frontier.csv")
    assert (good["state"], bad["state"]) == ("finished", "failed") and bad["error"]
    assert "gaunt-lr_1e_30-seed_0: failed" in out and [r["n"] for r in table(tmp_path / "runs/c/summary.csv")] == ["1"]


def test_a_plan_without_anything_written(words, command, tmp_path):
    for flag in ("--validate-only", "--print-config"):
        status, out, err = command(*words, "tensor_product=gaunt,matrix", "max_L=0,1", "budget=10min", flag)
        assert status == 0, err
        assert "member        matrix-max_L_1-seed_0" in out and "equal time: 10 min" in out
        assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("further", "message"),
    [
        (["budgt=10min"], "no key 'budgt'. Did you mean 'budget'?"),
        (["model.num_chanels=3,4"], "num_chanels"),
        (["tensor_product=gaunt,matricks"], "no tensor_product 'matricks'. Did you mean 'matrix'?"),
        (["seed=0,0"], "every value may be given once"),
        (["budget=10min", "epochs=3"], "exclude each other"),
        (["budget=10min", "max_epochs=3"], "leave max_epochs out"),
        (["parallel=4096"], "needs as many processors"),
        (["speed=fast"], "speed=fast is not possible"),
        (["speed_seconds=0"], "positive time"),
        (["peer=maybe"], "peer is true or false"),
        (["resume=auto"], "always goes on"),
        (["--multirun"], "has no --multirun"),
        (["experiment=tetris"], "for potentials"),
        (["lr=interval(0,1)"], "only values with commas"),
        (["test_file=nowhere.xyz"], "nowhere.xyz"),
    ],
)
def test_refused(words, refused, further, message):
    given = {word.partition("=")[0] for word in further}
    if "experiment=tetris" in further:
        words = ["compare"]
    assert message in refused(*(word for word in words if word.partition("=")[0] not in given), *further)


def test_a_folder_of_something_else(words, refused, tmp_path):
    (tmp_path / "runs/c").mkdir(parents=True)
    (tmp_path / "runs/c/notes.txt").touch()
    for further in ([], ["overwrite=true"]):
        message = refused(*words, *further)
        assert "not empty and holds no comparison" in message and "resume=auto" not in message


def test_all_keys(command):
    status, out, _ = command("compare", "--help-keys", "tensor_product=gaunt,matrix", "parallel=4096")
    assert status == 0
    assert "budget: null" in out and "model.num_channels=64" in out and "max_epochs -> trainer.max_epochs" in out


@pytest.mark.slow
def test_a_real_comparison_with_its_measurements(words, command, tmp_path):
    words = [word for word in words if word != "speed=none"] + ["speed_seconds=0.2", "budget=4s"]
    status, out, err = command(*words, "tensor_product=gaunt,gaunt_mix", "seed=0,1", "parallel=2")
    assert status == 0, err + out
    rows = table(tmp_path / "runs/c/frontier.csv")
    assert len(rows) == 4
    for row in rows:
        for name in ("step_ms", "infer_ms", "md_steps_per_s", "step_memory_MB", "infer_memory_MB", "parameters"):
            assert float(row[name]) > 0, (name, row)
    assert float(rows[0]["md_steps_per_s"]) < 1.5e3 / float(rows[0]["infer_ms"]) * 2
    speed = json.loads((tmp_path / "runs/c/speed.json").read_text())
    assert speed["variants"] == {"gaunt": "eager", "gaunt_mix": "eager"} and speed["threads"] >= 1
    assert (tmp_path / "runs/c/frontier_memory.png").is_file() and "gaunt" in out
    before = (tmp_path / "runs/c/speed.json").stat().st_mtime_ns
    assert command(*words, "tensor_product=gaunt,gaunt_mix", "seed=0,1", "parallel=2")[0] == 0
    assert (tmp_path / "runs/c/speed.json").stat().st_mtime_ns == before
    assert compare_run.SPEED_FILE == "speed.json"
