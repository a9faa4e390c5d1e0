"""From a finished training to the model that is saved and shared."""

import copy
from pathlib import Path
from typing import Any

import lightning
import torch

from mace_gaunt.errors import UserError
from mace_gaunt.training.callbacks import EMA, BestCheckpoint
from mace_gaunt.training.module import PotentialModule

PREFIX = "model."


def model_from_checkpoint(module: PotentialModule, path: str | Path) -> Any:
    """The validated weights of a checkpoint in a copy of the module's model.

    Args:
        module: A module with the model that was trained.
        path: A checkpoint of a training.

    Returns:
        A MACE in evaluation mode, in the dtype and on the device of the module's.

    Raises:
        UserError: If the checkpoint is of another model.
    """
    state = torch.load(path, map_location="cpu", weights_only=True)["state_dict"]
    weights = {name.removeprefix(PREFIX): value for name, value in state.items() if name.startswith(PREFIX)}
    model = copy.deepcopy(module.model)
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise UserError(f"{path} holds another model than the one configured: {error}") from error
    return model.eval()


def best_model(trainer: lightning.Trainer, module: PotentialModule) -> Any:
    """The model to keep after `fit`: that of `best.ckpt`, or the averaged weights when none was written.

    Returns:
        A MACE in evaluation mode; the module keeps its own weights.
    """
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, BestCheckpoint) and callback.best_model_path and callback.path.is_file():
            return model_from_checkpoint(module, callback.path)
    averages = [callback for callback in trainer.callbacks if isinstance(callback, EMA)]  # type: ignore[attr-defined]
    for ema in averages:
        ema.swap(module)
    model = copy.deepcopy(module.model).eval()
    for ema in averages:
        ema.swap(module)
    return model
