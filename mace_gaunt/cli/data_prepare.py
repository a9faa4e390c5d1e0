"""`mace-gaunt data prepare`: files of structures -> a store with neighbour lists."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from mace_gaunt.benchmark.keys import Key, choice, describe, flag, integer, positive, read_pairs, split, word
from mace_gaunt.cli.data_keys import LABELS, read_words
from mace_gaunt.errors import UserError

if TYPE_CHECKING:
    from mace_gaunt.data.store.prepare import Prepared, Progress

COMMAND = "data prepare"

# Who does the work.
ENGINE_KEYS = {
    "workers": Key(integer(least=1), "processes on this machine (as many as processors)"),
    "engine": Key(choice("local", "dask"), "who does the work: processes here, or Dask (local)"),
    "scheduler": Key(word, "of engine=dask: address of a running scheduler, tcp://host:8786 (starts workers here)"),
}
KEYS = {
    "path": Key(split, "files and folders of structures, with commas between them (needed)"),
    "out": Key(word, "folder of the store (needed)"),
    "r_max": Key(positive, "cut-off of the neighbour lists in Å (needed)"),
    "energy_reference": Key(choice("total", "adsorption", "linear"), "what energies refer to (what the files tell)"),
    "linear_reference": Key(word, "of linear: .npz file with coeff[Z] in eV, such as oc20_linref.npz (fitted here)"),
    **LABELS,
    "shard_size": Key(integer(least=1), "records of a shard (100 to 8192, by their number)"),
    "on_bad_frame": Key(choice("stop", "skip"), "at a record that cannot be used: stop, or leave it out (stop)"),
    "overwrite": Key(flag, "whether a store in out is made anew (false)"),
    **ENGINE_KEYS,
}

HELP = """\
usage: mace-gaunt data prepare path=FILE_OR_FOLDER[,...] out=FOLDER r_max=6.0 [key=value ...]

Reads any files of structures and writes a store: shards of checked records with neighbour lists, an index, and a
manifest with checksums, counts and the statistics that a training needs. Cut short at any point, the same command
goes on where it was; on a complete store it does nothing.

examples:
  mace-gaunt data prepare path=s2ef_train_2M out=stores/2M r_max=6 energy_reference=adsorption workers=16
  mace-gaunt data prepare path=train.xyz,more.db out=stores/mine r_max=5
  mace-gaunt data prepare path=s2ef_train_all out=/shared/all r_max=6 engine=dask scheduler=tcp://head:8786

keys (and defaults):
{keys}"""


def help_text() -> str:
    """What `mace-gaunt data prepare --help` prints."""
    return HELP.format(keys=describe(KEYS))


def run(argv: list[str]) -> int:
    """Make or complete a store.

    Args:
        argv: The words after the subverb.

    Returns:
        0, or 130 when interrupted.

    Raises:
        UserError: For anything the user can mend; what is done is kept.
    """
    values = read_pairs(read_words(argv, COMMAND), KEYS, COMMAND)
    for key, what in (("path", "FILE_OR_FOLDER"), ("out", "FOLDER"), ("r_max", "LENGTH (Å)")):
        if key not in values:
            raise UserError(f"{key} is missing: give {key}={what}. See: mace-gaunt {COMMAND} --help")
    from mace_gaunt.cli.quiet import quiet
    from mace_gaunt.data.labels import LabelKeys
    from mace_gaunt.data.store.engines import RESUME, open_engine
    from mace_gaunt.data.store.prepare import prepare
    from mace_gaunt.data.store.request import Request

    quiet()
    labels = {name: values.pop(f"{name}_key") for name in ("energy", "forces", "stress") if f"{name}_key" in values}
    engine = engine_values(values)
    request = Request(paths=values.pop("path"), keys=LabelKeys(**labels), **values)
    try:
        with open_engine(**engine) as workers, progress_line("prepared") as progress:
            done = prepare(request, workers, progress)
    except KeyboardInterrupt:
        print(f"interrupted. {RESUME}", file=sys.stderr)
        return 130
    print(report(done, values["out"]))
    return 0


def report(done: "Prepared", out: str) -> str:
    """What was done, and what the store holds."""
    from mace_gaunt.data.store.manifest import describe as describe_store

    n_shards = len(done.manifest.shards)
    what = "nothing to do: it was complete" if not done.built else f"{done.built} of {n_shards} shards made"
    bad = [
        f"  {done.manifest.sources[entry.source].path}, record {entry.record}: {entry.reason}"
        for entry in done.manifest.bad
    ]
    more = [f"  ... and {len(bad) - 10} more, in the manifest"] if len(bad) > 10 else []
    return "\n".join([f"store  {out} ({what})", describe_store(done.manifest), *bad[:10], *more])


def engine_values(values: dict[str, Any]) -> dict[str, Any]:
    """Take the keys of the engine out of some values, with their defaults."""
    return {
        "name": values.pop("engine", "local"),
        "workers": values.pop("workers", None) or processors(),
        "scheduler": values.pop("scheduler", None),
    }


def processors() -> int:
    """Number of processors that this process may use."""
    from mace_gaunt.cli.machine import CGROUP_LIMIT, processor_quota

    there = len(os.sched_getaffinity(0))
    return min(there, processor_quota(CGROUP_LIMIT) or there)


@contextmanager
def progress_line(name: str) -> Iterator["Progress"]:
    """A line that tells how many frames are done, how fast, and how long the rest takes; none without work.

    Args:
        name: Its first word.
    """
    from mace_gaunt.simulation.progress import ProgressLine

    lines: list[ProgressLine] = []

    def progress(done: int, total: int) -> None:
        if not lines:
            lines.append(ProgressLine(total, name, "frames"))
        lines[0].update(done)

    try:
        yield progress
    finally:
        for line in lines:
            line.close()
