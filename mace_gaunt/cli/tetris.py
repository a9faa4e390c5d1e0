"""`mace-gaunt train experiment=tetris`: which tensor products tell mirror images among Tetris pieces apart?"""

from typing import TYPE_CHECKING

from omegaconf import DictConfig

from mace_gaunt.errors import UserError, nearest

if TYPE_CHECKING:
    from mace_gaunt.cli.compose import Composed
    from mace_gaunt.cli.run_folder import RunFolder
    from mace_gaunt.data.tetris import TetrisPieces
    from mace_gaunt.model.graph_scalars import GraphScalars
    from mace_gaunt.training.tetris import Epoch, TetrisTrainer

TASKS = ("potential", "tetris")
# Group -> its choice and that one's target: what the task is made of.
PARTS = {
    "data": ("tetris", "mace_gaunt.data.tetris.TetrisPieces"),
    "model": ("graph_scalars", "mace_gaunt.model.graph_scalars.GraphScalars"),
    "trainer": ("tetris", "mace_gaunt.training.tetris.TetrisTrainer"),
}
# Groups that it does without.
WITHOUT = ("loss", "scheduler", "stage_two", "callbacks", "logger")


def check_task(config: DictConfig) -> None:
    """Refuse parts of one task in another.

    Args:
        config: The checked configuration of `train`.

    Raises:
        UserError: Naming the part.
    """
    from mace_gaunt.training.stopping import LIMITS

    if config.task not in TASKS:
        raise UserError(f"no task '{config.task}'.{nearest(str(config.task), TASKS)}")
    wanted = config.task == "tetris"
    for group, (choice, target) in PARTS.items():
        found = (config[group] or {}).get("_target_") == target
        if found != wanted:
            why = f"task=tetris needs {group}={choice}" if wanted else f"{group}={choice} is for task=tetris only"
            raise UserError(f"{why}: experiment=tetris chooses all that the task is made of.")
    useless = [group for group in WITHOUT if config[group]]
    useless += ["compile"] * (config.compile == "on") + ["resume"] * (config.resume != "never")
    useless += [key for key in LIMITS if config[key] is not None]
    if wanted and useless:
        raise UserError(f"{useless[0]} has no effect on task=tetris, which is one short training: leave it out.")


def train_tetris(composed: "Composed", validate_only: bool = False) -> float | None:
    """Train, try out, write the run folder.

    Args:
        composed: The checked configuration; its model is completed.
        validate_only: Whether to stop before the run folder is made.

    Returns:
        The last loss; None when nothing was trained.

    Raises:
        UserError: If a setting is impossible, or the tensor products do not reach what is asked for.
    """
    import lightning
    import torch

    from mace_gaunt.cli.build import build, check_settings
    from mace_gaunt.cli.kernels import tell_kernels
    from mace_gaunt.cli.train import plan_run

    config = composed.config
    folder = plan_run(composed)
    check_settings(config, needed=("optimizer",))
    lightning.seed_everything(config.seed, verbose=False)
    if config.deterministic:
        torch.use_deterministic_algorithms(True)
    pieces: TetrisPieces = build(config.data, "data", r_max=config.model.r_max)
    trainer: TetrisTrainer = build(config.trainer, "trainer")
    model = build_model(config, pieces)
    describe(config, pieces, model)
    tell_kernels(model, {})
    print(f"run folder    {folder.path}", flush=True)
    if validate_only:
        print("valid: everything is ready for training; nothing was written")
        return None
    return fit_and_try_out(composed, folder, pieces, model, trainer)


def build_model(config: DictConfig, pieces: "TetrisPieces") -> "GraphScalars":
    """The model on its device, completed by what the pieces say.

    Kernels that are left open are each family's first: to measure them would take longer than the training does.

    Args:
        config: The configuration; changed in place.
        pieces: The pieces.

    Raises:
        UserError: If the model refuses its settings or kernels, or its outputs cannot name the pieces.
    """
    from mace_gaunt.cli.build import build
    from mace_gaunt.model.kernels import use_kernels
    from mace_gaunt.simulation.loading import DTYPES, choose_device
    from mace_gaunt.training.tetris import check_outputs

    if "avg_num_neighbors" not in config.model:
        config.model.avg_num_neighbors = pieces.avg_num_neighbors
    model: GraphScalars = build(config.model, "model").to(choose_device(config.device), DTYPES[config.dtype])
    check_outputs(model)
    use_kernels(model, config.kernel)
    return model


def describe(config: DictConfig, pieces: "TetrisPieces", model: "GraphScalars") -> None:
    """Print what will be trained.

    Args:
        config: The completed configuration.
        pieces: The pieces.
        model: The model.
    """
    number = sum(parameter.numel() for parameter in model.parameters())
    print(f"data          8 pieces of 4 cubes; tried in {len(pieces.rotations)} rotations")
    print(
        f"model         {config.model.num_channels} channels, max_L {config.model.max_L}, {number:,} parameters, "
        f"{config.dtype} on {model.even_weight.device}; outputs {config.model.outputs}"
    )


def log(epoch: "Epoch") -> None:
    """A line of progress."""
    print(f"epoch {epoch.epoch:5}  loss {epoch.loss:9.6f}  {epoch.pieces_right} of 8 pieces named right", flush=True)


def fit_and_try_out(
    composed: "Composed",
    folder: "RunFolder",
    pieces: "TetrisPieces",
    model: "GraphScalars",
    trainer: "TetrisTrainer",
) -> float:
    """Make the run folder, train, write and print what came of it.

    Args:
        composed: The completed configuration.
        folder: The plan of the run folder.
        pieces: The pieces.
        model: The model.
        trainer: The trainer.

    Returns:
        The last loss.
    """
    from mace_gaunt.cli.build import build
    from mace_gaunt.cli.kernels import kernel_names
    from mace_gaunt.cli.record import begin_record, end_record
    from mace_gaunt.evaluation.tetris import describe_report, try_out, write_report

    batch = pieces.batch.clone().to(model.even_weight.device)
    with folder.opened() as new:
        try:
            history = trainer.fit(model, batch, build(composed.config.optimizer, "optimizer"), log)
        except BaseException:
            folder.discard_if_empty_handed(new)
            raise
        begin_record(composed, folder, {}, kernel_names(model))
        report = try_out(model, pieces, history)
        write_report(folder.path, report, history)
        end_record(folder.path, report.epochs)
    print(describe_report(report))
    print(f"report  {folder.path / 'tetris.csv'}, {folder.path / 'tetris.json'}")
    return report.loss
