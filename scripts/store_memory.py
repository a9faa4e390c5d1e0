"""Memory of training and evaluating on stores of N and 10 N synthetic frames, sampled while they run.

    python scripts/store_memory.py out=docs/results/store_memory.csv [frames=3000] [steps=300]

Every command runs in a process of its own; its memory, with that of its children, is read from /proc (Linux) twice a
second: PSS, which counts pages shared between processes once, and RSS. The last rows are a control: the same frames
from a text file, which are kept in memory. Takes about ten minutes.
"""

import csv
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.build import add_adsorbate, fcc111
from ase.constraints import FixAtoms

FIELDS = ["command", "frames", "second", "pss_MB", "rss_MB"]
MODEL = [
    "model.num_channels=4", "max_L=0", "max_ell=2", "correlation=2", "radial_MLP=[8]", "E0s=zero", "compile=off",
    "device=cpu", "r_max=4.0",
]  # fmt: skip


def main(words: list[str]) -> None:
    """Make the stores, run the commands, write the samples.

    Args:
        words: out=FILE, frames=N, steps=N.
    """
    given = dict(word.split("=", 1) for word in words)
    frames, steps = int(given.get("frames", "3000")), int(given.get("steps", "300"))
    with tempfile.TemporaryDirectory() as folder, Path(given["out"]).open("w", newline="") as file:
        writer = csv.DictWriter(file, FIELDS)
        writer.writeheader()
        for row in measure(Path(folder), frames, steps):
            writer.writerow(row)
            file.flush()


def measure(folder: Path, frames: int, steps: int) -> Iterator[dict[str, object]]:
    """The samples of all commands.

    Args:
        folder: Where stores and runs go.
        frames: Of the small set; the large one has ten times as many.
        steps: Of each training.

    Yields:
        Rows with `FIELDS`.
    """
    for count in (frames, 10 * frames):
        text, store = folder / f"{count}.xyz", folder / f"store{count}"
        write_frames(text, count)
        run(["data", "prepare", f"path={text}", f"out={store}", "r_max=4.0"])
        training = [
            "train", f"train_file={store}", "valid_size=50", f"trainer.max_steps={steps}", f"run={folder}/run{count}",
        ]  # fmt: skip
        yield from sampled("train on a store", count, [*training, *MODEL])
        evaluating = ["evaluate", f"model={folder}/run{count}", f"test_file={store}", f"out={folder}/report{count}"]
        yield from sampled("evaluate on a store", count, evaluating)
        training = [text if word == store else word for word in training]
        training[1], training[-1] = f"train_file={text}", f"run={folder}/text{count}"
        yield from sampled("train on a text file", count, [*training, *MODEL])


def write_frames(path: Path, count: int) -> None:
    """Slabs of 16 copper atoms with an oxygen above them, displaced, with energies and forces of random numbers.

    Args:
        path: An extxyz file.
        count: How many.
    """
    slab = fcc111("Cu", (2, 2, 4), vacuum=6.0, periodic=True)
    add_adsorbate(slab, "O", 1.5)
    slab.set_constraint(FixAtoms(range(8)))
    random = np.random.default_rng(0)
    with path.open("w") as file:
        for _ in range(count):
            file.write(frame_text(slab, random))


def frame_text(slab: Atoms, random: np.random.Generator) -> str:
    """One frame as extxyz."""
    cell = " ".join(f"{number:.8f}" for number in slab.cell.array.ravel())
    lines = [
        str(len(slab)),
        f'Lattice="{cell}" Properties=species:S:1:pos:R:3:forces:R:3 energy={random.normal():.8f} pbc="T T T"',
    ]
    positions = slab.positions + random.normal(scale=0.05, size=(len(slab), 3))
    for symbol, *numbers in zip(slab.symbols, *positions.T, *random.normal(size=(3, len(slab))), strict=True):
        lines.append(" ".join([symbol, *(f"{number:.8f}" for number in numbers)]))
    return "\n".join(lines) + "\n"


def run(words: list[str]) -> None:
    """Run a command to its end.

    Args:
        words: After `mace-gaunt`.
    """
    subprocess.run([sys.executable, "-m", "mace_gaunt.cli.main", *words], check=True, stdout=subprocess.DEVNULL)


def sampled(name: str, frames: int, words: list[str]) -> Iterator[dict[str, object]]:
    """Memory of a command while it runs.

    Args:
        name: What the rows call it.
        frames: Of the set.
        words: After `mace-gaunt`.

    Yields:
        Rows with `FIELDS`.

    Raises:
        subprocess.CalledProcessError: If it fails.
    """
    print(f"{name}, {frames} frames", flush=True)
    begin = time.perf_counter()
    command = [sys.executable, "-m", "mace_gaunt.cli.main", *words]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        while process.poll() is None:
            sizes = [memory(pid) for pid in family(process.pid)]
            pss, rss = (sum(column) / 1024 for column in zip(*sizes, strict=True)) if sizes else (0.0, 0.0)
            seconds = time.perf_counter() - begin
            yield {
                "command": name, "frames": frames, "second": f"{seconds:.1f}", "pss_MB": f"{pss:.0f}",
                "rss_MB": f"{rss:.0f}",
            }  # fmt: skip
            time.sleep(0.5)
        if process.returncode:
            print(process.stderr.read() if process.stderr else "", file=sys.stderr)
            raise subprocess.CalledProcessError(process.returncode, command)


def family(pid: int) -> list[int]:
    """A process and its children, theirs too."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []
    return [pid, *(member for child in children for member in family(int(child)))]


def memory(pid: int) -> tuple[int, int]:
    """PSS and RSS of a process (KiB), zeros when it has gone."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0, 0
    sizes = {line.split(":")[0]: int(line.split()[1]) for line in lines[1:]}
    return sizes["Pss"], sizes["Rss"]


if __name__ == "__main__":
    main(sys.argv[1:])
