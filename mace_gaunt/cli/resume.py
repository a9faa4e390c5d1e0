"""What may differ between a run and its continuation."""

import itertools
import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from mace_gaunt.cli.aliases import Known
from mace_gaunt.cli.compose import FILLED, PRODUCTS, complete_plain
from mace_gaunt.cli.record import read_record
from mace_gaunt.cli.request import Request, leaves, load_yaml
from mace_gaunt.cli.run_folder import RunFolder, rank
from mace_gaunt.errors import UserError
from mace_gaunt.training.checkpoint_io import read
from mace_gaunt.training.groups import default_node_lr

# The weights and moments in the checkpoint belong to these.
FIXED = ("model.", "dtype", "optimizer._target_", "optimizer.amsgrad", "node_lr")
# What is learned does not depend on these, beyond the rounding of another device or kernel.
HARMLESS = (
    *("logger", "device", "kernel", "compile", "stop_after_", "time_limit", "max_edges_per_pass"),
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


def fill_from_record(config: DictConfig, request: Request, folder: RunFolder) -> None:
    """Complete the model of a run that goes on with what its first start took from the data, or from `init=`.

    The command line that began the run may be given again: it says neither, and the weights belong to both.

    Args:
        config: The checked configuration; its `model` is changed in place.
        request: What the user asked for; it stands, to be compared with the record.
        folder: The run folder; nothing is done unless it continues a checkpoint.

    Raises:
        UserError: If the run began with `init=` and its config.yaml is gone.
    """
    if folder.checkpoint is None:
        return
    file = folder.path / "config.yaml"
    if not file.is_file():
        if config.init is not None:
            raise UserError(f"{file} is gone, which says what model the run has: it cannot go on. Begin a new run.")
        return
    recorded = load_yaml(file).get("model") or {}
    if config.init is not None:
        asked = [{} if request.complete else request.file_body.get("model") or {}, request.body.get("model") or {}]
        products = PRODUCTS if "tensor_product" in {**request.file_choices, **request.choices} else ()
        chosen = {name: config.model[name] for name in products}
        config.model = OmegaConf.merge(recorded, *asked, chosen)
        return
    for name in FILLED:
        if name in recorded and (name not in config.model or OmegaConf.is_missing(config.model, name)):
            config.model[name] = recorded[name]


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
    say = print if rank() == 0 else _say_nothing
    saved = check_checkpoint(folder.checkpoint)
    for name in changed_files(read_record(folder.path).get("data_sha256", {}), file_hashes):
        if config.resume != "force":
            raise UserError(
                f"{folder.path} would not be continued as it began: {name} is another file now (its SHA-256 is in "
                "run.json). Put the old one back; resume=force goes on all the same."
            )
        say(f"changed on resume: {name} is another file (forced)")
    file = folder.path / "config.yaml"
    if not file.is_file():
        return
    before = {**UNKNOWN_THEN, **_leaves(load_yaml(file))}
    now = _leaves(complete_plain(config, known))
    changed = {
        key: (before.get(key), now.get(key))
        for key in sorted({*before, *now})
        if differ(before.get(key), now.get(key)) and key not in IGNORED
    }
    told = {key: f"{key} was {old} and is {new} now" for key, (old, new) in changed.items()}
    for key, values in changed.items():
        if (key.startswith(FIXED) and not is_harmless(key, now)) or _other_schedule(key, values):
            raise UserError(
                f"{folder.path} cannot be resumed: {told[key]}. Start a new run, or resume with "
                f"run=... resume=auto alone."
            )
    harmful = [key for key in changed if not is_harmless(key, now)]
    if harmful and config.resume != "force":
        raise UserError(
            f"{folder.path} would not be continued as it began: {'; '.join(told[key] for key in harmful)}. "
            "resume=force goes on all the same; a new run=NAME begins anew."
        )
    begun = {"stage_two.start", "stage_two.lr"} & changed.keys()
    if begun and saved.get("stage_two", {}).get("started"):
        raise UserError(
            f"{folder.path} is in its second stage: {told[min(begun)]}, which would change nothing any more. Give the "
            "value it had; the rate from here on is scaled by optimizer.lr."
        )
    if "optimizer.lr" in changed and "rates" not in saved:
        raise UserError(
            f"{folder.path} was begun by an earlier version, whose checkpoints do not say what their rate was to be: "
            "optimizer.lr stays as it was. Give the rate it had, or begin a new run."
        )
    for key, (old, new) in changed.items():
        say(f"changed on resume: {key} was {old}, is {new}{' (forced)' if key in harmful else ''}")


def changed_files(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """Files that were read then and are read now, with other content; folders may have moved.

    A file is compared with the one of its path. Where there was none, with those of its name whose path ends most like
    its own, of those that are not read any more.

    Args:
        before: File -> SHA-256.
        now: The same.

    Returns:
        Their paths now.
    """
    gone = [path for path in before if path not in now]
    return sorted(
        path
        for path, sha256 in now.items()
        if (same := [path] if path in before else _most_alike(path, gone)) and sha256 not in map(before.get, same)
    )


def _most_alike(path: str, others: Sequence[str]) -> list[str]:
    """Those of the name of a path that have most of its last folders in common with it."""

    def common(other: str) -> int:
        pairs = zip(reversed(Path(path).parts), reversed(Path(other).parts), strict=False)
        return sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))

    most = max(map(common, others), default=0)
    return [other for other in others if most and common(other) == most]


def check_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint that a training is to be continued from.

    Args:
        path: The file.

    Returns:
        Its content.

    Raises:
        UserError: If it is cut off or altered, or holds objects whose loading would run code.
    """
    try:
        return read(path)
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
    return key.startswith(HARMLESS) or key.endswith(".kernel")


def _other_schedule(key: str, values: tuple[Any, Any]) -> bool:
    """Whether a schedule that goes by the loss takes the place of one that goes by the step, or the reverse."""
    return key == "scheduler._target_" and len({str(value).endswith(".plateau") for value in values}) == 2


def _leaves(config: dict[str, Any]) -> dict[str, Any]:
    """Dotted key -> value. The folder of `init` counts with its full path, also when it is gone."""
    found = dict(leaves(config))
    if found.get("init") is not None:
        found["init"] = str(Path(str(found["init"])).expanduser().resolve())
    return found


def _say_nothing(text: str) -> None:
    """What further processes of a training say."""


def differ(old: Any, new: Any) -> bool:
    """Whether two values of a configuration are not the same; floats are, to rounding.

    Args:
        old: One value; lists are compared entry by entry.
        new: The other.
    """
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        return any(differ(*pair) for pair in zip(old, new, strict=True))
    if isinstance(old, float) and isinstance(new, (int, float)):
        return abs(old - new) > RELATIVE_TOLERANCE * max(abs(old), abs(new))
    return bool(old != new)
