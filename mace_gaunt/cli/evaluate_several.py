"""`mace-gaunt evaluate model=[runs/a,runs/b]`: several models side by side."""

from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from mace_gaunt.cli.build import is_real_3bpa
from mace_gaunt.cli.compose import Composed
from mace_gaunt.cli.evaluate import evaluate_one
from mace_gaunt.cli.evaluation_facts import model_name
from mace_gaunt.errors import UserError
from mace_gaunt.evaluation.several_models import write_comparison
from mace_gaunt.simulation.loading import find_model_folder
from mace_gaunt.simulation.output import check_output

# Of one model only.
SINGLE = ("leaderboard", "predictions")


def evaluate_several(composed: Composed, validate_only: bool) -> list[dict[str, Any]]:
    """Evaluate models one after the other on the same splits.

    Args:
        composed: The checked configuration; its `model` is a list.
        validate_only: Whether to stop before anything is predicted.

    Returns:
        Rows of all models, split by split, with the model's name under `model`.

    Raises:
        UserError: If a model, the data or the folder is not as it must be; then nothing is written.
    """
    config = composed.config
    for key in SINGLE:
        if config[key] is not None:
            raise UserError(f"{key} is of one model: leave it out, or give one model.")
    if config.relax:
        raise UserError("relax=true takes one model.")
    models = names_of(config)
    default = f"{'-'.join(models)}-{composed.choices.get('data', 'files')}"
    out = Path(config.out) if config.out else Path("evaluation") / default
    out = check_output(out, ["metrics.csv"], config.overwrite)
    # All of them are looked at before the first one is computed.
    found = {name: evaluate_one(composed, path, out / name, validate_only=True) for name, path in models.items()}
    if validate_only:
        return []
    for name, path in models.items():
        print(f"\nmodel {name}", flush=True)
        found[name] = evaluate_one(composed, path, out / name)
    print("\nside by side")
    rows = write_comparison(
        out,
        {name: rows for name, (rows, _) in found.items()},
        {name: about for name, (_, about) in found.items()},
        is_real_3bpa(config.data),
    )
    print(f"report  {out / 'report.html'}")
    return rows


def names_of(config: DictConfig) -> dict[str, str]:
    """Name -> folder of the models of a list.

    Args:
        config: The checked configuration.

    Raises:
        UserError: If a model is not there, or two have one name.
    """
    models: dict[str, str] = {}
    for path in config.model:
        find_model_folder(path)
        name = model_name(path)
        if name in models:
            raise UserError(f"model: {models[name]} and {path} are both called {name}; rename one of the folders.")
        models[name] = str(path)
    return models
