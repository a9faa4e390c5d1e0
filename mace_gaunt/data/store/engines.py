"""Where the work of preparing a store is done: in this process, in several here, or by Dask, maybe on many machines."""

import importlib
import logging
import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager, ExitStack, contextmanager
from multiprocessing.connection import Connection
from typing import Any, Protocol, TypeVar

from mace_gaunt.errors import UserError, nearest

ENGINES = ("local", "dask")
CONNECT_SECONDS = 15
RESUME = "Run the same command again: what is done is kept."

T = TypeVar("T")
R = TypeVar("R")


class Engine(Protocol):
    """Runs a function on many tasks."""

    def run(self, function: Callable[[T], R], tasks: Sequence[T], useful: int) -> Iterator[R]:
        """Run a function on each task.

        Args:
            function: Of a module, so that other processes find it by its name.
            tasks: Its arguments.
            useful: Number of processes beyond which starting them costs more than it saves.

        Yields:
            Results as they come, in any order.

        Raises:
            UserError: The first that the function raises, or if a process dies; the other tasks are dropped.
        """
        ...


def open_engine(name: str, workers: int, scheduler: str | None = None) -> AbstractContextManager[Engine]:
    """An engine, as a context manager that ends its processes.

    Args:
        name: "local" or "dask".
        workers: Number of processes that are started on this machine.
        scheduler: Of Dask: address of a running scheduler, such as "tcp://host:8786"; then none are started.

    Raises:
        UserError: If there is no such engine, or its library is missing.
    """
    if name not in ENGINES:
        raise UserError(f"engine={name} is not possible.{nearest(name, ENGINES)}")
    if name == "dask":
        return _dask(workers, scheduler)
    if scheduler is not None:
        raise UserError("scheduler= belongs to engine=dask.")
    return LocalEngine(workers)


class LocalEngine:
    """This process, or several that it starts when there is work for them."""

    def __init__(self, workers: int) -> None:
        """Start nothing yet."""
        self.workers = workers
        self._pool: ProcessPoolExecutor | None = None
        self._stack = ExitStack()

    def __enter__(self) -> "LocalEngine":
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def run(self, function: Callable[[T], R], tasks: Sequence[T], useful: int) -> Iterator[R]:
        """See `Engine.run`."""
        if self._pool is None and min(self.workers, useful, len(tasks)) > 1:
            self._pool = self._stack.enter_context(_pool(self.workers))
        if self._pool is None:
            yield from map(function, tasks)
            return
        try:
            for future in as_completed([self._pool.submit(function, task) for task in tasks]):
                yield future.result()
        except BrokenProcessPool as error:
            raise UserError(f"a worker process was killed, maybe for want of memory. {RESUME}") from error


@contextmanager
def _pool(workers: int) -> Iterator[ProcessPoolExecutor]:
    """Processes that end when the pipe to them does: at the end of the context, or when this process is killed."""
    # Forked processes would inherit the locks of torch's threads.
    context = multiprocessing.get_context("spawn")
    watched, held = context.Pipe(duplex=False)
    pool = ProcessPoolExecutor(workers, context, _start_worker, (watched,))
    try:
        yield pool
    finally:
        held.close()
        pool.shutdown(wait=True, cancel_futures=True)
        watched.close()


def _start_worker(watched: Connection) -> None:
    # Ctrl-C reaches every process of a terminal; the first one answers it, and the pipe ends the others.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(watched,), daemon=True).start()


def _end_with(watched: Connection) -> None:
    multiprocessing.connection.wait([watched])
    os._exit(1)


class DaskEngine:
    """The workers of a Dask cluster, on any number of machines that see the same files."""

    def __init__(self, distributed: Any, client: Any) -> None:
        """Use a client of the cluster."""
        self._distributed, self._client = distributed, client

    def run(self, function: Callable[[T], R], tasks: Sequence[T], useful: int) -> Iterator[R]:
        """See `Engine.run`."""
        futures = [self._client.submit(function, task, pure=False) for task in tasks]
        try:
            for future in self._distributed.as_completed(futures):
                yield future.result()
        except self._distributed.KilledWorker as error:
            raise UserError(f"Dask workers were killed, maybe for want of memory. {RESUME}") from error
        finally:
            self._client.cancel(futures)


@contextmanager
def _dask(workers: int, scheduler: str | None) -> Iterator[DaskEngine]:
    try:
        distributed = importlib.import_module("distributed")
    except ImportError as error:
        raise UserError("engine=dask needs Dask: pip install 'mace-gaunt[dask]'") from error
    with ExitStack() as stack:
        if scheduler is None:
            scheduler = stack.enter_context(
                distributed.LocalCluster(
                    n_workers=workers, threads_per_worker=1, dashboard_address=None, silence_logs=logging.ERROR
                )
            )
        try:
            client = distributed.Client(scheduler, timeout=CONNECT_SECONDS)
        except (OSError, ValueError) as error:
            raise UserError(f"no Dask scheduler answers at {scheduler}: {error}") from error
        yield DaskEngine(distributed, stack.enter_context(client))
