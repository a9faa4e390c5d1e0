"""What may differ between a run and its continuation."""

from typing import Any

from omegaconf import DictConfig

from mace_gaunt.cli.aliases import Known
from mace_gaunt.cli.compose import FILLED, complete_plain
from mace_gaunt.cli.request import leaves, load_yaml
from mace_gaunt.cli.run_folder import RunFolder
from mace_gaunt.errors import UserError

# The weights in the checkpoint belong to these; everything else may change, and is told.
FIXED = ("model.", "dtype", "optimizer._target_")
IGNORED = ("run", "resume", "overwrite", "complete")
RELATIVE_TOLERANCE = 1e-9


def check_resumable(config: DictConfig, folder: RunFolder, known: Known) -> None:
    """Compare a configuration with that of the run it continues; print what changed.

    Args:
        config: The completed configuration.
        folder: The run folder; nothing is compared unless it continues a checkpoint.
        known: What the verb has at its top level.

    Raises:
        UserError: If the checkpoint cannot belong to this configuration.
    """
    file = folder.path / "config.yaml"
    if folder.checkpoint is None or not file.is_file():
        return
    before = dict(leaves(load_yaml(file)))
    now = dict(leaves(complete_plain(config, known)))
    changed = {
        key: (before.get(key), now.get(key))
        for key in sorted({*before, *now})
        if _differ(before.get(key), now.get(key))
    }
    changed = {key: pair for key, pair in changed.items() if key not in IGNORED and not key.endswith(".kernel")}
    for key, (old, new) in changed.items():
        if key.startswith(FIXED):
            why = " (from the training data)" if key.removeprefix("model.") in FILLED else ""
            raise UserError(
                f"{folder.path} cannot be resumed: {key} was {old} and is {new} now{why}. Start a new run, or resume "
                f"with run=... resume=auto alone."
            )
        print(f"changed on resume: {key} was {old}, is {new}")


def _differ(old: Any, new: Any) -> bool:
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        return any(_differ(*pair) for pair in zip(old, new, strict=True))
    if isinstance(old, float) and isinstance(new, (int, float)):
        return abs(old - new) > RELATIVE_TOLERANCE * max(abs(old), abs(new))
    return bool(old != new)
