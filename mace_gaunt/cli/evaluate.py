"""`mace-gaunt evaluate`: errors of a model on test splits."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from mace_gaunt.cli.arguments import parse_arguments
from mace_gaunt.cli.help import choices_table, flags_table, keys_of
from mace_gaunt.errors import UserError

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from mace_gaunt.cli.compose import Composed
    from mace_gaunt.data.atomic_data import AtomicData
    from mace_gaunt.model.mace import MACE

HELP = """\
usage: mace-gaunt evaluate model=FOLDER [data=NAME | test_file=FILE] [file.yaml] [key=value ...] [flags]

Errors of a trained model on test splits: metrics.csv, predictions/SPLIT.npz and parity_SPLIT.png in out, and a table.

examples:
  mace-gaunt evaluate model=runs/first data=3bpa_xtb out=report
  mace-gaunt evaluate model=runs/first data=3bpa data.root=DIR data.test=[test_300K,train_mixedT[334:]]
  mace-gaunt evaluate model=runs/first test_file=my_test.xyz

keys:
{keys}

groups and their choices (data.KEY=VALUE for any argument of the data module):
{choices}

flags:
{flags}"""


def help_text() -> str:
    """What `mace-gaunt evaluate --help` prints."""
    flags = ["--print-config", "--validate-only", "--config-dir", "--help-keys"]
    return HELP.format(keys=keys_of("evaluate"), choices=choices_table(["data"]), flags=flags_table(flags))


def run(argv: list[str]) -> int:
    """Run the verb.

    Args:
        argv: The words after the verb.

    Returns:
        Exit status.

    Raises:
        UserError: For anything the user can mend; then nothing is written.
    """
    arguments = parse_arguments(argv)
    from mace_gaunt.cli.compose import compose
    from mace_gaunt.cli.plain_verb import finish_early, refuse_sweep
    from mace_gaunt.cli.request import read_request

    refuse_sweep("evaluate", arguments)
    composed = compose(read_request("evaluate", arguments))
    if not finish_early(composed, arguments):
        evaluate(composed, "--validate-only" in arguments.flags)
    return 0


def evaluate(composed: "Composed", validate_only: bool = False) -> list[dict[str, Any]]:
    """Evaluate a model.

    Args:
        composed: The checked configuration.
        validate_only: Whether to stop before anything is predicted.

    Returns:
        One row per split.

    Raises:
        UserError: If the model, the data or the folder is not as it must be; nothing is written.
    """
    config = composed.config
    from mace_gaunt.cli.plain_verb import require

    require(config, "model", "FOLDER, what a training wrote, such as runs/first")
    if config.data is None:
        raise UserError("there is nothing to evaluate on: choose data=NAME, or give test_file=FILE.")
    from mace_gaunt.cli.build import build, is_real_3bpa
    from mace_gaunt.cli.machine import use_machine_well
    from mace_gaunt.cli.quiet import quiet
    from mace_gaunt.evaluation.report import report
    from mace_gaunt.simulation.loading import open_model
    from mace_gaunt.simulation.output import check_output

    quiet()
    use_machine_well()
    model = open_model(config.model, device=config.device, dtype=config.dtype, kernel=config.kernel)
    out = Path(config.out) if config.out else default_out(composed)
    check_output(out, ["metrics.csv"], config.overwrite)
    statistics = {"atomic_numbers": model.atomic_numbers}
    data = build(config.data, "data", r_max=model.r_max, statistics=statistics)
    if not data.test_files():
        raise UserError("there is nothing to evaluate on: choose data=NAME, or give test_file=FILE.")
    frames = data.test_frames
    if validate_only:
        listed = ", ".join(f"{name} ({len(found)} frames)" for name, found in frames.items())
        print(f"valid: everything is ready; would evaluate {listed}; nothing was written")
        return []
    choose_kernels(config, model, frames)
    rows = report(
        model,
        frames,
        out,
        max_edges_per_batch=config.max_edges_per_batch,
        published=is_real_3bpa(config.data),
        overwrite=config.overwrite,
    )
    print(f"report  {out}")
    return rows


def choose_kernels(config: "DictConfig", model: "MACE", frames: dict[str, list["AtomicData"]]) -> None:
    """Measure the kernels that are left open, at the sizes of a batch, and say which run.

    Args:
        config: The checked configuration.
        model: The model, changed in place.
        frames: What will be evaluated.
    """
    from mace_gaunt.cli.kernels import tell_kernels
    from mace_gaunt.model.kernels import select_kernels
    from mace_gaunt.simulation.batching import in_batches

    everything = [frame for split in frames.values() for frame in split]
    batch = next(in_batches(everything, config.max_edges_per_batch), [])
    sizes = [sum(frame.node_types.shape[0] for frame in batch), sum(frame.num_edges for frame in batch)]
    tell_kernels(model, select_kernels(model, *sizes, training=False))


def default_out(composed: "Composed") -> Path:
    """Where a report goes without `out`: evaluation/<run>-<data>.

    Args:
        composed: The checked configuration.
    """
    folder = Path(composed.config.model).expanduser().resolve()
    name = folder.parent.name if folder.name == "model" else folder.name
    return Path("evaluation") / f"{name}-{composed.choices.get('data', 'files')}"
