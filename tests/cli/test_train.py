"""The whole path through the commands, on a few frames."""

import csv
import json
import pickle
from pathlib import Path

import ase.io
import pytest
import torch
import yaml

from mace_gaunt.cli.arguments import parse_arguments
from mace_gaunt.cli.main import main
from mace_gaunt.cli.multirun import Job
from mace_gaunt.cli.request import read_request
from mace_gaunt.cli.resume import changed_files
from mace_gaunt.model.checkpoint import WEIGHTS, load_model
from mace_gaunt.simulation.calculator import MaceGauntCalculator

COLUMNS = "split,n_frames,energy_rmse_meV,energy_mae_meV,energy_rmse_meV_per_atom,forces_rmse_meV_A,forces_mae_meV_A"


def rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_run_lives_in_one_folder(trained):
    names = {path.relative_to(trained).as_posix() for path in trained.rglob("*")}
    assert {
        "config.yaml",
        "metrics.csv",
        "run.json",
        "checkpoints/best.ckpt",
        "checkpoints/last.ckpt",
        "model/model.json",
        "model/weights.safetensors",
        "report/metrics.csv",
        "report/training_curve.png",
        "report/parity_frames.png",
    } <= names


def test_run_json_says_with_what_and_from_what(trained, data_file):
    record = json.loads((trained / "run.json").read_text())
    assert {"versions", "git", "hardware", "seed", "command", "finished"} <= set(record)
    assert set(record["versions"]) >= {"torch", "mace_gaunt", "python"}
    assert len(record["data_sha256"][str(data_file)]) == 64
    assert record["epochs"] == 2
    assert record["hardware"]["threads"] == 1


def test_the_saved_configuration_is_complete(trained):
    config = yaml.safe_load((trained / "config.yaml").read_text())
    assert "???" not in (trained / "config.yaml").read_text()
    assert config["model"]["atomic_numbers"] == [1, 6, 7, 8]
    assert config["run"] is None
    assert config["data"]["E0s"] == "isolated"


def test_the_model_folder_says_where_it_comes_from(trained):
    model = load_model(trained / "model")
    assert model.metadata["choices"]["tensor_product"] == "gaunt"
    assert model.metadata["training_frames"] == 8


def test_the_configuration_runs_again_and_gives_the_same(trained, command):
    status, _, err = command("train", str(trained / "config.yaml"), "run=again")
    assert status == 0, err
    first, again = rows(trained / "report" / "metrics.csv"), rows(Path("runs/again/report/metrics.csv"))
    assert first == again


def test_validation_writes_nothing(data_file, command, tmp_path):
    status, out, _ = command("train", f"train_file={data_file}", "debug=fast", "data.valid_size=2", "--validate-only")
    assert status == 0
    for text in ("labels found", "E0s (eV): H -10.7", "parameters", "kernel grid", "nothing was written"):
        assert text in out
    assert not list(tmp_path.iterdir())


def test_evaluate_gives_the_figures_of_the_run(trained, data_file, command, tmp_path):
    status, out, err = command("evaluate", f"model={trained}", f"test_file={data_file}", "out=report")
    assert status == 0, err
    text = (tmp_path / "report" / "metrics.csv").read_text()
    assert text.splitlines()[0] == COLUMNS
    assert text.splitlines()[1] in (trained / "report" / "metrics.csv").read_text()
    assert "frames" in out


def test_md_runs_and_reports_its_health(trained, data_file, command, tmp_path):
    status, out, err = command(
        "md",
        f"model={trained / 'model'}",
        f"structure={data_file}",
        "out=md",
        "steps=4",
        "interval=2",
        "temperature=50",
    )
    assert status == 0, err
    health = json.loads((tmp_path / "md" / "health.json").read_text())
    assert (health["steps"], health["temperature_K"], health["finished"]) == (4, 50, True)
    assert len(ase.io.read(tmp_path / "md" / "trajectory.extxyz", ":")) == 3
    assert "drift" in out


def test_md_and_evaluate_validate_without_writing(trained, data_file, command, tmp_path):
    assert command("md", f"model={trained}", f"structure={data_file}", "out=md", "--validate-only")[0] == 0
    assert command("evaluate", f"model={trained}", f"test_file={data_file}", "--validate-only")[0] == 0
    assert not list(tmp_path.iterdir())


def test_the_calculator_reads_the_run(trained, frames):
    atoms = frames[-1].copy()
    atoms.calc = MaceGauntCalculator(trained)
    assert atoms.get_forces().shape == (len(atoms), 3)


def test_a_run_goes_on(data_file, command, tmp_path):
    words = ["debug=fast", f"train_file={data_file}", "data.valid_size=2", "scheduler=constant", "run=a", "resume=auto"]
    assert command("train", *words)[0] == 0
    status, out, err = command("train", "run=a", "resume=auto", "max_epochs=3")
    assert status == 0, err
    assert "changed on resume: trainer.max_epochs was 2, is 3" in out
    assert [row["epoch"] for row in rows(tmp_path / "runs" / "a" / "metrics.csv")] == ["1", "2", "3"]
    record = json.loads((tmp_path / "runs" / "a" / "run.json").read_text())
    assert (record["epochs"], len(record["resumed"])) == (3, 1)
    status, _, err = command("train", *words, "num_channels=6")
    assert status == 2
    assert "model.num_channels was 4 and is 6 now" in err
    assert command("train", *words, "max_epochs=3")[0] == 0


def test_a_run_stops_where_it_is_told_and_goes_on(data_file, command, tmp_path):
    words = ["debug=fast", f"train_file={data_file}", "data.valid_size=2", "data.batch_size=2", "device=cpu"]
    assert command("train", *words, "run=whole")[0] == 0
    status, out, err = command("train", *words, "run=parts", "stop_after_steps=3")
    assert status == 0, err
    assert "stopped after 3 steps of this start (epoch " in out
    assert "to continue: mace-gaunt train run=parts resume=auto" in out
    assert not (tmp_path / "runs" / "parts" / "model").exists()
    status, out, err = command("train", "run=parts", "resume=auto", "stop_after_steps=null")
    assert status == 0, err
    assert "changed on resume: stop_after_steps was 3, is None" in out
    whole, parts = (tmp_path / "runs" / name for name in ("whole", "parts"))
    assert (whole / "model" / WEIGHTS).read_bytes() == (parts / "model" / WEIGHTS).read_bytes()
    for one, other in zip(rows(whole / "metrics.csv"), rows(parts / "metrics.csv"), strict=True):
        assert {name for name in one if one[name] != other[name]} <= {"seconds", "data_wait"}


def test_other_settings_are_refused_on_resume_unless_forced(data_file, command, tmp_path):
    words = ["debug=fast", f"train_file={data_file}", "data.valid_size=2", "run=a"]
    assert command("train", *words)[0] == 0
    status, _, err = command("train", "run=a", "resume=auto", "max_epochs=3", "lr=0.5")
    assert status == 2
    assert "optimizer.lr was" in err and "trainer.max_epochs was 2 and is 3 now" in err and "resume=force" in err
    status, _, err = command("train", "run=a", "resume=force", "amsgrad=false")
    assert status == 2 and "optimizer.amsgrad was True and is False now" in err
    status, _, err = command("train", "run=a", "resume=force", "scheduler=plateau")
    assert status == 2 and "cannot be resumed: scheduler._target_ was" in err
    config = tmp_path / "runs" / "a" / "config.yaml"
    model = yaml.safe_load(config.read_text())["model"]
    status, out, err = command("train", "run=a", "resume=force", "max_epochs=3", "logger=csv", "lr=0.005", "seed=3")
    assert status == 0, err
    for text in ("trainer.max_epochs was 2, is 3", "optimizer.lr was 0.01, is 0.005", "seed was 0, is 3"):
        assert f"changed on resume: {text} (forced)" in out
    # What the first start took from the data belongs to the weights.
    assert yaml.safe_load(config.read_text())["model"] == model
    last = torch.load(tmp_path / "runs" / "a" / "checkpoints" / "last.ckpt", weights_only=True)
    assert last["rates"] == [0.005, 0.005, 0.05]


def test_what_the_second_stage_began_with_cannot_be_changed_any_more(data_file, command, refused):
    words = ["debug=fast", f"train_file={data_file}", "data.valid_size=2", "run=a", "max_epochs=3"]
    stage = ["stage_two=energy", "stage_two.start=1", "stage_two.lr=0.002"]
    assert command("train", *words, *stage, "stop_after_epochs=1")[0] == 0
    status, out, _ = command("train", "run=a", "resume=force", "stage_two.lr=0.003", "stop_after_epochs=1")
    assert status == 0 and "lr 0.003" in out
    message = refused("train", "run=a", "resume=force", "stage_two.lr=0.001")
    assert "is in its second stage: stage_two.lr was 0.003 and is 0.001 now, which would change nothing" in message
    message = refused("train", "run=a", "resume=force", "stage_two.start=2", "stage_two.lr=0.003")
    assert "stage_two.start was 1" in message
    # Its weights still can.
    status, out, err = command("train", "run=a", "resume=force", "stage_two.energy_weight=7", "stage_two.lr=0.003")
    assert status == 0, err


def test_the_rate_of_an_earlier_version_is_not_known(data_file, command, refused, tmp_path):
    words = ["debug=fast", f"train_file={data_file}", "data.valid_size=2", "run=a", "stop_after_steps=1"]
    assert command("train", *words)[0] == 0
    path = tmp_path / "runs" / "a" / "checkpoints" / "last.ckpt"
    checkpoint = torch.load(path, weights_only=True)
    del checkpoint["rates"]
    torch.save(checkpoint, path)
    assert "optimizer.lr stays as it was" in refused("train", "run=a", "resume=force", "lr=0.005")


def test_a_kernel_that_is_asked_for_replaces_that_of_the_run(data_file, command, refused, tmp_path):
    words = ["debug=fast", f"train_file={data_file}", "data.valid_size=2", "kernel=grid", "run=a", "stop_after_steps=1"]
    assert command("train", *words)[0] == 0
    status, out, err = command("train", "run=a", "resume=auto", "kernel=direct", "--validate-only")
    assert status == 0, err
    assert "changed on resume: kernel was grid, is direct" in out
    assert "kernel direct" in out and "kernel grid" not in out
    assert "kernel grid" in command("train", "run=a", "resume=auto", "kernel=auto", "--validate-only")[1]
    # As on a machine that has not what the kernel needs.
    file = tmp_path / "runs" / "a" / "run.json"
    record = json.loads(file.read_text())
    file.write_text(json.dumps({**record, "kernels": dict.fromkeys(record["kernels"], "gone")}))
    error = refused("train", "run=a", "resume=auto", "kernel=auto")
    assert "gone" in error and "the run began with it; kernel=NAME goes on with another" in error


def test_a_training_without_an_end_has_no_last_step(data_file, command, refused):
    words = ["train", f"train_file={data_file}", "debug=fast", "data.valid_size=2", "max_epochs=-1"]
    assert "scheduler=cosine falls towards the last step" in refused(*words)
    assert "stage_two.start=0.75 is a fraction" in refused(*words, "scheduler=constant", "stage_two=energy")
    assert command(*words, "scheduler=constant", "stage_two=energy", "stage_two.start=3", "--validate-only")[0] == 0


def test_another_file_of_the_same_name_is_told_on_resume(frames, command, tmp_path):
    ase.io.write(tmp_path / "train.xyz", frames)
    words = ["debug=fast", "train_file=train.xyz", "data.valid_size=2", "scheduler=constant", "run=a"]
    assert command("train", *words)[0] == 0
    text = (tmp_path / "train.xyz").read_text()
    (tmp_path / "train.xyz").write_text(text.replace("Properties=", "note=1 Properties=", 1))
    status, _, err = command("train", "run=a", "resume=auto", "max_epochs=3")
    assert status == 2 and "train.xyz is another file now" in err and "resume=force" in err
    status, out, err = command("train", "run=a", "resume=force", "max_epochs=3")
    assert status == 0, err
    assert "/train.xyz is another file (forced)" in out
    record = json.loads((tmp_path / "runs" / "a" / "run.json").read_text())
    (now,), (before,) = record["data_sha256"].values(), record["resumed"][-1]["data_sha256_before"].values()
    assert now != before
    assert command("train", "run=a", "resume=auto", "max_epochs=3")[0] == 0


def test_a_run_that_knew_no_rate_of_node_products_goes_on_as_it_began(data_file, command, tmp_path):
    words = ["debug=fast", f"train_file={data_file}", "data.valid_size=2", "run=a"]
    assert command("train", *words, "node_lr=1", "stop_after_steps=1")[0] == 0
    file = tmp_path / "runs" / "a" / "config.yaml"
    config = yaml.safe_load(file.read_text())
    assert config.pop("node_lr") == 1.0
    file.write_text(yaml.safe_dump(config))
    status, _, err = command("train", "run=a", "resume=auto", "stop_after_steps=null")
    assert status == 0, err


def test_the_rate_of_node_products_follows_the_optimizer_and_stays(data_file, command, tmp_path):
    words = ["debug=fast", f"train_file={data_file}", "data.valid_size=2", "stop_after_steps=1"]
    for optimizer, expected in (("adam", 10.0), ("soap", 1.0)):
        assert command("train", *words, f"optimizer={optimizer}", f"run={optimizer}")[0] == 0
        config = yaml.safe_load((tmp_path / "runs" / optimizer / "config.yaml").read_text())
        assert config["node_lr"] == expected
    status, _, err = command("train", "run=adam", "resume=force", "node_lr=3")
    assert status == 2 and "node_lr was 10.0 and is 3 now" in err


def test_files_are_compared_by_path_and_name():
    before = {"a/train.xyz": "1", "a/data.0000.lmdb": "2", "b/data.0000.lmdb": "3", "gone.xyz": "4"}
    now = {"moved/train.xyz": "1", "b/data.0000.lmdb": "3", "new.xyz": "5"}
    assert changed_files(before, now) == []
    assert changed_files(before, now | {"moved/train.xyz": "6"}) == ["moved/train.xyz"]
    of_one_name = {"a/train/frames.xyz": "1", "a/test/frames.xyz": "2"}
    assert changed_files(of_one_name, of_one_name | {"a/train/frames.xyz": "3"}) == ["a/train/frames.xyz"]
    assert changed_files(of_one_name, of_one_name | {"a/more/frames.xyz": "3"}) == []
    moved = {"b/train/frames.xyz": "3", "b/test/frames.xyz": "2"}
    assert changed_files(of_one_name, moved) == ["b/train/frames.xyz"]
    assert changed_files(of_one_name, moved | {"b/train/frames.xyz": "1"}) == []


def test_a_sweep_trains_every_combination(data_file, command, tmp_path):
    status, out, err = command(
        "train", "--multirun", "debug=fast", f"train_file={data_file}", "data.valid_size=2", "run=sweep",
        "tensor_product=gaunt,clebsch_gordan", "lr=0.01,0.001", "max_epochs=1",
    )  # fmt: skip
    assert status == 0, err
    table = rows(tmp_path / "runs" / "sweep" / "sweep.csv")
    assert [row["overrides"] for row in table] == [
        f"tensor_product={product} optimizer.lr={lr}" for product in ("gaunt", "clebsch_gordan") for lr in (0.01, 0.001)
    ]
    assert (tmp_path / "runs" / "sweep" / "3" / "model" / "model.json").is_file()
    assert "4 jobs in runs/sweep" in out


def test_a_failing_job_does_not_end_the_sweep(data_file, command, tmp_path):
    status, _, err = command(
        "train", "--multirun", "debug=fast", f"train_file={data_file}", "run=sweep", "max_epochs=1", "valid_size=20,2"
    )
    assert status == 1
    assert "20 validation frames leave nothing" in err
    assert (tmp_path / "runs" / "sweep" / "1" / "model" / "model.json").is_file()
    assert "20 validation frames leave nothing" in (tmp_path / "runs" / "sweep" / "sweep.csv").read_text()


def test_what_is_not_finite_leaves_nothing_behind(data_file, command, tmp_path):
    words = ["debug=fast", f"train_file={data_file}", "data.valid_size=2", "run=a", "lr=1e30"]
    status, _, err = command("train", *words)
    assert status == 2
    assert "loss is" in err
    assert not (tmp_path / "runs" / "a").exists()


@pytest.mark.parametrize("words", [["path={file}"], ["{file}", "r_max=3"]])
def test_inspect(words, data_file, command):
    status, out, _ = command("data", "inspect", *(word.format(file=data_file) for word in words))
    assert status == 0
    assert "forces" in out


def test_download_without_a_network_says_what_to_do(command, tmp_path):
    # Port 9 of this machine answers nobody: no test reaches for the network.
    status, _, err = command("data", "download", "data=3bpa", "root=there", "address=http://127.0.0.1:9")
    assert status == 2
    assert "git clone" in err
    assert not list(tmp_path.iterdir())


def test_a_fault_of_the_program_is_told_as_one(monkeypatch, capsys):
    monkeypatch.setattr("mace_gaunt.cli.data.run", lambda argv: 1 / 0)
    assert main(["data"]) == 1
    assert "fault of mace-gaunt" in capsys.readouterr().err


def test_a_sweep_can_be_sent_to_other_processes(data_file):
    request = read_request("train", parse_arguments([f"train_file={data_file}", "seed=0,1"]))
    assert pickle.loads(pickle.dumps(Job(request, Path("runs/x")))).request == request
