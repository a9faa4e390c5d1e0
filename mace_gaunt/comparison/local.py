"""Trainings on this machine, some at a time, each pinned to processors of its own."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from mace_gaunt.comparison.members import Member
from mace_gaunt.errors import UserError

Cores = tuple[int, ...]
POLL = 0.5
"""Seconds between two looks at what runs."""
GRACE = 30.0
"""Seconds that an interrupted training gets to end by itself."""


class Running(Protocol):
    """A training that runs."""

    def poll(self) -> int | None:
        """Its exit status, None while it runs."""
        ...

    def interrupt(self) -> None:
        """Ask it to end; what it has written stays."""
        ...

    def kill(self) -> None:
        """End it if it still runs."""
        ...


Launch = Callable[[Member, Cores], Running]


def own_cores() -> Cores:
    """The processors that this process may use: `taskset` and the machine decide."""
    if hasattr(os, "sched_getaffinity"):
        return tuple(sorted(os.sched_getaffinity(0)))
    return tuple(range(os.cpu_count() or 1))


def share(cores: Sequence[int], parallel: int) -> list[Cores]:
    """Processors for each of the trainings that run at a time, the same number for all; what is left over rests.

    Args:
        cores: The processors there are.
        parallel: Trainings at a time.

    Raises:
        UserError: If there are fewer processors than trainings.
    """
    if isinstance(parallel, bool) or not isinstance(parallel, int) or parallel < 1:
        raise UserError(f"parallel is a number of trainings at a time, not {parallel}.")
    each = len(cores) // parallel
    if each < 1:
        raise UserError(f"parallel={parallel} needs as many processors; this process may use {len(cores)}.")
    return [tuple(cores[index * each : (index + 1) * each]) for index in range(parallel)]


def run_all(
    members: Sequence[Member], slots: Sequence[Cores], launch: Launch, ended: Callable[[Member, int], None]
) -> None:
    """Train members, as many at a time as there are slots, in their order.

    Args:
        members: What is to be trained.
        slots: Processors of each that runs at a time.
        launch: Starts one.
        ended: Told of each that ended, with its exit status.

    Raises:
        KeyboardInterrupt: After those that run have been stopped.
    """
    waiting, free = list(members), list(slots)
    running: list[tuple[Member, Cores, Running]] = []
    try:
        while waiting or running:
            while waiting and free:
                member, cores = waiting.pop(0), free.pop(0)
                running.append((member, cores, launch(member, cores)))
            for entry in list(running):
                member, cores, training = entry
                status = training.poll()
                if status is not None:
                    running.remove(entry)
                    free.append(cores)
                    ended(member, status)
            if running and (len(running) == len(slots) or not waiting):
                time.sleep(POLL)
    finally:
        stop_all([training for _, _, training in running])


def stop_all(trainings: Sequence[Running]) -> None:
    """Interrupt trainings, all at once, and kill those that have not ended after GRACE.

    Args:
        trainings: What runs.

    Raises:
        KeyboardInterrupt: After a second Ctrl-C, which kills them at once.
    """
    try:
        for training in trainings:
            training.interrupt()
        end = time.monotonic() + GRACE
        while any([training.poll() is None for training in trainings]) and time.monotonic() < end:
            time.sleep(POLL)
    finally:
        for training in trainings:
            training.kill()


class Training:
    """`mace-gaunt` in a process of its own, on some processors, its lines in a file.

    It starts from an empty cache of compiled code: all members pay for compiling, whoever comes first.

    Args:
        command: Program and arguments.
        log: File for what it prints; what an earlier start printed stays.
        cores: Its processors; it computes with as many threads.
    """

    def __init__(self, command: Sequence[str], log: Path, cores: Cores) -> None:
        threads = str(len(cores))
        self._code = tempfile.TemporaryDirectory(prefix="mace-gaunt-code-")
        environment = {
            **os.environ,
            "OMP_NUM_THREADS": threads,
            "MKL_NUM_THREADS": threads,
            "PYTHONUNBUFFERED": "1",
            "TORCHINDUCTOR_CACHE_DIR": self._code.name,
        }
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("a") as lines:
            # A session of its own: Ctrl-C reaches this process alone, which then stops the trainings.
            self._process = subprocess.Popen(
                command, stdout=lines, stderr=subprocess.STDOUT, env=environment, start_new_session=True
            )
        if hasattr(os, "sched_setaffinity"):
            # Its threads are started later, and inherit this.
            os.sched_setaffinity(self._process.pid, cores)

    def poll(self) -> int | None:
        """Its exit status, None while it runs."""
        status = self._process.poll()
        if status is not None:
            self._code.cleanup()
        return status

    def interrupt(self) -> None:
        """Interrupt it as Ctrl-C would."""
        self._process.send_signal(signal.SIGINT)

    def kill(self) -> None:
        """End it and what it has started, if it still runs."""
        if self._process.poll() is None:
            # Its session, which has its number.
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        self._code.cleanup()


def launch_training(member: Member, cores: Cores) -> Training:
    """Train a member from its file; what an earlier start has done is continued."""
    words = ["train", str(member.file), f"run='{member.path.absolute()}'", "resume=auto", "overwrite=true"]
    return Training([sys.executable, "-m", "mace_gaunt.cli.main", *words], member.log, cores)
