"""A training by mace-torch's own commands: `python -m mace_gaunt.comparison.peer RUN_FOLDER`.

It knows no limit of time: with a budget, a first short training tells what an epoch takes, and the real one has as many
epochs as fit. Its rate falls exponentially, by the same ratio in all as our cosine (of its two schedules the one that
follows a number of epochs). What the run folder then holds is read like that of one of ours.
"""

import datetime
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import ase.io
import numpy as np

from mace_gaunt.evaluation.metrics import ErrorSums, Predictions, write_metrics_csv
from mace_gaunt.locks import held

JOB = "peer.json"
FINAL_RATE = 0.01
"""Last learning rate over the first one."""
TRIAL_EPOCHS = 3
"""Of the training that measures an epoch."""
# e3nn 0.4.4 keeps a slice among its constants, which torch.load refuses from torch 2.6 on.
START = "import torch; torch.serialization.add_safe_globals([slice]); from mace.cli.{module} import main; main()"
# mace_eval_configs computes in the precision of the model; float32 would round total energies of 3BPA by 2 meV.
DOUBLE = (
    "import sys, torch; torch.serialization.add_safe_globals([slice]); "
    "torch.save(torch.load(sys.argv[1], map_location='cpu', weights_only=False).double(), sys.argv[2])"
)
STAMP = re.compile(r"^(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+) INFO: (.*)$")
EPOCH = re.compile(r"^Epoch (\d+):")


def main(folder: Path) -> None:
    """Train, evaluate on every split, and write run.json and report/metrics.csv."""
    job = json.loads((folder / JOB).read_text())
    epochs = job["epochs"] if job["seconds"] is None else epochs_that_fit(folder, job)
    seconds = train(folder, job, epochs, "training", job["options"]["eval_interval"])
    trained = next((folder / "training").glob("*_stagetwo.model"), folder / "training" / "mace.model")
    model = folder / "float64.model"
    run(job["python"], DOUBLE, [str(trained), str(model)])
    rows = [evaluate(folder, job, model, split, name) for split, name in job["splits"].items()]
    (folder / "report").mkdir(exist_ok=True)
    write_metrics_csv(rows, folder / "report" / "metrics.csv")
    finished = datetime.datetime.now().astimezone().isoformat(timespec="seconds")
    record = {"program": "mace-torch", "finished": finished, "epochs": epochs, "training_seconds": seconds}
    (folder / "run.json").write_text(json.dumps(record, indent=2) + "\n")


def epochs_that_fit(folder: Path, job: Mapping[str, Any]) -> int:
    """How many epochs the budget holds, from a trial whose time does not count."""
    seconds = train(folder, job, TRIAL_EPOCHS, "trial", 1)
    per_epoch = seconds / TRIAL_EPOCHS
    print(f"{per_epoch:.2f} s an epoch", flush=True)
    return max(1, int(job["seconds"] / per_epoch))


def train(folder: Path, job: Mapping[str, Any], epochs: int, place: str, interval: int) -> float:
    """Run mace_run_train.

    Returns:
        Seconds from the beginning of the first epoch to the end of the last, as its log says.
    """
    out = folder / place
    # What an interrupted start left is not continued: its log would tell another time.
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    files = {"train_file": folder / "data" / "train.xyz", "valid_file": folder / "data" / job["splits"]["valid"]}
    words = words_of({**job["options"], **files, "eval_interval": interval, "max_num_epochs": epochs})
    gamma = FINAL_RATE ** (1 / max(1, epochs))
    words += [
        *("--name=mace", f"--work_dir={out}", f"--model_dir={out}", f"--device={job['device']}", "--amsgrad"),
        *("--energy_key=REF_energy", "--forces_key=REF_forces", "--loss=weighted", "--error_table=TotalRMSE"),
        *("--scheduler=ExponentialLR", f"--lr_scheduler_gamma={gamma}", "--patience=1000000"),
    ]
    # --amsgrad is on in mace_run_train whether it is said or not; --ema is off unless it is said.
    words += ["--ema"] if "ema_decay" in job["options"] else []
    if place == "training":
        words += stage_words(job["stage_two"], epochs)
    run(job["python"], START.format(module="run_train"), words)
    log = next((out / "logs").glob("*.log"))
    return seconds_of(log.read_text().splitlines())


def stage_words(stage: Mapping[str, Any] | None, epochs: int) -> list[str]:
    """Options of the second stage."""
    first = 0 if stage is None else int(stage["start"] * epochs + 1e-9)  # 0.29 * 100 is below 29
    if stage is None or not 0 < first < epochs:
        return []
    weights = [f"--swa_energy_weight={stage['energy']}", f"--swa_forces_weight={stage['forces']}"]
    return ["--swa", f"--start_swa={first}", f"--swa_lr={stage['lr']}", *weights]


def words_of(options: Mapping[str, Any]) -> list[str]:
    """Options as words of a command line."""
    return [f"--{name}={value}" for name, value in options.items()]


def run(python: str, code: str, words: Sequence[str]) -> None:
    """Run Python code in mace-torch's environment, without what points at our packages.

    Raises:
        SystemExit: If it fails. It has told why, and nothing is to be told after it.
    """
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
    environment["TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"] = "1"
    if subprocess.run([python, "-c", code, *words], env=environment).returncode:
        raise SystemExit(1)


def seconds_of(log: Iterable[str]) -> float:
    """Time from "Started training" to the last line about an epoch.

    Raises:
        ValueError: If the log has no such lines.
    """
    stamps = [(datetime.datetime.fromisoformat(found[1]), found[2]) for found in map(STAMP.match, log) if found]
    begun = [time for time, text in stamps if text.startswith("Started training")]
    ended = [time for time, text in stamps if EPOCH.match(text) or text.startswith("Training complete")]
    if not begun or not ended:
        raise ValueError("the log of mace_run_train does not say when it trained")
    return (ended[-1] - begun[0]).total_seconds()


def evaluate(folder: Path, job: Mapping[str, Any], model: Path, split: str, name: str) -> dict[str, Any]:
    """Errors on a split, in float64: predictions are mace_eval_configs's, the sums ours."""
    source, out = folder / "data" / name, folder / f"predicted_{name}"
    run(
        job["python"],
        START.format(module="eval_configs"),
        words_of({"configs": source, "model": model, "output": out, "device": job["device"], "default_dtype": "float64",
                  "batch_size": 16}),
    )  # fmt: skip
    errors = ErrorSums()
    errors.add(predictions(ase.io.read(out, ":"), ase.io.read(source, ":")))
    return errors.row(split)


def predictions(predicted: Any, labelled: Any) -> Predictions:
    """What mace-torch says beside the labels."""
    sizes = np.array([len(atoms) for atoms in labelled])
    total = int(sizes.sum())
    return Predictions(
        n_atoms=sizes,
        frame_index=np.arange(len(sizes)),
        sid=np.full(len(sizes), -1),
        fid=np.full(len(sizes), -1),
        atomic_numbers=np.concatenate([atoms.numbers for atoms in labelled]),
        fixed=np.zeros(total, dtype=bool),
        energy=np.array([atoms.info["MACE_energy"] for atoms in predicted], dtype=float),
        energy_label=np.array([atoms.info.get("REF_energy", np.nan) for atoms in labelled], dtype=float),
        forces=np.concatenate([atoms.arrays["MACE_forces"] for atoms in predicted]),
        forces_label=np.concatenate(
            [atoms.arrays.get("REF_forces", np.full((len(atoms), 3), np.nan)) for atoms in labelled]
        ),
    )


if __name__ == "__main__":
    with held(Path(sys.argv[1])):
        main(Path(sys.argv[1]))
