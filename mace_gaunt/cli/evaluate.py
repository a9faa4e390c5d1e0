"""`mace-gaunt evaluate`: errors of a model on test splits."""

import sys
import time
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mace_gaunt.cli.help import choices_table, flags_table, keys_of
from mace_gaunt.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from omegaconf import DictConfig

    from mace_gaunt.cli.compose import Composed
    from mace_gaunt.data.atomic_data import AtomicData
    from mace_gaunt.model.gradients import EdgeGradient
    from mace_gaunt.model.mace import MACE

    Splits = Mapping[str, Sequence[AtomicData]]

# Compiling takes up to a minute and saves a quarter of the time (64 channels: 166 instead of 128 structures/s): `auto`
# compiles where more than this is to be computed (s).
LONG_RUN = 300.0

HELP = """\
usage: mace-gaunt evaluate model=FOLDER [data=NAME | test_file=FILE] [file.yaml] [key=value ...] [flags]

Errors of a trained model on test splits: a table, and in out report.html, which needs nothing beside it, with what it
shows as metrics.csv, by_element.csv, by_force_size.csv, report.json, PNG files and predictions/SPLIT.npz.

examples:
  mace-gaunt evaluate model=runs/first data=3bpa_xtb out=report
  mace-gaunt evaluate model=runs/first data=3bpa data.root=DIR data.test=[test_300K,train_mixedT[334:]]
  mace-gaunt evaluate model=runs/first test_file=my_test.xyz predictions=my_test_predicted.extxyz
  mace-gaunt evaluate model=[runs/first,runs/second] data=3bpa_xtb out=both      side by side
  mace-gaunt evaluate model=runs/oc20 data=oc20 data.root=DIR data.task=is2re relax=true out=relaxed

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
    from mace_gaunt.cli.plain_verb import run_plain

    return run_plain("evaluate", argv, evaluate)


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
    from mace_gaunt.cli.machine import use_machine_well
    from mace_gaunt.cli.quiet import quiet
    from mace_gaunt.training.compilation import check_choice

    quiet()
    use_machine_well()
    check_choice(config.compile)
    if config.equivariance < 0:
        raise UserError(f"equivariance is a number of frames, 0 for none, not {config.equivariance}.")
    if isinstance(config.model, Sequence) and not isinstance(config.model, str):
        from mace_gaunt.cli.evaluate_several import evaluate_several

        return evaluate_several(composed, validate_only)
    if config.relax:
        from mace_gaunt.cli.evaluate_relaxations import relax_splits

        return relax_splits(composed, validate_only)
    out = Path(config.out) if config.out else default_out(composed)
    return evaluate_one(composed, config.model, out, validate_only)[0]


def evaluate_one(
    composed: "Composed", path: str, out: Path, validate_only: bool = False
) -> "tuple[list[dict[str, Any]], dict[str, Any]]":
    """Evaluate one model.

    Args:
        composed: The checked configuration.
        path: The model.
        out: Folder of its report.
        validate_only: Whether to stop before anything is predicted.

    Returns:
        One row per split, and with what and on what it was evaluated.

    Raises:
        UserError: If the model, the data or the folder is not as it must be; nothing is written.
    """
    from mace_gaunt.cli.build import build, is_oc20, is_real_3bpa
    from mace_gaunt.cli.evaluation_facts import evaluation_facts, run_metrics
    from mace_gaunt.cli.submissions import open_submission
    from mace_gaunt.evaluation.prediction_files import check_predictions_file
    from mace_gaunt.evaluation.report import report
    from mace_gaunt.simulation.loading import head_line, open_model
    from mace_gaunt.simulation.output import check_output

    config = composed.config
    model = open_model(path, config.device, config.dtype, config.kernel, config.head)
    if head_line(model):
        print(head_line(model))
    check_output(out, ["metrics.csv"], config.overwrite)
    predictions = config.predictions and check_predictions_file(config.predictions, config.overwrite)
    statistics = {"atomic_numbers": model.atomic_numbers}
    data = build(config.data, "data", r_max=model.r_max, statistics=statistics)
    if not data.test_files():
        raise UserError("there is nothing to evaluate on: choose data=NAME, or give test_file=FILE.")
    submission = open_submission(config, data)
    frames = data.test_frames
    if validate_only:
        listed = ", ".join(f"{name} ({len(found)} frames)" for name, found in frames.items())
        print(f"valid: everything is ready; would evaluate {listed}; nothing was written")
        return [], {}
    choose_kernels(config, model, frames)
    about = evaluation_facts(composed, path, model, data.file_hashes)
    rows = report(
        model,
        frames,
        out,
        max_edges_per_batch=config.max_edges_per_batch,
        gradient=compile_if_it_pays(config, model, frames),
        published=is_real_3bpa(config.data),
        oc20=is_oc20(config.data),
        submission=submission,
        metrics_csv=run_metrics(path),
        about=about,
        equivariance_frames=config.equivariance,
        predictions=predictions,
        overwrite=config.overwrite,
    )
    print(f"report  {out / 'report.html'}")
    if predictions:
        print(f"predictions  {predictions}")
    if submission is not None:
        print(f"leaderboard  {submission.write(config.leaderboard)}")
    return rows, about


def choose_kernels(config: "DictConfig", model: "MACE", frames: "Splits") -> None:
    """Measure the kernels that are left open, at the sizes of a batch, and say which run.

    Args:
        config: The checked configuration.
        model: The model, changed in place.
        frames: What will be evaluated.
    """
    from mace_gaunt.cli.kernels import tell_kernels
    from mace_gaunt.model.kernels import select_kernels

    batch = next(batches_of(config, frames), [])
    sizes = [sum(frame.node_types.shape[0] for frame in batch), sum(frame.num_edges for frame in batch)]
    tell_kernels(model, select_kernels(model, *sizes, training=False))


def batches_of(config: "DictConfig", frames: "Splits") -> "Iterator[list[AtomicData]]":
    """The frames as they will be computed, but for the ends of the splits; read as they are asked for.

    Args:
        config: The checked configuration.
        frames: What will be evaluated.
    """
    from mace_gaunt.simulation.batching import in_batches

    return in_batches(chain.from_iterable(frames.values()), config.max_edges_per_batch)


def compile_if_it_pays(config: "DictConfig", model: "MACE", frames: "Splits") -> "EdgeGradient | None":
    """Compile energies and forces where there is much to compute, or where it is asked for, and say so.

    Args:
        config: The checked configuration.
        model: With its kernels chosen.
        frames: What will be evaluated.

    Returns:
        The compiled gradient, None to compute eagerly.

    Raises:
        UserError: If compiling was asked for and fails.
    """
    from mace_gaunt.data.collate import collate
    from mace_gaunt.model.compiled import CompileError, compile_inference
    from mace_gaunt.training.compilation import check_choice, missing_compiler

    choice = check_choice(config.compile)
    if choice == "off" or (choice == "auto" and model.device.type == "cpu" and missing_compiler()):
        return None
    members = next(
        (found for found in batches_of(config, frames) if any(len(f.pair_index[0]) > 1 for f in found)), None
    )
    if members is None:
        return None  # nothing but lone atoms, which are computed eagerly
    batch = collate(members).to(model.device)
    n_batches = sum(map(len, frames.values())) / len(members)
    if choice == "auto" and seconds_of(model, batch) * n_batches < LONG_RUN:
        return None
    print("compiling energies and forces, up to a minute", flush=True)
    try:
        return compile_inference(model, batch)
    except CompileError as error:
        if choice == "on":
            raise UserError(f"the model cannot be compiled: {error}. Evaluate with compile=off") from error
        print(f"warning: compile=auto: not compiled: {error}", file=sys.stderr)
        return None


def seconds_of(model: "MACE", batch: Any) -> float:
    """How long a batch takes eagerly, once warm.

    Args:
        model: The model.
        batch: On its device.
    """
    from mace_gaunt.model.gradients import predict

    predict(model, batch)["forces"].cpu()
    begin = time.perf_counter()
    predict(model, batch)["forces"].cpu()
    return time.perf_counter() - begin


def default_out(composed: "Composed") -> Path:
    """Where a report goes without `out`: evaluation/<run>-<data>.

    Args:
        composed: The checked configuration.
    """
    from mace_gaunt.cli.evaluation_facts import model_name

    return Path("evaluation") / f"{model_name(composed.config.model)}-{composed.choices.get('data', 'files')}"
