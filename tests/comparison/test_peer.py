"""mace-torch as a member: its options, its log, its predictions. The commands themselves are not run here."""

import json

import ase
import numpy as np
import pytest
import torch

from mace_gaunt.cli.arguments import parse_arguments
from mace_gaunt.cli.compare_peer import labelled, options, stage_two
from mace_gaunt.cli.compose import compose
from mace_gaunt.cli.keys import to_plain
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
    return to_plain(compose(read_request("train", parse_arguments(list(words)))).config)


def test_options_say_what_our_configuration_says():
    settings = plain("experiment=3bpa_small", "model.num_channels=32", "optimizer=adam", "optimizer.lr=0.01")
    found = options(settings, None)
    assert (found["num_channels"], found["max_L"], found["energy_weight"], found["lr"]) == (32, 1, 40.0, 0.01)
    assert found["batch_size"] == 5
    assert options(settings, 0.005) == found | {"lr": 0.005}


def test_what_mace_torch_has_not():
    with pytest.raises(UserError, match=r"loss\.kind=l2mae has no equal"):
        options(plain("loss=l2mae"), None)
    settings = plain("data=3bpa_xtb") | {"optimizer": {"_target_": "torch.optim.NAdam", "lr": 0.5}}
    with pytest.raises(UserError, match=r"no torch\.optim\.NAdam\. Give peer_lr=RATE"):
        options(settings, None)
    assert options(settings, 0.01)["lr"] == 0.01


def test_the_second_stage_begins_at_the_same_fraction():
    assert stage_two(plain("data=3bpa_xtb"), 0.01) is None
    stage = stage_two(plain("experiment=3bpa_small"), 0.01)
    assert (stage["start"], stage["energy"], stage["forces"]) == (0.75, 4000.0, 1000.0)
    # The rate that a fall to a hundredth has reached after 7/8 of the training.
    assert stage["lr"] == pytest.approx(0.01 * 0.01**0.875)
    assert peer.stage_words(stage, 40)[:2] == ["--swa", "--start_swa=30"]
    assert peer.stage_words(stage, 1) == [] == peer.stage_words(None, 40)


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
