"""Two hours of training and of molecular dynamics beside each other: memory, file handles and speed all the while.

    python scripts/long_runs.py model=runs/mine/model structure=molecule.xyz train="experiment=3bpa_small" \
        out=docs/results/long_runs [minutes=120] [cores=0,1] [turns=5]

Each run has one core of `cores` and is ended by SIGTERM, as a queue would. Every ten seconds its resident memory, open
files (/proc, so Linux) and last recorded step go to OUT/samples.csv; OUT/summary.csv has the growth of memory and files
and the speed of the last tenth against the first, both after a tenth of the time in which caches fill and, of the
training, compilation ends; OUT/long_runs.png shows all of it.

Machines become slower and faster in two hours, too. So at the end both are started a second time, and the old and the
fresh processes run in turns of a minute, the others held by SIGSTOP: `over_fresh` is the ratio of their median speeds.
"""

import csv
import os
import shlex
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mace_gaunt.signals import termination_unwinds

Columns = dict[str, np.ndarray]

PERIOD_S, TURN_S, POLL_S = 10.0, 60.0, 0.2
RUNS = {"training": "metrics.csv", "molecular dynamics": "md.csv"}
"""What runs, and the table in its folder that has a column `step`."""


def main(words: list[str]) -> None:
    """Run both, sample them, write tables and plot.

    Args:
        words: model=, structure=, train=, out=, minutes=, cores=, turns=.
    """
    given = dict(word.split("=", 1) for word in words)
    out, minutes = Path(given["out"]), float(given.get("minutes", "120"))
    cores = [int(core) for core in given.get("cores", "0,1").split(",")]
    out.mkdir(parents=True, exist_ok=True)
    with (
        termination_unwinds(),
        tempfile.TemporaryDirectory() as folder,
        both_started(given, cores, Path(folder) / "old") as old,
    ):
        samples = list(sampled(old, 60.0 * minutes))
        write_rows(samples, out / "samples.csv")
        columns = {name: columns_of(samples, name) for name in RUNS}
        plot(columns, out / "long_runs.png")
        ratios = against_fresh(old, given, cores, Path(folder) / "fresh")
        for name, run in old.items():
            run.process.send_signal(signal.SIGTERM)
            print(f"{name}: ended with status {run.process.wait()}")
    rows = [{"run": name, **judged(part), "over_fresh": ratios[name]} for name, part in columns.items()]
    write_rows(rows, out / "summary.csv")


@dataclass(frozen=True)
class Run:
    """A process, and the table in which it records its steps."""

    process: subprocess.Popen[bytes]
    table: Path


@contextmanager
def both_started(given: dict[str, str], cores: list[int], folder: Path) -> Iterator[dict[str, Run]]:
    """A training and a simulation; whatever happens, none of them is left behind.

    Args:
        given: The script's keys.
        cores: One for each.
        folder: Where they write.

    Yields:
        Name -> process and table.
    """
    commands = {
        "training": [
            "train", *shlex.split(given["train"]), f"run={folder / 'training'}", "trainer.max_epochs=100000",
            "trainer.check_val_every_n_epoch=1", "device=cpu", "compile=on",
        ],
        "molecular dynamics": [
            "md", f"model={given['model']}", f"structure={given['structure']}", "ensemble=langevin",
            "steps=100000000", "interval=100", "device=cpu", f"out={folder / 'molecular dynamics'}",
        ],
    }  # fmt: skip
    runs: dict[str, Run] = {}
    try:
        for (name, words), core in zip(commands.items(), cores, strict=True):
            runs[name] = Run(start(words, core), folder / name / RUNS[name])
        yield runs
    finally:
        for run in runs.values():
            # One that is held by SIGSTOP ends by this, too.
            run.process.kill()
            run.process.wait()


def against_fresh(old: dict[str, Run], given: dict[str, str], cores: list[int], folder: Path) -> dict[str, float]:
    """Speed of each run over that of the same command just started, the two in turns on the same core.

    Args:
        old: The runs; they are held while the fresh ones have their turn, and run again at the end.
        given: The script's keys.
        cores: Of both.
        folder: Where the fresh ones write.

    Returns:
        Name -> ratio of the medians over the turns.
    """
    signal_all(old, signal.SIGSTOP)
    speeds: dict[str, dict[str, list[float]]] = {name: {"old": [], "fresh": []} for name in old}
    with both_started(given, cores, folder) as fresh:
        while any(np.isnan(last_step(run.table)) for run in fresh.values()):
            check_running(fresh)
            time.sleep(PERIOD_S)
        signal_all(fresh, signal.SIGSTOP)
        for _ in range(int(given.get("turns", "5"))):
            for age, runs in (("old", old), ("fresh", fresh)):
                for name, value in turn(runs).items():
                    speeds[name][age].append(value)
    signal_all(old, signal.SIGCONT)
    return {name: round(median(found["old"]) / median(found["fresh"]), 3) for name, found in speeds.items()}


def median(values: list[float]) -> float:
    """The median of the turns in which a speed could be told; NaN where there is none."""
    told = [value for value in values if not np.isnan(value)]
    return statistics.median(told) if told else float("nan")


def check_running(runs: dict[str, Run]) -> None:
    """Look whether all still run.

    Raises:
        RuntimeError: If one has ended.
    """
    for name, run in runs.items():
        if run.process.poll() is not None:
            raise RuntimeError(f"{name} ended before its time, with status {run.process.returncode}")


def turn(runs: dict[str, Run]) -> dict[str, float]:
    """Steps a second of each run in a minute in which only these are running."""
    signal_all(runs, signal.SIGCONT)
    seen: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in runs}
    begin = time.monotonic()
    while (elapsed := time.monotonic() - begin) < TURN_S:
        check_running(runs)
        for name, run in runs.items():
            seen[name][0].append(elapsed)
            seen[name][1].append(last_step(run.table))
        time.sleep(POLL_S)
    signal_all(runs, signal.SIGSTOP)
    return {name: speed({"second": np.array(at), "step": np.array(steps)}) for name, (at, steps) in seen.items()}


def signal_all(runs: dict[str, Run], number: signal.Signals) -> None:
    """Send a signal to every process."""
    for run in runs.values():
        run.process.send_signal(number)


def write_rows(rows: list[dict[str, object]], path: Path) -> None:
    """A CSV of rows with the same keys."""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def columns_of(samples: list[dict[str, object]], name: str) -> Columns:
    """Column -> its numbers, of one run."""
    return {
        key: np.array([row[key] for row in samples if row["run"] == name], dtype=float)
        for key in samples[0]
        if key != "run"
    }


def start(words: list[str], core: int) -> subprocess.Popen[bytes]:
    """A command on a core of its own.

    Args:
        words: After `mace-gaunt`.
        core: Its number.

    Returns:
        The process.
    """
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = ["taskset", "-c", str(core), sys.executable, "-m", "mace_gaunt.cli.main", *words]
    return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)


def sampled(runs: dict[str, Run], seconds: float) -> Iterator[dict[str, object]]:
    """Rows of both runs every ten seconds.

    Args:
        runs: The processes.
        seconds: How long.

    Yields:
        run, second, rss_MB, files, step.

    Raises:
        RuntimeError: If one ends before its time.
    """
    begin = time.monotonic()
    while (elapsed := time.monotonic() - begin) < seconds:
        check_running(runs)
        for name, run in runs.items():
            yield {"run": name, "second": round(elapsed, 1), **state(run.process.pid, run.table)}
        time.sleep(PERIOD_S)


def state(pid: int, table: Path) -> dict[str, object]:
    """Memory (MB), open files and the last step of a process."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return {
        "rss_MB": round(pages * os.sysconf("SC_PAGE_SIZE") / 2**20, 1),
        "files": len(os.listdir(f"/proc/{pid}/fd")),
        "step": last_step(table),
    }


def last_step(table: Path) -> float:
    """The column `step` of the last whole line; NaN before there is one."""
    if not table.is_file():
        return float("nan")
    with table.open("rb") as file:
        header = file.readline().decode().strip().split(",")
        file.seek(max(file.seek(0, os.SEEK_END) - 4096, len(",".join(header)) + 1))
        lines = file.read().decode().split("\n")[:-1]
    return float(lines[-1].split(",")[header.index("step")]) if lines and lines[-1] else float("nan")


def judged(part: Columns) -> dict[str, object]:
    """Growth and slowing of one run between the second tenth of its time and the last.

    Args:
        part: Its samples.

    Returns:
        The figures of a row of summary.csv.
    """
    tenth = part["second"].max() / 10
    first = {key: column[(part["second"] >= tenth) & (part["second"] <= 2 * tenth)] for key, column in part.items()}
    last = {key: column[part["second"] >= 9 * tenth] for key, column in part.items()}
    return {
        "minutes": round(part["second"].max() / 60),
        "steps": int(np.nanmax(part["step"])),
        "rss_MB_first": np.median(first["rss_MB"]),
        "rss_MB_last": np.median(last["rss_MB"]),
        "files_first": int(first["files"].max()),
        "files_last": int(last["files"].max()),
        "steps_per_s_first": round(speed(first), 3),
        "steps_per_s_last": round(speed(last), 3),
        "last_over_first": round(speed(last) / speed(first), 3),
    }


def speed(part: Columns) -> float:
    """Steps a second between the first and the last time that the recorded step changed; NaN without two changes."""
    changed = np.flatnonzero(np.diff(part["step"]) > 0) + 1
    if len(changed) < 2:
        return float("nan")
    return float(np.ptp(part["step"][changed]) / np.ptp(part["second"][changed]))


def plot(columns: dict[str, Columns], path: Path) -> None:
    """Memory, open files and steps a second over the time, both runs.

    Args:
        columns: Run -> its samples.
        path: A PNG.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.0, 7.5), layout="constrained")
    axes = figure.subplots(3, 1, sharex=True)
    for (name, part), colour in zip(columns.items(), ("#0072B2", "#D55E00"), strict=True):
        minutes = part["second"] / 60
        axes[0].plot(minutes, part["rss_MB"], color=colour, label=name)
        axes[1].plot(minutes, part["files"], color=colour)
        rate = (part["step"][30:] - part["step"][:-30]) / (part["second"][30:] - part["second"][:-30])
        axes[2].plot(minutes[15:-15], rate / np.nanmedian(rate), color=colour)
    axes[0].legend()
    labels = ("resident memory (MB)", "open files", "steps a second,\nmean of 5 min (over the median)")
    for axis, label in zip(axes, labels, strict=True):
        axis.set_ylabel(label)
        axis.set_ylim(bottom=0)
        axis.grid(alpha=0.3)
    axes[-1].set_xlabel("time (min)")
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    main(sys.argv[1:])
