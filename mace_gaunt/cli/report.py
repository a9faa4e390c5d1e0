"""`mace-gaunt report`: the report of a training made again from its run folder."""

import csv
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mace_gaunt.cli.arguments import parse_arguments
from mace_gaunt.cli.help import flags_table, keys_of
from mace_gaunt.errors import UserError, nearest

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from mace_gaunt.cli.compose import Composed
    from mace_gaunt.model.mace import MACE

CHECKPOINTS = ("best", "last")

HELP = """\
usage: mace-gaunt report run=NAME [key=value ...] [flags]

The report of a training, made again from its run folder alone: report.html and the tables and plots behind it.
Predictions that the folder keeps in report/predictions are used; without them, or with again=true, the model, or a
checkpoint of a training that was not finished, is evaluated on the data that config.yaml names.

examples:
  mace-gaunt report run=first
  mace-gaunt report run=first again=true out=new_report
  mace-gaunt report run=unfinished checkpoint=last

keys:
{keys}

flags:
{flags}"""


def help_text() -> str:
    """What `mace-gaunt report --help` prints."""
    flags = ["--print-config", "--validate-only", "--help-keys"]
    return HELP.format(keys=keys_of("report"), flags=flags_table(flags))


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

    return run_plain("report", argv, make_report)


def make_report(composed: "Composed", validate_only: bool = False) -> list[dict[str, Any]]:
    """Make a report again.

    Args:
        composed: The checked configuration.
        validate_only: Whether to stop before anything is written.

    Returns:
        One row per split.

    Raises:
        UserError: If the run folder lacks something, which is named, or the report may not be replaced.
    """
    config = composed.config
    from mace_gaunt.cli.plain_verb import require

    require(config, "run", "NAME of a training")
    from mace_gaunt.cli.quiet import quiet
    from mace_gaunt.simulation.output import check_output

    quiet()
    folder = find_run(str(config.run), config.checkpoint)
    out = folder / "report" if config.out is None else Path(config.out).expanduser()
    check_output(out, ["metrics.csv"], config.overwrite or config.out is None)
    kept = [] if config.again or config.checkpoint else kept_splits(folder)
    if validate_only:
        what = f"from the predictions of {', '.join(kept)}" if kept else "from new predictions"
        print(f"valid: everything is ready; would make {out / 'report.html'} {what}; nothing was written")
        return []
    rows = rebuild_report(folder, kept, out) if kept else predict_again(config, folder, out)
    print(f"report  {out / 'report.html'}")
    return rows


def find_run(run: str, checkpoint: str | None) -> Path:
    """The folder of a run that a report can be made of.

    Args:
        run: Name or folder.
        checkpoint: "best" or "last", where one is asked for.

    Raises:
        UserError: If there is no such folder, or it lacks something; names what.
    """
    from mace_gaunt.cli.run_folder import name_folder

    folder = name_folder(run, "")
    if not folder.is_dir():
        beside = [path.parent.name for path in folder.parent.glob("*/config.yaml")] if folder.parent.is_dir() else []
        raise UserError(f"run={run}: there is no folder {folder}.{nearest(folder.name, beside) if beside else ''}")
    if checkpoint is not None and checkpoint not in CHECKPOINTS:
        raise UserError(f"checkpoint is best or last, not '{checkpoint}'.{nearest(str(checkpoint), CHECKPOINTS)}")
    missing = [name for name in ("config.yaml", "metrics.csv") if not (folder / name).is_file()]
    wanted = f"checkpoints/{checkpoint}.ckpt"
    if checkpoint is not None and not (folder / wanted).is_file():
        missing.append(wanted)
    if checkpoint is None and not (folder / "model" / "model.json").is_file() and find_checkpoint(folder) is None:
        missing.append("model/ or checkpoints/")
    if missing:
        raise UserError(f"the run folder {folder} lacks {', '.join(missing)}, so no report can be made of it.")
    return folder


def find_checkpoint(folder: Path, name: str | None = None) -> Path | None:
    """A checkpoint of a run.

    Args:
        folder: The run folder.
        name: "best" or "last"; None for the first of them that is there.
    """
    files = [folder / "checkpoints" / f"{word}.ckpt" for word in ([name] if name else CHECKPOINTS)]
    return next((file for file in files if file.is_file()), None)


def kept_splits(folder: Path) -> list[str]:
    """The splits whose predictions the report of a run keeps; none unless all are there.

    Args:
        folder: The run folder.
    """
    from mace_gaunt.evaluation.split_report import file_name

    table = folder / "report" / "metrics.csv"
    if not table.is_file():
        return []
    try:
        splits = [row["split"] for row in csv.DictReader(table.read_text(encoding="utf-8").splitlines())]
    except (UnicodeDecodeError, KeyError, csv.Error) as error:
        raise UserError(f"{table} is damaged ({error}): again=true predicts again and replaces it.") from error
    files = [folder / "report" / "predictions" / f"{file_name(split)}.npz" for split in splits]
    return splits if all(file.is_file() for file in files) else []


def rebuild_report(folder: Path, splits: list[str], out: Path) -> list[dict[str, Any]]:
    """Make the report from the predictions that are there.

    Args:
        folder: The run folder.
        splits: Of `kept_splits`.
        out: Folder of the report.

    Returns:
        One row per split.
    """
    from rich.console import Console

    from mace_gaunt.cli.build import is_oc20, is_real_3bpa
    from mace_gaunt.evaluation.results import JSON, Extras, rebuild

    config = run_configuration(folder).config
    file = folder / "report" / JSON
    try:
        before = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    except ValueError as error:
        raise UserError(f"{file} is damaged ({error}): again=true predicts again and replaces it.") from error
    extras = Extras(
        is_real_3bpa(config.data),
        is_oc20(config.data),
        before.get("equivariance", {}),
        folder / "metrics.csv",
        before.get("about") or {"model": folder.resolve().name},
    )
    return rebuild(folder / "report", splits, extras, out, Console())


def predict_again(config: "DictConfig", folder: Path, out: Path) -> list[dict[str, Any]]:
    """Evaluate the model, or a checkpoint, on the validation and test sets of the run.

    Args:
        config: The checked configuration of the verb.
        folder: The run folder.
        out: Folder of the report.

    Returns:
        One row per split.

    Raises:
        UserError: If the data are no longer where they were.
    """
    from mace_gaunt.cli.build import build_data, is_oc20, is_real_3bpa
    from mace_gaunt.cli.kernels import kernel_names
    from mace_gaunt.cli.machine import use_machine_well
    from mace_gaunt.cli.record import now, versions
    from mace_gaunt.evaluation.report import report

    use_machine_well()
    composed = run_configuration(folder)
    model, origin = open_run_model(config, composed, folder)
    data = build_data(composed.config)
    data.setup()
    about = {
        "model": folder.resolve().name,
        "evaluated": now(),
        "weights": origin,
        "kernels": kernel_names(model),
        "data_sha256": {Path(file).name: sha256 for file, sha256 in data.file_hashes.items()},
        "versions": versions(),
    }
    return report(
        model,
        {"valid": data.valid_frames, **data.test_frames},
        out,
        max_edges_per_batch=config.max_edges_per_batch,
        published=is_real_3bpa(composed.config.data),
        oc20=is_oc20(composed.config.data),
        metrics_csv=folder / "metrics.csv",
        about=about,
        overwrite=True,
    )


def run_configuration(folder: Path) -> "Composed":
    """The configuration of a run.

    Args:
        folder: The run folder.
    """
    from mace_gaunt.cli.compose import compose
    from mace_gaunt.cli.request import read_request

    return compose(read_request("train", parse_arguments([str(folder / "config.yaml")])))


def open_run_model(config: "DictConfig", composed: "Composed", folder: Path) -> "tuple[MACE, str]":
    """The model of a run in float64, on the device asked for, and where its weights are from.

    Args:
        config: The checked configuration of the verb.
        composed: That of the run.
        folder: The run folder.
    """
    from mace_gaunt.cli.build import build_module
    from mace_gaunt.simulation.loading import choose_device, open_model
    from mace_gaunt.training.export import model_from_checkpoint

    if config.checkpoint is None and (folder / "model" / "model.json").is_file():
        return open_model(folder, config.device), "model/"
    file = find_checkpoint(folder, config.checkpoint)
    assert file is not None
    model = model_from_checkpoint(build_module(composed.config), file)
    return open_model(model.to(choose_device(config.device)), config.device), f"checkpoints/{file.name}"
