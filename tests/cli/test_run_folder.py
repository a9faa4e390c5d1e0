import errno
import os
from pathlib import Path

import pytest
from lightning.fabric.utilities.rank_zero import rank_zero_only

from mace_gaunt.cli.arguments import parse_arguments
from mace_gaunt.cli.run_folder import (
    CHECKPOINT_VARIABLE,
    FOLDER_VARIABLE,
    RunFolder,
    name_folder,
    plan_folder,
    saved_config,
)
from mace_gaunt.errors import UserError
from mace_gaunt.locks import try_lock


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def occupy(folder, *names):
    for name in names:
        path = Path(folder) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("kept")


def test_names_live_in_runs_and_paths_are_themselves():
    assert name_folder("first", "") == Path("runs/first")
    assert name_folder("here/first", "") == Path("here/first")
    assert name_folder("./first", "") == Path("first")
    assert name_folder(None, "3bpa-gaunt").name.startswith("3bpa-gaunt-")


def test_an_occupied_folder_is_refused_and_says_what_can_be_done():
    occupy("runs/a", "notes.txt")
    with pytest.raises(UserError, match=r"another run=NAME or overwrite=true"):
        plan_folder("a", "", "never", False)
    occupy("runs/a", "checkpoints/last.ckpt")
    with pytest.raises(UserError, match=r"resume=auto to continue it"):
        plan_folder("a", "", "never", False)
    with pytest.raises(UserError, match="is a file"):
        plan_folder("runs/a/notes.txt", "", "never", False)


def test_overwriting_takes_out_only_what_a_training_wrote():
    occupy("runs/a", "notes.txt", "config.yaml", "model/model.json", "checkpoints/last.ckpt")
    folder = plan_folder("a", "", "never", True)
    assert Path("runs/a/config.yaml").exists()
    with folder.opened() as new:
        assert not new
    assert [path.name for path in Path("runs/a").iterdir()] == ["notes.txt"]


def test_resuming():
    assert plan_folder("new", "", "auto", False).checkpoint is None
    occupy("runs/a", "checkpoints/last.ckpt", "config.yaml")
    assert plan_folder("a", "", "auto", False).checkpoint == Path("runs/a/checkpoints/last.ckpt")
    assert saved_config(parse_arguments(["run=a", "resume=auto", "max_epochs=9"])) == Path("runs/a/config.yaml")
    assert saved_config(parse_arguments(["run=a", "resume=auto", "experiment=x"])) is None
    assert saved_config(parse_arguments(["run=a"])) is None
    with pytest.raises(UserError, match=r"no runs/b/checkpoints/last.ckpt"):
        plan_folder("b", "", "must", False)


@pytest.fixture
def second_process(monkeypatch):
    monkeypatch.setattr(rank_zero_only, "rank", 1, raising=False)
    for variable in (FOLDER_VARIABLE, CHECKPOINT_VARIABLE):  # of trainings of other tests
        monkeypatch.delenv(variable, raising=False)


def test_processes_of_one_training_continue_the_same_checkpoint(second_process, monkeypatch):
    last = Path("runs/a/checkpoints/last.ckpt")
    occupy("runs/a", "checkpoints/last.ckpt", "config.yaml")
    for resume in ("auto", "must", "force"):
        assert plan_folder("a", "", resume, False) == RunFolder(Path("runs/a"), last)
    assert plan_folder("a", "", "never", True) == RunFolder(Path("runs/a"))
    with pytest.raises(UserError, match=r"no runs/b/checkpoints/last.ckpt"):
        plan_folder("b", "", "must", False)
    # The first process may have begun to write.
    occupy("runs/c", "config.yaml", "run.json")
    assert plan_folder("c", "", "auto", False).checkpoint is None
    # Those that Lightning starts are told: what lies there now may have been written since.
    monkeypatch.setenv(FOLDER_VARIABLE, "runs/a")
    monkeypatch.setenv(CHECKPOINT_VARIABLE, "")
    assert plan_folder(None, "x", "auto", False) == RunFolder(Path("runs/a"))
    monkeypatch.setenv(CHECKPOINT_VARIABLE, str(last))
    assert plan_folder(None, "x", "auto", False) == RunFolder(Path("runs/a"), last)


def test_a_new_folder_without_a_checkpoint_goes_again():
    folder = plan_folder("a", "", "never", False)
    with folder.opened() as new:
        assert new
        occupy("runs/a", "config.yaml")
        assert folder.discard_if_empty_handed(new)
    assert not folder.path.exists()
    occupy("runs/a", "checkpoints/last.ckpt")
    assert not folder.discard_if_empty_handed(new=True)


def test_a_folder_in_which_another_process_trains_is_refused_until_that_process_is_gone(training_in):
    occupy("runs/a", "checkpoints/last.ckpt", "config.yaml")
    other = training_in(Path("runs/a"))
    for resume, overwrite in (("never", True), ("auto", False), ("must", False)):
        with pytest.raises(UserError, match=rf"runs/a is in use: process {other.pid} on .* trains in it"):
            plan_folder("a", "", resume, overwrite)
    with pytest.raises(UserError, match="in use"), RunFolder(Path("runs/a"), overwrite=True).opened():
        pass
    assert Path("runs/a/config.yaml").exists()
    other.kill()
    other.wait()
    assert plan_folder("a", "", "auto", False).checkpoint is not None


def test_a_lock_that_a_killed_training_left_in_an_empty_folder_does_not_count():
    occupy("runs/a", ".lock")
    with plan_folder("a", "", "never", False).opened() as new:
        assert new
        assert str(os.getpid()) in Path("runs/a/.lock").read_text()


def test_a_file_system_without_locks_is_told(monkeypatch, capsys):
    def refuse(*_):
        raise OSError(errno.ENOLCK, "no locks")

    monkeypatch.setattr("fcntl.lockf", refuse)
    with RunFolder(Path("runs/a")).opened():
        pass
    assert "no lock on runs/a/.lock: do not start this run twice" in capsys.readouterr().out


def test_a_lock_whose_file_is_being_removed_is_not_taken(tmp_path):
    Path(".lock").touch()
    with Path(".lock").open("r+") as file:
        Path(".lock").unlink()
        with pytest.raises(UserError, match="in use: another process"):
            try_lock(file)
