"""Launchers of `--multirun`: what is refused, and (slow) jobs in other processes."""

import csv
import importlib.util

import pytest

from mace_gaunt.cli import multirun
from mace_gaunt.cli.multirun import check_launcher
from mace_gaunt.errors import UserError


def test_launchers_that_are_not_there(refused, data_file, monkeypatch):
    with pytest.raises(UserError, match=r"no launcher 'joblb'\. Did you mean 'joblib'"):
        check_launcher(["hydra/launcher=joblb"])
    check_launcher(["hydra/launcher=basic", "hydra.launcher.n_jobs=2", "hydra/launcher=somebody_elses"])
    monkeypatch.setitem(multirun.LAUNCHERS, "joblib", ("hydra_plugins.no_such_plugin", "mace-gaunt[joblib]"))
    words = ["train", "--multirun", f"train_file={data_file}", "seed=1,2", "hydra/launcher=joblib"]
    assert "hydra/launcher=joblib needs: pip install 'mace-gaunt[joblib]'" in refused(*words)


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
