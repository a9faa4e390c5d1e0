"""Files of mace-torch models that can be read without running anything in them: a config and a state dict."""

import gzip
import io
import json
import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from mace_gaunt.errors import UserError
from mace_gaunt.files import open_npz

CONFIG = "config.json"
STATE_DICTS = ("state_dict.npz", "state_dict.safetensors", "state_dict.pt", "state_dict.pt.gz")
SUFFIXES = (".npz", ".safetensors", ".pt", ".pt.gz", ".pth")


class PickledModelError(UserError):
    """The file is a pickled module: reading it runs code that is in it."""


def read_files(path: Path) -> tuple[dict[str, Any], Mapping[str, Any]]:
    """The config and the tensors of a model.

    Args:
        path: A folder with config.json and a state dict, that config.json, or a state dict beside which it lies.

    Returns:
        Config and tensors as `from_state_dict` takes them.

    Raises:
        PickledModelError: If it is a pickled model.
        UserError: If files are missing or cannot be read.
    """
    if not path.exists():
        raise UserError(f"No file or folder '{path}'.")
    if path.is_dir() or path.suffix == ".json":
        folder, config = (path, path / CONFIG) if path.is_dir() else (path.parent, path)
        candidates = [folder / name for name in STATE_DICTS]
        if path.is_file():
            candidates = [folder / (path.stem + suffix) for suffix in SUFFIXES] + candidates
        state = next((candidate for candidate in candidates if candidate.is_file()), None)
        if state is None:
            raise UserError(f"'{folder}' has no state dict: one of {', '.join(STATE_DICTS)} belongs beside {CONFIG}.")
    else:
        state, config = path, path.parent / CONFIG
    tensors = read_tensors(state)
    if not config.is_file():
        raise UserError(
            f"'{state.name}' holds tensors alone: a {CONFIG} with the settings of the model belongs beside it."
        )
    return read_config_file(config), tensors


def read_config_file(path: Path) -> dict[str, Any]:
    """The `config` entry of a JSON file, or the whole of it where there is no such entry."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"'{path}' cannot be read: {error}") from error
    config = content.get("config", content) if isinstance(content, dict) else None
    if not isinstance(config, dict):
        raise UserError(f"'{path}' holds no settings: expected an object, or one under 'config'.")
    return config


def read_tensors(path: Path) -> Mapping[str, Any]:
    """The tensors of a state dict; nothing in the file is run."""
    name = path.name
    try:
        if name.endswith(".npz"):
            with open_npz(path) as data:
                return dict(data)
        if name.endswith(".safetensors"):
            return load_file(path)
        content = path.read_bytes()
        raw = io.BytesIO(gzip.decompress(content) if name.endswith(".gz") else content)
        found = torch.load(raw, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise PickledModelError(f"'{path}' is a pickled model, not a state dict.") from error
    except (OSError, EOFError, ValueError, RuntimeError, zipfile.BadZipFile, SafetensorError) as error:
        raise UserError(f"'{path}' cannot be read as a state dict: {error}") from error
    if not isinstance(found, Mapping) or not all(isinstance(value, torch.Tensor) for value in found.values()):
        raise UserError(f"'{path}' holds no state dict: expected tensors by their names.")
    return found
