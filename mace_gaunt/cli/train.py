"""`mace-gaunt train`: compose, instantiate, fit, save, report."""

import math
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mace_gaunt.cli.arguments import parse_arguments
from mace_gaunt.cli.help import choices_table, flags_table, keys_of
from mace_gaunt.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lightning import Callback
    from omegaconf import DictConfig

    from mace_gaunt.cli.compose import Composed
    from mace_gaunt.cli.run_folder import RunFolder
    from mace_gaunt.data.datamodule import AtomsDataModule
    from mace_gaunt.data.statistics import Statistics
    from mace_gaunt.tensor_products.selection import Choice
    from mace_gaunt.training.module import PotentialModule

HELP = """\
usage: mace-gaunt train [file.yaml] [key=value ...] [flags]

examples:
  mace-gaunt train experiment=quickstart run=first
  mace-gaunt train data=3bpa tensor_product=clebsch_gordan model.num_channels=32 max_epochs=50
  mace-gaunt train my.yaml lr=0.005        where my.yaml is, say,

      data: files
      train_file: train.xyz
      test_file: {{cold: cold.xyz, hot: hot.xyz}}
      tensor_product: gaunt
      r_max: 5.0
      hidden_irreps: 64x0e + 64x1o
      max_epochs: 100
      loss: {{energy_weight: 1, forces_weight: 100}}
      run: first

  mace-gaunt train run=first resume=auto   continues it with the same settings
  mace-gaunt train init=runs/first train_file=new.xyz E0s=refit lr=0.001   starts from its weights
  mace-gaunt train --multirun tensor_product=gaunt,clebsch_gordan seed=0,1,2

A file holds what the command line holds: a word after a group's name chooses, keys below a group change settings.
The run lives in runs/<run>/: config.yaml, metrics.csv, checkpoints/, model/, report/, run.json.

keys:
{keys}

groups and their choices (GROUP=CHOICE; GROUP.KEY=VALUE for any argument of what it builds):
{choices}

flags:
{flags}"""


def help_text() -> str:
    """What `mace-gaunt train --help` prints."""
    flags = ["--print-config", "--validate-only", "--multirun", "--config-dir", "--help-keys"]
    return HELP.format(keys=keys_of("train"), choices=choices_table(), flags=flags_table(flags))


def run(argv: list[str]) -> int:
    """Run the verb.

    Args:
        argv: The words after the verb.

    Returns:
        Exit status.

    Raises:
        UserError: If the configuration, the data or the run folder is not as it must be.
    """
    arguments = parse_arguments(argv)
    if "--multirun" in arguments.flags:
        from mace_gaunt.cli.multirun import run_multirun

        return run_multirun(arguments)
    from mace_gaunt.cli.compose import complete_text, compose
    from mace_gaunt.cli.quiet import quiet
    from mace_gaunt.cli.request import read_request
    from mace_gaunt.cli.run_folder import saved_config

    quiet()
    composed = compose(read_request("train", arguments, saved_config(arguments)))
    if "--help-keys" in arguments.flags:
        from mace_gaunt.cli.help_keys import describe_keys

        print(describe_keys(composed))
    elif "--print-config" in arguments.flags:
        print(complete_text(composed.config, composed.request.known), end="")
    else:
        train(composed, validate_only="--validate-only" in arguments.flags)
    return 0


def train(composed: "Composed", validate_only: bool = False, callbacks: "Sequence[Callback]" = ()) -> float | None:
    """Train what a configuration describes.

    Args:
        composed: The checked configuration.
        validate_only: Whether to stop before the run folder is made.
        callbacks: Beside those of the configuration.

    Returns:
        The best validation loss, None when nothing was trained.

    Raises:
        UserError: If something is wrong; before training no run folder is left behind.
    """
    import lightning
    from omegaconf import OmegaConf

    from mace_gaunt.cli.build import build_data, build_module, build_stop, build_trainer, check_settings
    from mace_gaunt.cli.finetune import REFIT, energies_given, find_start
    from mace_gaunt.cli.kernels import tell_kernels
    from mace_gaunt.cli.machine import use_machine_well
    from mace_gaunt.cli.resume import check_resumable, fill_from_record, settle_node_lr
    from mace_gaunt.cli.run_folder import rank
    from mace_gaunt.cli.tetris import check_task, train_tetris
    from mace_gaunt.model.transfer import freeze
    from mace_gaunt.training.stopping import TrainingStopped

    use_machine_well()
    config = composed.config
    check_task(config)
    if config.task == "tetris":
        return train_tetris(composed, validate_only)
    folder = plan_run(composed)
    check_settings(config)
    settle_node_lr(config, folder)
    stop = build_stop(config)
    lightning.seed_everything(config.seed, verbose=False)
    start = find_start(config, composed.request, folder)
    fill_from_record(config, composed.request, folder)
    refit = start is not None and config.data.get("E0s") == REFIT and OmegaConf.is_missing(config.model, "E0s")
    data = build_data(config, energies_given(config, start))
    data.setup()
    fill_from_data(config, data.statistics)
    if start is not None:
        start.settle_elements(config.model)
        if refit:
            config.model.E0s = start.fit_energies(data.train_frames, config.model.atomic_numbers, config.model.E0s)
    module = build_module(config)
    if start is not None:
        start.fill(module.model)
    freeze(module.model, config.freeze)
    check_resumable(config, folder, composed.request.known, data.file_hashes)
    trainer = build_trainer(config, folder, [*callbacks, stop])
    choices = choose_kernels(config, data, module, folder, trainer)
    if rank() > 0:
        # One of the further processes of a training on several devices: it computes, and neither writes nor prints.
        with suppress(TrainingStopped):
            trainer.fit(module, datamodule=data, ckpt_path=folder.checkpoint, weights_only=True)
        return None
    describe(config, data, module, trainer.strategy.root_device)
    tell_kernels(module.model, choices)
    print(f"run folder    {folder.path}{' (continued)' if folder.checkpoint else ''}", flush=True)
    if validate_only:
        print("valid: everything is ready for training; nothing was written")
        return None
    with folder.opened() as new:
        return fit_and_report(composed, folder, data, module, trainer, new, start.origin if start is not None else None)


def plan_run(composed: "Composed") -> "RunFolder":
    """Decide on the run folder, and write it into the configuration for what refers to `${run}`.

    Args:
        composed: The checked configuration; its `run` becomes the path.

    Returns:
        The plan; nothing is written.

    Raises:
        UserError: If the folder is taken, or there is nothing to resume.
    """
    from mace_gaunt.cli.run_folder import plan_folder, rank

    config = composed.config
    folder = plan_folder(config.run, default_stem(composed), config.resume, config.overwrite)
    if config.resume == "auto" and folder.checkpoint is None and rank() == 0:
        print(f"nothing to continue in {folder.path}: a new run begins")
    config.run = str(folder.path) if folder.path.is_absolute() else f"./{folder.path}"
    return folder


def default_stem(composed: "Composed") -> str:
    """What a run is called without `run=`: after its file, its experiment, or its data and tensor product.

    Args:
        composed: The checked configuration.
    """
    file, choices = composed.request.file, composed.choices
    if file is not None:
        return file.resolve().parent.name if file.stem == "config" else file.stem
    return str(choices.get("experiment") or f"{choices.get('data')}-{choices.get('tensor_product')}").replace("/", "-")


def fill_from_data(config: "DictConfig", statistics: "Statistics") -> None:
    """Complete the model's configuration with what the training data say.

    Values that the configuration gives have been handed to the data before (`build_data`), so they come back here.

    Args:
        config: The configuration; changed in place.
        statistics: Of the training data.
    """
    from dataclasses import asdict

    for name, value in asdict(statistics).items():
        config.model[name] = value


def describe(config: "DictConfig", data: "AtomsDataModule", module: "PotentialModule", device: Any) -> None:
    """Print what will be trained, on what and where.

    Args:
        config: The completed configuration.
        data: The data.
        module: The module with the model.
        device: Where it will be trained.
    """
    import torch

    model = module.model
    threads = torch.get_num_threads()
    tests = ", ".join(data.test_frames) or "none"
    number = sum(parameter.numel() for parameter in model.parameters())
    print(
        f"data          {len(data.train_frames)} training, {len(data.valid_frames)} validation frames; tests: {tests}"
    )
    print(
        f"model         {config.model.num_channels} channels, max_L {config.model.max_L}, {number:,} parameters, "
        f"{config.dtype} on {device}, {threads} thread{'s' * (threads > 1)}"
    )


def choose_kernels(
    config: "DictConfig", data: "AtomsDataModule", module: "PotentialModule", folder: "RunFolder", trainer: Any
) -> dict[str, "Choice"]:
    """Set the kernels: those given, else those of the run that is continued, else the fastest on this device.

    Nothing is measured where the model will be compiled: eager times say little about it. Nor for deterministic=true,
    since times differ from run to run: whether to compile follows from the number of steps then.

    Args:
        config: The completed configuration.
        data: The data, set up.
        module: The module; its model changes in place.
        folder: The run folder.
        trainer: The trainer.

    Returns:
        What was measured, by product.
    """
    from mace_gaunt.cli.record import read_record
    from mace_gaunt.data.stored_set import atoms_of, edges_of
    from mace_gaunt.model.kernels import restore_kernels, select_kernels, use_kernels, use_kernels_for_compiling
    from mace_gaunt.tensor_products.selection import products_of
    from mace_gaunt.training.compilation import reason_not_to_compile

    device = trainer.strategy.root_device
    module.model.to(device)
    use_kernels(module.model, config.kernel)
    if folder.checkpoint and (before := read_record(folder.path).get("kernels")):
        # Another kernel would round differently, and the continuation would not be the same run.
        open_ = {name for name, product in products_of(module.model) if product.asked_for == "auto"}
        try:
            restore_kernels(module.model, {name: before[name] for name in open_ & before.keys()}, device.type)
        except UserError as error:
            raise UserError(f"{error} (the run began with it; kernel=NAME goes on with another)") from error
        return {}
    batches = len(data.train_dataloader())
    epochs = math.inf if trainer.max_epochs == -1 else trainer.max_epochs or 0
    steps = trainer.max_steps if trainer.max_steps > 0 else batches * epochs
    worth_it = reason_not_to_compile(steps) is None
    if config.deterministic and module.compile_choice == "auto":
        module.compile_choice = "on" if worth_it else "off"
    if config.deterministic or module.compile_choice == "on" or (module.compile_choice == "auto" and worth_it):
        use_kernels_for_compiling(module.model, device.type)
        return {}
    frames = data.train_frames
    share = max(1, round(len(frames) / batches))
    sizes = [int(atoms_of(frames).sum()), int(edges_of(frames).sum())]
    n_nodes, n_edges = (max(1, size * share // len(frames)) for size in sizes)
    return select_kernels(module.model, n_nodes, n_edges, training=True)


def fit_and_report(
    composed: "Composed",
    folder: "RunFolder",
    data: "AtomsDataModule",
    module: "PotentialModule",
    trainer: Any,
    new: bool,
    started_from: dict[str, str] | None = None,
) -> float | None:
    """Train, save the model, evaluate it.

    Args:
        composed: The checked and completed configuration.
        folder: The run folder, opened.
        data: The data, set up.
        module: The module.
        trainer: The Lightning trainer.
        new: Whether the folder was made for this run.
        started_from: Name and hash of the model of `init=`.

    Returns:
        The best validation loss; None when the training was stopped before its end.

    Raises:
        SystemExit, KeyboardInterrupt: After a signal, when everything has been saved.
    """
    from mace_gaunt.cli.kernels import kernel_names
    from mace_gaunt.cli.record import begin_record, end_record
    from mace_gaunt.cli.run_folder import share_plan
    from mace_gaunt.training.stopping import TrainingStopped

    share_plan(folder)
    checkpoint = str(folder.checkpoint) if folder.checkpoint else None
    try:
        begin_record(composed, folder, data.file_hashes, kernel_names(module.model), started_from)
        trainer.fit(module, datamodule=data, ckpt_path=checkpoint, weights_only=True)
    except BaseException as error:
        if isinstance(error, TrainingStopped):
            print(f"{error} (epoch {trainer.current_epoch + 1}, {trainer.global_step} steps in all)", flush=True)
        # Without a checkpoint nothing can be continued: what is left would only block the name.
        if folder.discard_if_empty_handed(new):
            print(f"nothing was kept of {folder.path}: no epoch was finished")
        elif (folder.path / "checkpoints" / "last.ckpt").is_file():
            print(f"to continue: mace-gaunt train run={folder.name} resume=auto")
        if isinstance(error, TrainingStopped):
            error.signals.raise_received()
            return None
        if isinstance(error, SystemExit) and trainer.interrupted:
            # Lightning's answer to Ctrl-C.
            raise KeyboardInterrupt from error
        raise
    if 0 < trainer.current_epoch < (trainer.max_epochs or 0) and trainer.global_step != trainer.max_steps:
        print(f"stopped after {trainer.current_epoch} of {trainer.max_epochs} epochs: nothing improved any more")
    save_and_report(composed, folder.path, data, module, trainer)
    end_record(folder.path, trainer.current_epoch)
    score = getattr(trainer.checkpoint_callback, "best_model_score", None)
    return None if score is None else float(score)


def save_and_report(
    composed: "Composed", folder: Path, data: "AtomsDataModule", module: "PotentialModule", trainer: Any
) -> None:
    """Write `model/` and `report/` and say where everything is.

    Args:
        composed: The completed configuration.
        folder: The run folder.
        data: The data.
        module: The trained module.
        trainer: Its trainer.
    """
    from mace_gaunt.cli.build import is_oc20, is_real_3bpa
    from mace_gaunt.cli.record import model_metadata
    from mace_gaunt.evaluation.report import report
    from mace_gaunt.model.checkpoint import save_model
    from mace_gaunt.training.export import best_model
    from mace_gaunt.training.loggers import SafeLogger

    model = best_model(trainer, module)
    save_model(model, folder / "model", model_metadata(composed, folder, data, trainer))
    metrics = folder / "metrics.csv"
    report(
        # In float64, as `evaluate`, `md` and the calculator compute: the same figures everywhere.
        model.double(),
        {"valid": data.valid_frames, **data.test_frames},
        folder / "report",
        published=is_real_3bpa(composed.config.data),
        oc20=is_oc20(composed.config.data),
        metrics_csv=metrics if metrics.is_file() else None,
        overwrite=True,
    )
    for logger in trainer.loggers:
        if isinstance(logger, SafeLogger):
            logger.log_report(folder / "report")
    print(f"model   {folder / 'model'}")
    print(f"report  {folder / 'report' / 'report.html'}")
    print(f"next    mace-gaunt md model={folder} structure=FILE out=md")
