"""From a checked configuration to the objects of a training."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import lightning
import torch
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from lightning.fabric.utilities.exceptions import MisconfigurationException
from omegaconf import DictConfig, OmegaConf

from mace_gaunt.cli.compose import FILLED
from mace_gaunt.cli.run_folder import RunFolder
from mace_gaunt.comparison.budget import read_seconds
from mace_gaunt.data.datamodule import AtomsDataModule
from mace_gaunt.errors import UserError, nearest
from mace_gaunt.simulation.loading import DTYPES, choose_device
from mace_gaunt.training.checkpoint_io import WholeCheckpoints
from mace_gaunt.training.compilation import check_choice, check_compiler
from mace_gaunt.training.module import PotentialModule
from mace_gaunt.training.stopping import LIMITS, StopTraining

# Groups that no training can do without, and what can be chosen.
NEEDED = {
    "data": ("3bpa", "3bpa_xtb", "files"),
    "model": ("mace",),
    "loss": ("mse", "huber"),
    "optimizer": ("adam", "adamw"),
    "trainer": ("default",),
}
# What a target raises when it is given something impossible.
_REFUSALS = (TypeError, ValueError, ImportError, MisconfigurationException)


def build(node: DictConfig | None, name: str, **given: Any) -> Any:
    """Instantiate one group.

    Args:
        node: The group, or None.
        name: Its name, for messages.
        given: Arguments that the program fills.

    Returns:
        The object; None for None.

    Raises:
        UserError: If the target refuses what it is given.
    """
    if node is None:
        return None
    try:
        return instantiate(node, _convert_="all", **given)
    except InstantiationException as error:
        cause = error.__cause__
        while isinstance(cause, InstantiationException) and cause.__cause__ is not None:
            cause = cause.__cause__
        if isinstance(cause, _REFUSALS) and not isinstance(cause, UserError):
            raise UserError(f"{name}: {cause}") from error
        raise


def build_data(config: DictConfig, E0s: dict[str, float] | None = None) -> AtomsDataModule:
    """The data module, with the model's cutoff and with the statistics that the configuration gives.

    Args:
        config: The checked configuration.
        E0s: Instead of those of the configuration.

    Raises:
        UserError: If a setting is out of range.
    """
    given = {name: config.model[name] for name in FILLED if name in config.model}
    statistics = {**(config.data.get("statistics") or {}), **{name: _plain(value) for name, value in given.items()}}
    instead = {} if E0s is None else {"E0s": E0s}
    data: AtomsDataModule = build(
        config.data, "data", r_max=config.model.r_max, statistics=statistics or None, **instead
    )
    return data


def check_settings(config: DictConfig, needed: Iterable[str] = tuple(NEEDED)) -> None:
    """Refuse what can be refused before any data are read.

    Args:
        config: The checked configuration.
        needed: Groups that must be there.

    Raises:
        UserError: If a setting is impossible.
    """
    if config.dtype not in DTYPES:
        raise UserError(f"dtype is float32 or float64, not {config.dtype}.{nearest(str(config.dtype), DTYPES)}")
    check_compiler(check_choice(config.compile), _device(str(config.device))[0])
    epochs = config.trainer and config.trainer.get("max_epochs")
    if epochs is not None and (epochs == 0 or epochs < -1):
        raise UserError(f"max_epochs is at least 1, or -1 for no end, not {epochs}.")
    for name in needed:
        if config[name] is None:
            choices = " or ".join(f"{name}={choice}" for choice in NEEDED[name])
            raise UserError(f"there is no {name}: choose {choices}.")
    optimizer = _try_optimizer(build(config.optimizer, "optimizer"))
    build(config.loss, "loss")
    schedule, stage = build(config.scheduler, "scheduler"), build(config.stage_two, "stage_two")
    if epochs == -1 and config.trainer.get("max_steps") in (None, -1):
        # What asks for the number of epochs says so.
        _ = schedule and schedule(optimizer, total_steps=0, steps_per_epoch=1)
        _ = stage and stage.first_epoch(0)


def build_module(config: DictConfig) -> PotentialModule:
    """Model, loss, optimizer and schedule as one Lightning module.

    Args:
        config: The configuration, its model filled from the data.

    Raises:
        UserError: If one of them refuses its settings.
    """
    model = build(config.model, "model").to(DTYPES[config.dtype])
    return PotentialModule(
        model,
        build(config.loss, "loss"),
        build(config.optimizer, "optimizer"),
        scheduler=build(config.scheduler, "scheduler"),
        stage_two=build(config.stage_two, "stage_two"),
        compile=config.compile,
        max_edges_per_pass=config.max_edges_per_pass,
        node_lr=1.0 if config.node_lr is None else config.node_lr,
    )


def build_trainer(
    config: DictConfig, folder: RunFolder, further: Sequence[lightning.Callback] = ()
) -> lightning.Trainer:
    """The trainer with its callbacks and loggers; writes nothing.

    Args:
        config: The completed configuration.
        folder: The run folder.
        further: Callbacks beside those of the configuration.

    Raises:
        UserError: If the trainer refuses a setting.
    """
    settings = OmegaConf.to_container(config.trainer, resolve=True)
    assert isinstance(settings, dict)
    accelerator, devices = _device(str(config.device))
    defaults = {
        "accelerator": accelerator,
        "devices": devices,
        "deterministic": config.deterministic or None,
        # The data module's sampler splits batches between processes itself.
        "use_distributed_sampler": False,
        "default_root_dir": str(folder.path),
    }
    callbacks = [build(node, f"callbacks.{name}") for name, node in (config.callbacks or {}).items() if node]
    wanted = config.trainer.get("logger", True) is not False
    given = {str(key): value for key, value in settings.items() if key not in ("logger", "callbacks", "plugins")}
    node = OmegaConf.create({**defaults, **given})
    extra = [build(entry, "trainer.callbacks") for entry in config.trainer.get("callbacks") or []]
    plugins = [build(entry, "trainer.plugins") for entry in config.trainer.get("plugins") or []]
    loggers = build_loggers(config, folder) if wanted else []
    trainer: lightning.Trainer = build(
        node,
        "trainer",
        callbacks=[*callbacks, *extra, *further],
        logger=loggers or False,
        plugins=[*plugins, WholeCheckpoints()],
    )
    return trainer


def build_stop(config: DictConfig) -> StopTraining:
    """What ends the training before its time: limits of the configuration, and signals.

    Args:
        config: The checked configuration.

    Raises:
        UserError: If a limit is none.
    """
    limit = config.time_limit
    seconds = None if limit is None else read_seconds(limit, "time_limit")
    return StopTraining(config.stop_after_epochs, config.stop_after_steps, seconds)


def refuse_limits(config: DictConfig, why: str) -> None:
    """Refuse keys that end a training before it has a result.

    Args:
        config: The checked configuration.
        why: What they would do here.

    Raises:
        UserError: At the first one.
    """
    for key in LIMITS:
        if config[key] is not None:
            raise UserError(f"{key} would {why}: leave it out.")


def build_loggers(config: DictConfig, folder: RunFolder) -> list[Any]:
    """The loggers beside metrics.csv, named after the run and continuing an earlier record of it.

    Args:
        config: The completed configuration.
        folder: The run folder.
    """
    from mace_gaunt.cli.record import run_id

    loggers = []
    for name, node in (config.logger or {}).items():
        if not node:
            continue
        factory = node.get("factory") or {}
        for key, value in (("name", folder.path.name), ("id", run_id(folder))):
            if key in factory and factory[key] is None:
                factory[key] = value
        loggers.append(build(node, f"logger.{name}"))
    return loggers


def is_real_3bpa(data: DictConfig) -> bool:
    """Whether these are the data that the published 3BPA errors belong to, and not the bundled stand-in.

    Args:
        data: The group `data`.
    """
    from mace_gaunt.data.bundled import bundled_path
    from mace_gaunt.data.threebpa import find_root

    if not str(data.get("_target_")).endswith("ThreeBPADataModule"):
        return False
    return find_root(data.get("root")).resolve() != Path(bundled_path("3bpa_xtb")).resolve()


def is_oc20(data: DictConfig) -> bool:
    """Whether these are data of OC20's tasks.

    Args:
        data: The group `data`.
    """
    return str(data.get("_target_")).endswith("OC20DataModule")


def _device(device: str) -> tuple[str, Any]:
    """Lightning's accelerator and devices: one device, unless trainer.devices says otherwise."""
    kind, _, index = choose_device({"gpu": "cuda"}.get(device, device)).partition(":")
    return ("gpu" if kind == "cuda" else kind), ([int(index)] if index else 1)


def _try_optimizer(optimizer: Any) -> Any:
    """Let the optimizer refuse its settings now, before there is a run folder; one of a single number."""
    try:
        return optimizer([torch.nn.Parameter(torch.zeros(1))])
    except (TypeError, ValueError) as error:
        raise UserError(f"optimizer: {error}") from error


def _plain(value: Any) -> Any:
    return OmegaConf.to_container(value) if OmegaConf.is_config(value) else value
