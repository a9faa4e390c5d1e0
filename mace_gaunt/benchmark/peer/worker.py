"""One side of a comparison, in a process of its own: `python -P worker.py BACKEND.py`.

Reads a JSON object per line on standard input and answers each with one on standard output: {"result": ...}, or
{"error": ..., "trace": ...} where a command failed. What libraries print goes to standard error. Commands:

- build: settings of the back end -> what it built; more "memory" (GB) than they allow is a failure from then on;
- step, infer, md: `count` of them -> "seconds" of each (md: their mean), and a "value" to see that they computed;
- peak: memory of one step or infer; profile: where a step spends its time; rates: what the machine can do; quit.

Runs in the peer's environment too: it and what it loads for both sides import torch, ASE and the standard library,
never mace_gaunt. A back end is a file with a class `Backend`: see `own.py` and `mace_torch.py`.
"""

import contextlib
import importlib.util
import json
import math
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TextIO

HERE = Path(__file__).resolve().parent
STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
COMMANDS = ("build", "step", "infer", "md", "peak", "profile", "rates")


def load(path: str | Path) -> Any:
    """A module from its file, without its package, which the peer's environment lacks."""
    name = f"worker_{Path(path).stem}"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None and spec.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


class Worker:
    """Executes the commands.

    Args:
        make: Settings -> back end.
    """

    def __init__(self, make: Callable[[dict[str, Any]], Any]) -> None:
        self.make = make
        self.backend: Any = None
        self.device: Any = None
        self.calculator: Any = None
        self.memory_before: int | None = None
        self.calls = {"step": 0, "infer": 0}
        self.timing = load(HERE.parent / "timing.py")

    def execute(self, command: str, arguments: dict[str, Any]) -> dict[str, Any]:
        """Run one command by its name."""
        if command not in COMMANDS:
            raise ValueError(f"no command '{command}'; known are {', '.join(COMMANDS)}")
        if command != "build" and self.backend is None:
            raise ValueError(f"{command} before build")
        answer: dict[str, Any] = getattr(self, command)(**arguments)
        return answer

    def build(self, **settings: Any) -> dict[str, Any]:
        """Make the model and the batches."""
        import torch

        torch.set_num_threads(settings["threads"])
        limit_memory(settings.get("memory"))
        start, self.memory_before = time.perf_counter(), reset_peak()
        self.backend, self.device = self.make(settings), torch.device(settings["device"])
        return {**self.backend.describe(), "build_s": time.perf_counter() - start, "torch": torch.__version__}

    def step(self, count: int) -> dict[str, Any]:
        """Optimizer steps."""
        return self.repeat("step", count)

    def infer(self, count: int) -> dict[str, Any]:
        """Energies and forces."""
        return self.repeat("infer", count)

    def repeat(self, what: str, count: int) -> dict[str, Any]:
        """Calls one after the other, over the batches in turn, each timed."""
        call, seconds, value = getattr(self.backend, what), [], math.nan
        for _ in range(count):
            self.timing.wait_for(self.device)
            start = time.perf_counter()
            value = call(self.calls[what] % self.backend.num_batches)
            self.timing.wait_for(self.device)
            seconds.append(time.perf_counter() - start)
            self.calls[what] += 1
        return {"seconds": seconds, "value": finite(value, what)}

    def md(self, count: int) -> dict[str, Any]:
        """Steps of velocity Verlet, always from the same start; "moved" is the mean distance from it (Å)."""
        import ase.io
        from ase import units
        from ase.md.verlet import VelocityVerlet

        atoms: Any = ase.io.read(self.backend.settings["frames"], 0)
        start = atoms.positions.copy()
        if self.calculator is None:
            self.calculator = self.backend.calculator()
        atoms.calc = self.calculator
        value = finite(atoms.get_potential_energy(), "md")
        dynamics = VelocityVerlet(atoms, self.backend.settings["timestep_fs"] * units.fs)
        began = time.perf_counter()
        dynamics.run(count)
        seconds = [(time.perf_counter() - began) / count]
        moved = ((atoms.positions - start) ** 2).sum(axis=1) ** 0.5
        return {"seconds": seconds, "value": value, "moved": finite(moved.mean(), "md")}

    def peak(self, what: str) -> dict[str, Any]:
        """Most memory (bytes): of tensors in a call beyond those it found; of the process beyond what `build` found."""
        process, before = read_memory("VmHWM"), self.memory_before
        over = None if process is None or before is None else process - before
        call = getattr(self.backend, what)
        return {"tensors": self.timing.peak_memory(lambda: call(0), self.device), "process": over}

    def profile(self, repeats: int) -> dict[str, Any]:
        """Where a step spends its time."""
        shares: dict[str, Any] = load(HERE / "shares.py").profile_step(
            lambda: self.backend.step(0), self.backend.parts(), repeats, self.timing
        )
        return shares

    def rates(self, dtype: str) -> dict[str, Any]:
        """What the machine can do on the threads of this side."""
        rates: dict[str, Any] = load(HERE / "shares.py").machine_rates(dtype, self.device, self.timing)
        return rates


def limit_memory(gigabytes: float | None) -> None:
    """Let allocations beyond a limit fail, so that a side which needs too much ends alone."""
    if gigabytes is not None:
        import resource

        _, hard = resource.getrlimit(resource.RLIMIT_DATA)
        resource.setrlimit(resource.RLIMIT_DATA, (int(gigabytes * 1e9), hard))


def finite(value: Any, what: str) -> float:
    """The value as a number; a side that computes nonsense is not timed."""
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"{what} gave {number}")
    return number


def read_memory(name: str) -> int | None:
    """A figure of the process's memory (bytes), such as VmRSS or its peak VmHWM; None without /proc."""
    try:
        lines = STATUS.read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:")), None)


def reset_peak() -> int | None:
    """Let the peak begin anew where Linux lets it, and give what it begins from."""
    with contextlib.suppress(OSError):
        CLEAR.write_text("5")
    return read_memory("VmHWM")


def serve(make: Callable[[dict[str, Any]], Any], commands: Iterable[str], answers: TextIO) -> None:
    """Answer commands until `quit` or the end of the input.

    Args:
        make: Settings -> back end.
        commands: Lines to read.
        answers: Where lines are written.
    """
    worker = Worker(make)
    for line in commands:
        request = json.loads(line)
        command = request.pop("command")
        if command == "quit":
            break
        answer: dict[str, Any]
        try:
            answer = {"result": worker.execute(command, request)}
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}", "trace": traceback.format_exc()}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def main() -> None:
    """Serve the standard streams; whatever else is printed goes to standard error."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    serve(load(sys.argv[1]).Backend, sys.stdin, answers)


if __name__ == "__main__":
    main()
