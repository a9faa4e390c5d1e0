"""With what and on what a model is evaluated, for its report."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mace_gaunt.cli.compose import Composed, complete_text
from mace_gaunt.cli.kernels import kernel_names
from mace_gaunt.cli.record import hardware, now, versions
from mace_gaunt.model.checkpoint import read_description
from mace_gaunt.model.mace import MACE
from mace_gaunt.model.package import hash_model
from mace_gaunt.simulation.loading import find_model_folder


def evaluation_facts(composed: Composed, path: str | Path, model: MACE, hashes: Mapping[str, str]) -> dict[str, Any]:
    """What a report says about an evaluation.

    Args:
        composed: The checked configuration.
        path: Model folder or run folder.
        model: What was loaded from it, its kernels chosen.
        hashes: File -> SHA-256 of the data.

    Returns:
        JSON values.
    """
    folder = find_model_folder(path)
    origin = read_description(folder)["metadata"]
    return {
        "model": model_name(path),
        "evaluated": now(),
        "model_folder": str(path),
        "model_sha256": hash_model(folder),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "dtype": str(model.dtype).removeprefix("torch."),
        "device": str(model.device),
        **({"head": model.head} if model.head else {}),
        "kernels": kernel_names(model),
        "data_sha256": {Path(file).name: sha256 for file, sha256 in hashes.items()},
        "versions": versions(),
        "hardware": hardware(),
        # Those of the run are shown whole, where it is there.
        **({} if run_metrics(path) else {"trained": origin}),
        "configuration": complete_text(composed.config, composed.request.known),
    }


def model_name(path: str | Path) -> str:
    """What a model is called: its folder, or the run folder around a folder `model`.

    Args:
        path: Model folder or run folder.
    """
    folder = Path(path).expanduser().resolve()
    return folder.parent.name if folder.name == "model" else folder.name


def run_metrics(path: str | Path) -> Path | None:
    """metrics.csv of the run that a model is of.

    Args:
        path: Model folder or run folder.

    Returns:
        The file; None where the model lies in no run folder.
    """
    folder = find_model_folder(path)
    file = folder.resolve().parent / "metrics.csv"
    return file if folder.name == "model" and file.is_file() else None
