"""`mace-gaunt sweep`: spaces, trials, resume, and what it refuses."""

import csv
from pathlib import Path

import pytest

from mace_gaunt.cli import study
from mace_gaunt.cli.compose import Composed, compose
from mace_gaunt.cli.sweep import Parameter
from mace_gaunt.cli.sweep_plan import Plan, with_values

optuna = pytest.importorskip("optuna", reason="optuna is not installed: pip install 'mace-gaunt[sweep]'")

SPACE = """
lr: {low: 0.001, high: 0.02, log: true}
tensor_product: [gaunt, clebsch_gordan]
model.radial_MLP: [[4], [4, 4]]
data.batch_size: {low: 1, high: 3}
"""


@pytest.fixture
def space(tmp_path: Path) -> Path:
    path = tmp_path / "space.yaml"
    path.write_text(SPACE)
    return path


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_sweep_and_its_continuation(data_file, command, tmp_path, space):
    words = ["sweep", "debug=fast", f"train_file={data_file}", "valid_size=2", "run=s", f"space={space}"]
    words += ["model.num_channels=2", "max_epochs=1", "compile=off"]
    status, out, err = command(*words, "trials=2")
    assert status == 0, err
    assert "trial 0: optimizer.lr=" in out and "again: mace-gaunt train runs/s/" in out
    table = rows(tmp_path / "runs/s/sweep.csv")
    assert [row["trial"] for row in table] == ["0", "1"] and all(float(row["objective"]) > 0 for row in table)
    best = min(table, key=lambda row: float(row["objective"]))
    assert f"runs/s/{best['trial']}/config.yaml" in out
    for row in table:
        config = (tmp_path / "runs/s" / row["trial"] / "config.yaml").read_text()
        assert f"batch_size: {row['data.batch_size']}" in config
        found = next(
            r for r in rows(tmp_path / "runs/s" / row["trial"] / "report/metrics.csv") if r["split"] == "valid"
        )
        assert float(found["forces_rmse_meV_A"]) == pytest.approx(float(row["objective"]))
    status, out, err = command(*words, "trials=3", "resume=auto")
    assert status == 0, err
    assert "trial 2:" in out and "trial 1:" not in out
    status, _, err = command(*words, "trials=3")
    assert status == 2 and "not empty" in err


@pytest.fixture
def untrained(monkeypatch) -> list[tuple[dict, str, Composed]]:
    """Trials that take no time: the values of each, the objective and what would have been trained."""
    trials = []

    def train(self: study.Trials, values: dict, trial: object) -> float:
        composed = compose(with_values(self.plan.request, values))
        trials.append((values, self.plan.settings["objective"], composed.config))
        return float(len(trials))

    monkeypatch.setattr(study.Trials, "train", train)
    monkeypatch.setattr(study, "train", lambda *_, **__: None)
    return trials


def test_a_sweep_goes_on_with_what_it_began_with(data_file, command, tmp_path, monkeypatch, space, untrained):
    (tmp_path / "frames.xyz").write_bytes(data_file.read_bytes())
    began = ["tensor_product=matrix", "train_file=frames.xyz", "max_epochs=7", "seed=5", f"space={space}"]
    space.write_text("lr: {low: 0.001, high: 0.02, log: true}\nmodel.radial_MLP: [[4], [4, 4]]\n")
    assert command("sweep", *began, "run=s", "trials=1", "objective=energy_rmse_meV")[0] == 0
    space.unlink()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    sweep = ["sweep", f"run={tmp_path / 'runs' / 's'}", "resume=auto"]
    assert command(*sweep, "trials=2", "device=cpu")[0] == 0
    assert command(*sweep)[0] == 0
    (first, *_), (values, objective, config) = untrained
    assert first != values and first.keys() == values.keys() == {"optimizer.lr", "model.radial_MLP"}
    assert (objective, config.trainer.max_epochs, config.seed) == ("energy_rmse_meV", 7, 5)
    assert config.data.train_file == str(tmp_path / "frames.xyz") and "matrix" in config.model.edge_product._target_
    others = ["max_epochs=8", "objective=forces_rmse_meV_A", "lr=0.01"]
    status, _, err = command(*sweep, "trials=3", *others)
    assert status == 2 and "would not go on as it began" in err
    for message in (
        "trainer.max_epochs was 7 and is 8 now",
        "objective was energy_rmse_meV and is forces_rmse_meV_A now",
        "optimizer.lr was searched in {'low': 0.001, 'high': 0.02, 'log': True} and is in nothing now",
    ):
        assert message in err
    assert len(untrained) == 2


def test_the_whole_command_line_goes_on_too(data_file, command, tmp_path, space, untrained):
    words = ["sweep", f"train_file={data_file}", f"space={space}", "max_epochs=3", "run=s", "resume=auto"]
    assert command(*words, "trials=1")[0] == 0
    assert command(*words, "trials=2")[0] == 0
    assert len(untrained) == 2
    (tmp_path / "runs" / "s" / "sweep.yaml").unlink()
    status, _, err = command("sweep", "run=s", "resume=auto")
    assert status == 2 and "did not keep what it trains" in err


def test_processes_and_continuations_draw_what_one_process_would(tmp_path):
    space = [Parameter("optimizer.lr", low=0.0, high=1.0), Parameter("data.batch_size", low=1, high=1000)]
    plan = Plan(None, space, {"prune": True})

    def draw(folder: Path, count: int) -> None:
        folder.mkdir(exist_ok=True)
        opened = study.open_study(optuna, folder, True)
        trials = study.Trials(plan, folder, seed=3)
        trials.train = lambda values, trial: values["optimizer.lr"]
        for _ in range(count):
            trials(optuna, opened)

    draw(tmp_path / "whole", 6)
    for _ in range(2):
        draw(tmp_path / "parts", 3)
    whole, parts = (
        [trial.params for trial in study.open_study(optuna, tmp_path / name, True).get_trials()]
        for name in ("whole", "parts")
    )
    assert whole == parts and len({values["optimizer.lr"] for values in whole}) == 6


def test_a_failing_trial_is_recorded(data_file, command, tmp_path):
    (tmp_path / "space.yaml").write_text("lr: [1.0e+30, 0.01]\n")
    words = [f"train_file={data_file}", "valid_size=2", "run=s", "space=space.yaml", "trials=6", "max_epochs=1"]
    status, _, err = command("sweep", "debug=fast", *words, "prune=false")
    assert status == 0, err
    states = {row["optimizer.lr"]: row["state"] for row in rows(tmp_path / "runs/s/sweep.csv")}
    assert states.get("1e+30", "fail") == "fail" and states["0.01"] == "complete"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("lrr: [1]", "no key 'lrr'"),
        ("lr: {low: 1}", "expected a list of values"),
        ("lr: {low: 2, high: 1}", "are no bounds"),
        ("lr: {low: 0, high: 1, log: true}", "no bounds of a logarithm"),
        ("lr: {low: 1, high: 2, hihg: 3}", "no 'hihg'. Did you mean 'high'?"),
        ("lr: {low: 1, high: 2, log: true, step: 1}", "exclude each other"),
        ("tensor_product: [gount]", "no tensor_product 'gount'. Did you mean 'gaunt'?"),
        ("lr: []", "expected a list of values"),
    ],
)
def test_spaces_that_are_refused(data_file, refused, tmp_path, text, message):
    (tmp_path / "space.yaml").write_text(text + "\n")
    assert message in refused("sweep", f"train_file={data_file}", "space=space.yaml")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["trials=0"], "trials is a number of trainings"),
        (["prune=maybe"], "prune is true or false"),
        (["space=learnin"], "no space 'learnin'. Did you mean 'learning'?"),
        (["--multirun"], "cannot do with --multirun"),
        (["lr=1,2"], "belong into the space"),
        (["lr=0.1", "space=space.yaml"], "nothing is left to search"),
        (["resume=auto"], "which sweep is to be continued"),
        (["resume=must", "run=s"], "a sweep goes on with resume=auto"),
    ],
)
def test_command_lines_that_are_refused(data_file, refused, tmp_path, words, message):
    (tmp_path / "space.yaml").write_text("lr: [0.1, 0.2]\n")
    assert message in refused("sweep", f"train_file={data_file}", *words)


def test_every_space_that_comes_with_the_package_composes():
    from mace_gaunt.cli.arguments import Arguments
    from mace_gaunt.cli.choices import config_dir, list_choices
    from mace_gaunt.cli.request import read_request
    from mace_gaunt.cli.sweep import read_space
    from mace_gaunt.cli.sweep_plan import Plan

    request = read_request("train", Arguments())
    spaces = list_choices("space", [config_dir()])
    assert {"learning", "model"} <= set(spaces)
    for space in spaces:
        parameters = read_space(space, request)
        lowest = next(parameter.low for parameter in parameters if parameter.key == "optimizer.lr")
        assert Plan(request, parameters, {}).first().config.optimizer.lr == lowest
