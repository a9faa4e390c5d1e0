"""The one folder a run lives in: its name, what may be there before, what goes into it."""

import datetime
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mace_gaunt.cli.aliases import ALIASES
from mace_gaunt.cli.arguments import Arguments
from mace_gaunt.errors import UserError, nearest
from mace_gaunt.files import check_writable, new_folder, write_whole
from mace_gaunt.locks import check_not_held, held, is_empty

# How the first process of a training tells the others.
FOLDER_VARIABLE, CHECKPOINT_VARIABLE = "MACE_GAUNT_RUN_FOLDER", "MACE_GAUNT_RUN_CHECKPOINT"
RESUME = ("never", "auto", "must", "force")
# What a training writes; `overwrite=true` removes these and nothing else.
WRITTEN = (
    "config.yaml", "run.json", "metrics.csv", "checkpoints", "model", "report", "tensorboard", "wandb", "tetris.csv",
    "tetris.json",
)  # fmt: skip


@dataclass(frozen=True)
class RunFolder:
    """Where a run lives and how it starts.

    Attributes:
        path: The folder; it may not exist yet.
        checkpoint: The checkpoint to continue, or None for a new run.
        overwrite: Whether what an earlier training wrote is removed first.
    """

    path: Path
    checkpoint: Path | None = None
    overwrite: bool = False

    @property
    def name(self) -> str:
        """What `run=` has to be for this folder."""
        return self.path.name if self.path.parent == Path("runs") else f"{self.path}/"

    @contextmanager
    def opened(self) -> Iterator[bool]:
        """Make the folder ready for writing, and keep other processes from training in it as long as this one does.

        Yields:
            Whether it is new, so that it may go again when nothing comes of the run.

        Raises:
            UserError: If another process trains in it.
        """
        new = is_empty(self.path)
        with new_folder(self.path), held(self.path):
            self._remove_earlier()
            yield new

    def _remove_earlier(self) -> None:
        """What an earlier training wrote, where `overwrite` says so."""
        if self.overwrite and not self.checkpoint:
            for name in WRITTEN:
                target = self.path / name
                shutil.rmtree(target) if target.is_dir() else target.unlink(missing_ok=True)

    def discard_if_empty_handed(self, new: bool) -> bool:
        """Remove a new folder in which no checkpoint has been written.

        Args:
            new: What `opened` gave.

        Returns:
            Whether it was removed.
        """
        if not new or any(self.path.glob("checkpoints/*.ckpt")):
            return False
        shutil.rmtree(self.path)
        if self.path.parent == Path("runs") and not any(self.path.parent.iterdir()):
            self.path.parent.rmdir()
        return True


def name_folder(run: str | None, stem: str) -> Path:
    """The folder that `run=` names.

    Args:
        run: A name -> runs/NAME; with a slash the folder itself; None -> runs/STEM-DATE.
        stem: What the default name begins with.

    Returns:
        A path.
    """
    if run is None:
        return Path("runs") / f"{stem}-{datetime.datetime.now():%Y%m%d-%H%M%S}"
    text = str(run)
    return Path(text).expanduser() if "/" in text else Path("runs") / text


def plan_folder(run: str | None, stem: str, resume: str, overwrite: bool) -> RunFolder:
    """Decide where the run lives and whether it continues; writes nothing.

    Args:
        run: See `name_folder`.
        stem: See `name_folder`.
        resume: One of RESUME.
        overwrite: Whether an earlier run there may be replaced.

    Returns:
        The plan.

    Raises:
        UserError: If the folder is taken, or there is nothing to resume.
    """
    if (shared := _shared_plan()) is not None:
        return shared
    if resume not in RESUME:
        raise UserError(f"resume={resume} is not possible.{nearest(str(resume), RESUME)}")
    if resume != "never" and run is None:
        raise UserError(f"resume={resume} needs run=NAME: which run is to be continued?")
    path = name_folder(run, stem)
    if rank() == 0:
        check_not_held(path)
    last = path / "checkpoints" / "last.ckpt"
    if resume != "never" and last.is_file():
        return RunFolder(path, last)
    if resume in ("must", "force"):
        raise UserError(f"resume={resume}: there is no {last}.{_other_runs(path)}")
    if rank() > 0:
        # The first process looks after the folder, and may have begun to. It writes no checkpoint before all processes
        # have met, which is after this: all of them see the same one, or none.
        return RunFolder(path)
    check_free(path, overwrite, resume)
    return RunFolder(path, None, overwrite)


def saved_config(arguments: Arguments) -> Path | None:
    """The configuration of the run that a bare `run=NAME resume=auto` continues.

    Args:
        arguments: The command line of `train`.

    Returns:
        config.yaml of the run; None when there is nothing to continue, or the command line names a file or an
        experiment of its own.
    """
    given = {ALIASES.get(key, key): value for key, value in arguments.pairs}
    own = arguments.words or {"experiment", "debug"} & set(given)
    if own or given.get("resume") not in ("auto", "must", "force") or "run" not in given:
        return None
    folder = name_folder(given["run"], "")
    file = folder / "config.yaml"
    return file if file.is_file() and (folder / "checkpoints" / "last.ckpt").is_file() else None


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a JSON file so that it is never seen half-written.

    Args:
        path: The file.
        content: JSON values.
    """
    write_whole(path, json.dumps(content, indent=2) + "\n")


def share_plan(folder: RunFolder) -> None:
    """Tell the processes that Lightning starts for further devices where the run lives.

    Args:
        folder: The plan of the first process.
    """
    os.environ[FOLDER_VARIABLE] = str(folder.path)
    os.environ[CHECKPOINT_VARIABLE] = str(folder.checkpoint or "")


def rank() -> int:
    """Number of this process among those of one training; the first, 0, writes and prints."""
    from lightning.fabric.utilities.rank_zero import rank_zero_only

    return int(getattr(rank_zero_only, "rank", 0) or 0)


def _shared_plan() -> RunFolder | None:
    """What the first process has decided, in those that Lightning started for it; None in all others.

    Processes that srun or torchrun started know nothing of each other and plan alike, by a `run=NAME`.
    """
    path, checkpoint = os.environ.get(FOLDER_VARIABLE), os.environ.get(CHECKPOINT_VARIABLE)
    if rank() == 0 or path is None:
        return None
    return RunFolder(Path(path), Path(checkpoint) if checkpoint else None)


def check_free(path: Path, overwrite: bool, resume: str) -> None:
    """Refuse a folder that would lose something.

    Args:
        path: The folder.
        overwrite: Whether an earlier run there may be replaced.
        resume: "auto" when a run was to be continued.

    Raises:
        UserError: If the folder is a file, is read-only or is not empty; says what can be done.
    """
    if path.exists() and not path.is_dir():
        raise UserError(f"run={path} is a file, not a folder.")
    for parent in path.parents:
        if parent.exists() and not parent.is_dir():
            raise UserError(f"run={path}: {parent} is a file, not a folder.")
    check_writable(path)
    if is_empty(path) or overwrite:
        return
    last = (path / "checkpoints" / "last.ckpt").is_file()
    ways = ["another run=NAME"] + ["resume=auto to continue it"] * last + ["overwrite=true to replace it"]
    why = " and has no checkpoint to continue" if resume == "auto" and not last else ""
    raise UserError(f"the run folder {path} is not empty{why}. Choose {', '.join(ways[:-1])} or {ways[-1]}.")


def _other_runs(path: Path) -> str:
    if not path.parent.is_dir():
        return ""
    names = [entry.parent.parent.name for entry in path.parent.glob("*/checkpoints/last.ckpt")]
    return nearest(path.name, names) if names else ""
