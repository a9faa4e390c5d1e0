"""`mace-gaunt sweep`: spaces, trials, resume, and what it refuses."""

import csv
from pathlib import Path

import pytest

pytest.importorskip("optuna", reason="optuna is not installed: pip install 'mace-gaunt[sweep]'")

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
    ],
)
def test_command_lines_that_are_refused(data_file, refused, tmp_path, words, message):
    (tmp_path / "space.yaml").write_text("lr: [0.1, 0.2]\n")
    assert message in refused("sweep", f"train_file={data_file}", *words)


def test_every_space_that_comes_with_the_package_composes():
    from mace_gaunt.cli.arguments import Arguments
    from mace_gaunt.cli.choices import config_dir, list_choices
    from mace_gaunt.cli.compose import compose
    from mace_gaunt.cli.request import read_request
    from mace_gaunt.cli.study import first_value, with_values
    from mace_gaunt.cli.sweep import read_space

    request = read_request("train", Arguments())
    spaces = list_choices("space", [config_dir()])
    assert {"learning", "model"} <= set(spaces)
    for space in spaces:
        values = {parameter.key: first_value(parameter) for parameter in read_space(space, request)}
        assert compose(with_values(request, values)).config.optimizer.lr == values["optimizer.lr"]
