"""mace-torch as a member: its options, its log, its predictions. The commands themselves are not run here."""

import json
import sys

import ase
import numpy as np
import pytest
import torch

from mace_gaunt.cli import compare_peer
from mace_gaunt.cli.arguments import parse_arguments
from mace_gaunt.cli.compare import split_keys
from mace_gaunt.cli.compare_peer import EARLIER, labelled, options, peer_device, peer_difference, peer_job, stage_two
from mace_gaunt.cli.compare_plan import plan_comparison
from mace_gaunt.cli.compose import complete_plain, compose
from mace_gaunt.cli.request import read_request
from mace_gaunt.comparison import peer
from mace_gaunt.data.atomic_data import AtomicData
from mace_gaunt.errors import UserError
from mace_gaunt.evaluation.metrics import ErrorSums

LOG = """2026-01-01 10:00:00.000 INFO: MACE version: 0.3.16
2026-01-01 10:00:05.500 INFO: Started training, reporting errors on validation set
2026-01-01 10:00:05.600 INFO: Initial: head: Default, loss=10.0
2026-01-01 10:00:15.500 INFO: Epoch 0: head: Default, loss=1.0
2026-01-01 10:00:21.250 INFO: Epoch 1: head: Default, loss=0.5
2026-01-01 10:00:21.500 INFO: Training complete
2026-01-01 10:02:00.000 INFO: Evaluating valid
""".splitlines()


def plain(*words):
    composed = compose(read_request("train", parse_arguments(list(words))))
    return complete_plain(composed.config, composed.request.known)


def test_options_say_what_our_configuration_says():
    settings = plain("experiment=3bpa_small", "model.num_channels=32", "optimizer=adam", "optimizer.lr=0.01")
    found = options(settings, None)
    assert (found["num_channels"], found["max_L"], found["energy_weight"], found["lr"]) == (32, 1, 40.0, 0.01)
    assert found["batch_size"] == 5 and found["ema_decay"] == 0.99 and found["optimizer"] == "adam"
    assert options(settings, 0.005) == found | {"lr": 0.005}
    defaults = {key.removeprefix("options."): value for key, value in EARLIER.items()}
    assert {key: found[key] for key in defaults} == defaults


def test_networks_and_averages_are_those_of_our_member():
    words = ["model.num_bessel=10", "num_polynomial_cutoff=6", "radial_MLP=[32, 16]", "MLP_irreps=32x0e", "gate=abs"]
    found = options(plain(*words, "optimizer=adamw", "callbacks.ema=null"), None)
    assert (found["num_radial_basis"], found["num_cutoff_basis"], found["radial_MLP"]) == (10, 6, "[32, 16]")
    assert (found["MLP_irreps"], found["gate"], found["optimizer"]) == ("32x0e", "abs", "adamw")
    assert "ema_decay" not in found
    assert options(plain("model.gate=identity"), None)["gate"] == "None"


def test_what_mace_torch_has_not():
    settings = plain("data=3bpa_xtb")
    nadam = {"optimizer": {"_target_": "torch.optim.NAdam", "lr": 0.5}}
    with pytest.raises(UserError, match=r"no torch\.optim\.NAdam\. Give peer_lr=RATE"):
        options(settings | nadam, None)
    assert options(settings | nadam, 0.01)["lr"] == 0.01
    for group, changes, message in (
        ("loss", {"kind": "l2mae"}, r"loss\.kind=l2mae has no equal"),
        ("loss", {"stress_weight": 1.0}, r"loss\.stress_weight=1\.0 has no equal"),
        ("optimizer", {"amsgrad": False}, r"no Adam without AMSGrad"),
        ("model", {"gate": "gelu"}, r"no gate=gelu"),
        ("model", {"correlation": [3, 2]}, r"one correlation"),
        ("model", {"zbl": True}, r"not told of model\.zbl=True"),
    ):
        with pytest.raises(UserError, match=message):
            options(settings | {group: settings[group] | changes}, None)


def test_the_device_is_the_one_that_ours_have(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    assert peer_device("auto") == "cuda"
    monkeypatch.setattr(compare_peer, "choose_device", str)
    with pytest.raises(UserError, match="CUDA_VISIBLE_DEVICES"):
        peer_device("cuda:1")


@pytest.fixture
def planned(tmp_path):
    """A comparison by its command line, and its member by mace-torch."""

    def plan(*words):
        folder = f"run={tmp_path}/c"
        settings, arguments = split_keys(parse_arguments([*words, folder, "peer=true", "--print-config"]))
        comparison = plan_comparison(settings, arguments)
        return comparison, comparison.peers[0]

    return plan


def test_settings_of_a_finished_member_are_compared(planned):
    first = ["stage_two=energy", "epochs=4", "device=cpu"]
    comparison, member = planned(*first)
    assert peer_difference(comparison, member) is None
    (member.path / "report").mkdir(parents=True)
    (member.path / "report" / "metrics.csv").touch()
    (member.path / "run.json").write_text('{"finished": "then"}')
    job = peer_job(comparison, member)
    # As earlier versions wrote it, with keys that are no longer written, and without those they left to mace-torch.
    old = {**job, "python": "p", "splits": {"valid": "split_0.xyz"}, "steps_per_epoch": 7}
    old["options"] = {"E0s": "{1: -13.0}"} | {k: v for k, v in job["options"].items() if f"options.{k}" not in EARLIER}
    del old["data"]
    changes = {
        "epochs was 4 and is 5 now": planned("stage_two=energy", "epochs=5", "device=cpu")[0],
        "stage_two.start was 0.75 and is None now": planned("epochs=4", "device=cpu")[0],
        "options.ema_decay was 0.99 and is None now": planned(*first, "callbacks.ema=null")[0],
        "options.num_radial_basis was 8 and is 10 now": planned(*first, "model.num_bessel=10")[0],
    }
    for saved in (job, old):
        (member.path / peer.JOB).write_text(json.dumps(saved))
        assert peer_difference(comparison, member) is None
        assert [peer_difference(changed, member) for changed in changes.values()] == list(changes)
    (member.path / peer.JOB).write_text(json.dumps(job))
    other = planned(*first, "data.valid_fraction=0.2")[0]
    assert peer_difference(other, member).startswith("data.valid_fraction was ")


@pytest.mark.parametrize("key", ["init", "freeze"])
def test_only_trainings_from_random_weights_are_compared(planned, key):
    comparison, member = planned("epochs=4", "device=cpu")
    comparison.first.config[key] = "somewhere"
    with pytest.raises(UserError, match=f"leave {key}=somewhere, or peer, out"):
        peer_job(comparison, member)


def test_the_command_line_of_mace_run_train(tmp_path, monkeypatch):
    found = []

    def run(python, code, words):
        found.append(words)
        (tmp_path / "training" / "logs").mkdir()
        (tmp_path / "training" / "logs" / "mace.log").write_text("\n".join(LOG))

    monkeypatch.setattr(peer, "run", run)
    job = {"options": {"ema_decay": 0.9}, "splits": {"valid": "v"}, "device": "cpu", "stage_two": None, "python": ""}
    assert peer.train(tmp_path, job, 2, "training", 1) == 16.0
    peer.train(tmp_path, {**job, "options": {}}, 2, "training", 1)
    assert {"--ema", "--ema_decay=0.9", "--amsgrad", "--device=cpu"} <= set(found[0]) and "--ema" not in found[1]


def test_the_reason_of_a_failure_is_what_mace_torch_said(capfd):
    """Nothing is told after the last line of the process that failed."""
    with pytest.raises(SystemExit) as ended:
        peer.run(sys.executable, "raise ValueError(5)", ["--lr=1"])
    assert ended.value.code == 1 and capfd.readouterr().err.splitlines()[-1] == "ValueError: 5"


def test_the_second_stage_begins_at_the_same_fraction():
    assert stage_two(plain("data=3bpa_xtb"), 0.01) is None
    stage = stage_two(plain("experiment=3bpa_small", "stage_two.start=0.75"), 0.01)
    assert (stage["start"], stage["energy"], stage["forces"]) == (0.75, 4000.0, 1000.0)
    # The rate that a fall to a hundredth has reached after 7/8 of the training.
    assert stage["lr"] == pytest.approx(0.01 * 0.01**0.875)
    assert peer.stage_words(stage, 40)[:2] == ["--swa", "--start_swa=30"]
    assert peer.stage_words(stage, 1) == [] == peer.stage_words(None, 40)
    assert peer.stage_words(stage | {"start": 0.29}, 100)[1] == "--start_swa=29"
    # Our own defaults where the command line says nothing; a start as an epoch.
    stage = stage_two(plain("stage_two=energy", "stage_two.start=150", "max_epochs=200"), 0.01)
    assert stage == {"start": 0.75, "lr": 1e-3, "energy": 1000.0, "forces": 100.0}


def test_time_is_that_of_the_log():
    assert peer.seconds_of(LOG) == 16.0
    with pytest.raises(ValueError, match="does not say when"):
        peer.seconds_of(LOG[:1])


def test_epochs_that_fit(tmp_path, monkeypatch):
    monkeypatch.setattr(peer, "train", lambda *_: 8.0)
    assert peer.epochs_that_fit(tmp_path, {"seconds": 61.0}) == 22
    assert peer.epochs_that_fit(tmp_path, {"seconds": 1.0}) == 1


def test_absent_labels_do_not_count():
    atoms = ase.Atoms("H2", [[0, 0, 0], [0, 0, 0.8]])
    frame = AtomicData.from_atoms(atoms, 3.0, [1])
    frame.energy = torch.tensor([-2.0], dtype=torch.float64)
    source = labelled(frame)
    assert source.info["REF_energy"] == -2.0 and "REF_forces" not in source.arrays
    predicted = atoms.copy()
    predicted.info["MACE_energy"], predicted.arrays["MACE_forces"] = -1.99, np.zeros((2, 3))
    errors = ErrorSums()
    errors.add(peer.predictions([predicted], [source]))
    row = errors.row("split")
    assert row["energy_rmse_meV"] == pytest.approx(10.0) and row["forces_rmse_meV_A"] is None


def test_the_run_folder_is_read_like_one_of_ours(tmp_path, monkeypatch):
    from mace_gaunt.comparison.members import FINISHED, Member, errors_of, state_of, training_seconds

    member = Member({"tensor_product": "mace-torch", "seed": 0}, tmp_path)
    member.path.mkdir(parents=True)
    job = {
        "seconds": None,
        "epochs": 7,
        "python": "python",
        "options": {"eval_interval": 1},
        "splits": {"valid": "split_0.xyz"},
    }
    (member.path / peer.JOB).write_text(json.dumps(job))
    (member.path / "training").mkdir()
    monkeypatch.setattr(peer, "train", lambda *_: 12.5)
    row = ErrorSums().row("valid") | {"n_frames": 3, "forces_rmse_meV_A": 20.0}
    monkeypatch.setattr(peer, "evaluate", lambda *_: row)
    monkeypatch.setattr(peer, "run", lambda *_: None)
    peer.main(member.path)
    assert state_of(member) == FINISHED and training_seconds(member) == 12.5
    assert errors_of(member)["valid"]["forces_rmse_meV_A"] == 20.0
