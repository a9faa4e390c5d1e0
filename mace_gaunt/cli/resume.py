"""What may differ between a run and its continuation."""

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from mace_gaunt.cli.aliases import Known
from mace_gaunt.cli.compose import FILLED, complete_plain
from mace_gaunt.cli.record import read_record
from mace_gaunt.cli.request import leaves, load_yaml
from mace_gaunt.cli.run_folder import RunFolder
from mace_gaunt.errors import UserError
from mace_gaunt.training.checkpoint_io import read
from mace_gaunt.training.groups import default_node_lr

# The weights and moments in the checkpoint belong to these.
FIXED = ("model.", "dtype", "optimizer._target_", "node_lr")
# What is learned does not depend on these, beyond the rounding of another device or kernel.
HARMLESS = (
    *("logger", "device", "compile", "stop_after_", "time_limit", "max_edges_per_pass"),
    *("data.test", "data.num_workers", "data.valid_batch_size", "data.cache_dir", "data.root"),
    *("callbacks.progress", "callbacks.metrics"),
    *("trainer.log_every_n_steps", "trainer.enable_", "trainer.profiler", "trainer.logger", "trainer.num_sanity"),
)
NOT_ON_TOTAL = ("constant", "exponential", "plateau")
"""Schedules that do not ask how many epochs there will be."""
UNKNOWN_THEN = {"node_lr": 1.0}
"""Keys that the configurations of earlier versions lack -> what they did."""
IGNORED = ("run", "resume", "overwrite", "complete")
RELATIVE_TOLERANCE = 1e-9


def settle_node_lr(config: DictConfig, folder: RunFolder | None = None) -> None:
    """Write the rate of node products where the configuration leaves it open, so that the run's record has it.

    Args:
        config: The checked configuration; changed in place.
        folder: The run folder. A run in it that an earlier version began knew no such key, and had one rate for all.
            None of a run that has not begun.
    """
    if config.node_lr is not None or config.optimizer is None:
        return
    file = folder.path / "config.yaml" if folder is not None and folder.checkpoint is not None else None
    begun_before = file is not None and file.is_file() and "node_lr" not in load_yaml(file)
    config.node_lr = UNKNOWN_THEN["node_lr"] if begun_before else default_node_lr(config.optimizer["_target_"])


def check_resumable(config: DictConfig, folder: RunFolder, known: Known, file_hashes: Mapping[str, str]) -> None:
    """Compare a configuration with that of the run it continues; print what changed.

    Args:
        config: The completed configuration.
        folder: The run folder; nothing is compared unless it continues a checkpoint.
        known: What the verb has at its top level.
        file_hashes: File -> SHA-256 of the data.

    Raises:
        UserError: If the checkpoint cannot belong to this configuration; or if a file of the data has changed, or what
            is learned from here on would be another thing, and resume is not "force".
    """
    if folder.checkpoint is None:
        return
    check_checkpoint(folder.checkpoint)
    for name in changed_files(read_record(folder.path).get("data_sha256", {}), file_hashes):
        if config.resume != "force":
            raise UserError(
                f"{folder.path} would not be continued as it began: {name} is another file now (its SHA-256 is in "
                "run.json). Put the old one back; resume=force goes on all the same."
            )
        print(f"changed on resume: {name} is another file (forced)")
    file = folder.path / "config.yaml"
    if not file.is_file():
        return
    before = {**UNKNOWN_THEN, **dict(leaves(load_yaml(file)))}
    now = dict(leaves(complete_plain(config, known)))
    changed = {
        key: (before.get(key), now.get(key))
        for key in sorted({*before, *now})
        if _differ(before.get(key), now.get(key)) and key not in IGNORED and not key.endswith("kernel")
    }
    told = {key: f"{key} was {old} and is {new} now" for key, (old, new) in changed.items()}
    for key in changed:
        if key.startswith(FIXED):
            why = " (from the training data)" if key.removeprefix("model.") in FILLED else ""
            raise UserError(
                f"{folder.path} cannot be resumed: {told[key]}{why}. Start a new run, or resume with "
                f"run=... resume=auto alone."
            )
    harmful = [key for key in changed if not is_harmless(key, now)]
    if harmful and config.resume != "force":
        raise UserError(
            f"{folder.path} would not be continued as it began: {'; '.join(told[key] for key in harmful)}. "
            "resume=force goes on all the same; a new run=NAME begins anew."
        )
    for key, (old, new) in changed.items():
        print(f"changed on resume: {key} was {old}, is {new}{' (forced)' if key in harmful else ''}")


def changed_files(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """Names of files that were read then and are read now, with other content; folders may have moved.

    Args:
        before: File -> SHA-256.
        now: The same.
    """

    def by_name(hashes: Mapping[str, str]) -> dict[str, set[str]]:
        found: dict[str, set[str]] = {}
        for path, sha256 in hashes.items():
            found.setdefault(Path(path).name, set()).add(sha256)
        return found

    old, new = by_name(before), by_name(now)
    return sorted(name for name in old.keys() & new.keys() if old[name].isdisjoint(new[name]))


def check_checkpoint(path: Path) -> None:
    """Read a checkpoint that a training is to be continued from.

    Args:
        path: The file.

    Raises:
        UserError: If it is cut off or altered, or holds objects whose loading would run code.
    """
    try:
        read(path)
    except (pickle.UnpicklingError, RuntimeError, ValueError, EOFError, KeyError, AttributeError) as error:
        raise UserError(
            f"{path} is damaged, or is no checkpoint of a training ({str(error).partition('. ')[0]}). "
            "Put an intact copy there, or begin anew with overwrite=true."
        ) from error


def is_harmless(key: str, config: Mapping[str, Any]) -> bool:
    """Whether a training may go on with another value as if it always had been so.

    Args:
        key: A leaf of the configuration.
        config: All leaves, as they are now.
    """
    if key == "trainer.max_epochs":
        schedule = str(config.get("scheduler._target_") or "constant").rpartition(".")[2]
        start = config.get("stage_two.start")
        return schedule in NOT_ON_TOTAL and (start is None or start >= 1)
    return key.startswith(HARMLESS)


def _differ(old: Any, new: Any) -> bool:
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        return any(_differ(*pair) for pair in zip(old, new, strict=True))
    if isinstance(old, float) and isinstance(new, (int, float)):
        return abs(old - new) > RELATIVE_TOLERANCE * max(abs(old), abs(new))
    return bool(old != new)
