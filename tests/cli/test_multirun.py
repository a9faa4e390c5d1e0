"""Launchers of `--multirun`: what is refused, and (slow) jobs in other processes."""

import csv
import importlib.util
from pathlib import Path

import pytest

from mace_gaunt.cli import multirun
from mace_gaunt.cli.multirun import check_launcher
from mace_gaunt.errors import UserError


def read_rows(path: Path, column: str) -> list[str]:
    with path.open(newline="") as file:
        return [row[column] for row in csv.DictReader(file)]


def test_launchers_that_are_not_there(refused, data_file, monkeypatch):
    with pytest.raises(UserError, match=r"no launcher 'joblb'\. Did you mean 'joblib'"):
        check_launcher(["hydra/launcher=joblb"])
    check_launcher(["hydra/launcher=basic", "hydra.launcher.n_jobs=2", "hydra/launcher=somebody_elses"])
    monkeypatch.setitem(multirun.LAUNCHERS, "joblib", ("hydra_plugins.no_such_plugin", "mace-gaunt[joblib]"))
    words = ["train", "--multirun", f"train_file={data_file}", "seed=1,2", "hydra/launcher=joblib"]
    assert "hydra/launcher=joblib needs: pip install 'mace-gaunt[joblib]'" in refused(*words)


def finish_job(job: Path) -> None:
    """What a job leaves that came to its end."""
    (job / "report").mkdir(parents=True, exist_ok=True)
    (job / "report" / "metrics.csv").write_text("split,energy_rmse_meV,forces_rmse_meV_A\nvalid,1.0,2.0\n")
    (job / "overrides.txt").write_text(f"seed={job.name}\n")


@pytest.mark.parametrize("words", [["seed=0,1", "stop_after_epochs=1"], ["stop_after_steps=1,2"], ["time_limit=1h,2h"]])
def test_limits_are_refused(refused, data_file, words):
    message = refused("train", "--multirun", f"train_file={data_file}", *words)
    assert f"{words[-1].partition('=')[0]} would end jobs before they have a result" in message


@pytest.mark.parametrize("swept", ["model.num_channels=2,4", "tensor_product=gaunt,clebsch_gordan"])
def test_jobs_that_contradict_their_start_are_refused(refused, data_file, trained, swept):
    assert "leave it out with init=" in refused(
        "train", "--multirun", f"train_file={data_file}", f"init={trained}", swept
    )


def test_a_job_has_the_request_of_its_values(command, data_file, monkeypatch):
    requests = []
    monkeypatch.setattr(multirun, "train", lambda composed: requests.append(composed.request) or 0.0)
    monkeypatch.setattr(multirun, "summarize", lambda *_: 0)
    monkeypatch.setattr(multirun.Path, "write_text", lambda *_: 0)
    words = ["seed=3", "tensor_product=gaunt,clebsch_gordan", "model.num_channels=choice(4)", "run=s"]
    assert command("train", "--multirun", f"train_file={data_file}", *words)[0] == 0
    assert [(r.choices["tensor_product"], r.body["model"]["num_channels"], r.sweeps) for r in requests] == [
        ("gaunt", 4, []),
        ("clebsch_gordan", 4, []),
    ]
    assert all(request.body["seed"] == 3 for request in requests)


def test_the_summary_has_the_jobs_of_this_sweep_alone(command, data_file, monkeypatch, tmp_path):
    folder = tmp_path / "runs" / "s"
    for number in range(4):
        finish_job(folder / str(number))
    (folder / "2" / "error.txt").write_text("UserError: of an earlier sweep\n")
    words = ["train", "--multirun", f"train_file={data_file}", "seed=0,1", "run=s", "overwrite=true"]
    monkeypatch.setattr(multirun, "launch", lambda request, at: [finish_job(at / job) for job in "01"])
    assert command(*words)[0] == 0
    assert read_rows(folder / "sweep.csv", "job") == ["0", "1"]
    monkeypatch.setattr(multirun, "launch", lambda request, at: finish_job(at / "0"))
    status, out, _ = command(*words)
    assert status == 1 and "not finished" in out
    assert read_rows(folder / "sweep.csv", "error") == ["", "not finished"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "launcher", [["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"], ["hydra/launcher=submitit_local"]]
)
def test_jobs_in_other_processes(launcher, data_file, command, tmp_path):
    package = multirun.LAUNCHERS[launcher[0].partition("=")[2]][0]
    if importlib.util.find_spec("hydra_plugins") is None or importlib.util.find_spec(package) is None:
        pytest.skip(f"needs {package}")
    status, out, err = command(
        "train", "--multirun", *launcher, "debug=fast", f"train_file={data_file}", "run=sweep", "valid_size=2,20",
        "max_epochs=1",
    )  # fmt: skip
    assert status == 1, err
    assert "2 jobs in runs/sweep" in out
    with (tmp_path / "runs" / "sweep" / "sweep.csv").open(newline="") as file:
        first, second = csv.DictReader(file)
    assert first["overrides"] == "data.valid_size=2" and float(first["forces_rmse_meV_A"]) > 0 and not first["error"]
    assert "20 validation frames leave nothing" in second["error"]
    assert (tmp_path / "runs" / "sweep" / "0" / "model" / "model.json").is_file()
