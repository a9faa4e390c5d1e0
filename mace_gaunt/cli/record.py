"""run.json: with what, on what and from what a run was made."""

import datetime
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mace_gaunt import __version__
from mace_gaunt.cli.choices import PACKAGE
from mace_gaunt.cli.run_folder import RunFolder, write_json
from mace_gaunt.files import write_whole

if TYPE_CHECKING:
    from mace_gaunt.cli.compose import Composed
    from mace_gaunt.data.datamodule import AtomsDataModule

# One identity per folder and process: loggers are built before run.json is written.
_NEW_IDS: dict[Path, str] = {}
LIBRARIES = ("torch", "e3nn", "lightning", "torch-geometric", "ase", "numpy", "hydra-core", "vesin")


RECORD = "run.json"


def begin_record(
    composed: "Composed",
    folder: RunFolder,
    file_hashes: Mapping[str, str],
    kernels: Mapping[str, str],
    started_from: Mapping[str, str] | None = None,
) -> None:
    """Write config.yaml and run.json; a continued run keeps its first record and adds to it.

    Args:
        composed: The completed configuration.
        folder: The run folder; it exists.
        file_hashes: File -> SHA-256 of the data.
        kernels: Kernel of each product, by its name in the model.
        started_from: Name and hash of the model that it starts from; None of others, and of a continued run.
    """
    from mace_gaunt.cli.compose import complete_text

    chosen = " ".join(f"{group}={choice}" for group, choice in composed.choices.items())
    header = f"mace_gaunt {__version__}: run again with `mace-gaunt train {folder.path}/config.yaml`"
    config = composed.config.copy()
    config.run, config.resume, config.overwrite = None, "never", False
    text = complete_text(config, composed.request.known, f"{header}\nchosen: {chosen or composed.request.file}")
    write_whole(folder.path / "config.yaml", text)
    start: dict[str, Any] = {"started": now(), "command": ["mace-gaunt", *sys.argv[1:]], "directory": str(Path.cwd())}
    before = read_record(folder.path)
    if folder.checkpoint and before:
        earlier = before.get("data_sha256", {})
        if {*earlier.values()} != {*file_hashes.values()}:
            start["data_sha256_before"] = earlier
        resumed = [*before.get("resumed", []), start]
        write_json(folder.path / RECORD, {**before, "data_sha256": dict(file_hashes), "resumed": resumed})
        return
    record = {
        "id": run_id(folder),
        **start,
        "choices": composed.choices,
        "seed": composed.config.seed,
        "versions": versions(),
        "git": git_state(),
        "hardware": hardware(),
        "kernels": dict(kernels),
        "data_sha256": dict(file_hashes),
        **({} if started_from is None else {"started_from": dict(started_from)}),
    }
    write_json(folder.path / RECORD, record)


def end_record(folder: Path, epochs: int) -> None:
    """Note in run.json that the training came to its end.

    Args:
        folder: The run folder.
        epochs: Epochs done.
    """
    write_json(folder / RECORD, {**read_record(folder), "finished": now(), "epochs": epochs})


def read_record(folder: Path) -> dict[str, Any]:
    """The content of run.json, empty where there is none.

    Args:
        folder: A run folder.
    """
    path = folder / RECORD
    content: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {}
    return content


def run_id(folder: RunFolder) -> str:
    """The identity of a run for trackers: the recorded one of a continued run, else a new one.

    Args:
        folder: The run folder.
    """
    recorded = read_record(folder.path).get("id") if folder.checkpoint else None
    return str(recorded or _NEW_IDS.setdefault(folder.path, uuid.uuid4().hex[:12]))


def model_metadata(composed: "Composed", folder: Path, data: "AtomsDataModule", trainer: Any) -> dict[str, Any]:
    """What a shared model says about its origin.

    Args:
        composed: The completed configuration.
        folder: The run folder.
        data: The data it was trained on.
        trainer: The trainer, done.

    Returns:
        JSON values.
    """
    from mace_gaunt.data.coverage import training_coverage

    coverage, started_from = training_coverage(data.train_frames), read_record(folder).get("started_from")
    return {
        "trained": now(),
        "choices": composed.choices,
        "seed": composed.config.seed,
        "epochs": trainer.current_epoch,
        "training_frames": len(data.train_frames),
        "validation_frames": len(data.valid_frames),
        "data_sha256": {Path(path).name: sha256 for path, sha256 in data.file_hashes.items()},
        "versions": versions(),
        # What simulations compare their geometries with.
        **({} if coverage is None else {"training_set": coverage.to_json()}),
        **({} if started_from is None else {"started_from": started_from}),
    }


def now() -> str:
    """The time as ISO text, seconds, with the zone."""
    return datetime.datetime.now().astimezone().isoformat(timespec="seconds")


def versions() -> dict[str, str]:
    """Versions of Python, of this package and of what its numbers depend on; torch's with its build, as "+cu132"."""
    import torch

    found = {"python": platform.python_version(), "mace_gaunt": __version__}
    for name in LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    # PyPI's metadata leave the build out.
    return found | {"torch": torch.__version__}


def git_state() -> dict[str, Any] | None:
    """Commit of the checkout the package runs from, and whether it was changed; None outside one."""
    if not (PACKAGE.parent / ".git").exists():
        return None
    commit, status = _git("rev-parse", "HEAD"), _git("status", "--porcelain", "--untracked-files=no")
    return None if commit is None else {"commit": commit, "changed": bool(status)}


def hardware() -> dict[str, Any]:
    """Processor, cores, threads, memory, GPUs."""
    import torch

    gpus = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return {
        "machine": platform.machine(),
        "system": platform.platform(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "memory_GiB": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "gpus": gpus,
    }


def _git(*words: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(PACKAGE.parent), *words], capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()
