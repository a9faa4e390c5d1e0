"""`mace-gaunt data inspect`: what is in files of structures, and what is wrong with it."""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from mace_gaunt.benchmark.keys import Key, describe, flag, integer, positive, read_pairs, word
from mace_gaunt.cli.data_keys import LABELS, PATH, find_files, read_words
from mace_gaunt.errors import UserError
from mace_gaunt.files import check_writable

if TYPE_CHECKING:
    from mace_gaunt.data.inspection import Report

COMMAND = "data inspect"
KEYS = {
    "path": PATH,
    "data": Key(word, "instead of path: all splits of a data set, 3bpa or 3bpa_xtb"),
    "root": Key(word, "folder of the data set"),
    "json": Key(word, "file to write the whole report to"),
    "r_max": Key(positive, "cut-off in Å within which neighbours are counted (5.0)"),
    "strict": Key(flag, "whether warnings make the exit status 1 as well (false)"),
    "vendi_frames": Key(integer(least=0), "frames whose diversity is measured, drawn at random; 0 for none (300)"),
    "memory_GB": Key(positive, "memory of the device for which batches are recommended (8)"),
    **LABELS,
}

HELP = """\
usage: mace-gaunt data inspect path=FILE_OR_FOLDER[,...] [json=OUT] [key=value ...]

Reads every record once, in bounded memory, and reports labels, sizes, energies, forces, outliers, duplicates,
distances, edges, units, E0s, elements that are tested but not trained, a bound for batches, and diversity.

exit status: 0 every record was read and can be used; 1 some record cannot (problems), or there is none, or, with
strict=true, something should be looked at (warnings: duplicates, outliers, missing labels and the like)

examples:
  mace-gaunt data inspect path=my.xyz r_max=5
  mace-gaunt data inspect path=[train.xyz,test.xyz] json=report.json strict=true
  mace-gaunt data inspect path=s2ef_train_200K json=report.json
  mace-gaunt data inspect data=3bpa_xtb

keys (and defaults):
{keys}"""


def help_text() -> str:
    """What `mace-gaunt data inspect --help` prints."""
    return HELP.format(keys=describe(KEYS))


def run(argv: list[str]) -> int:
    """Inspect.

    Args:
        argv: The words after the subverb.

    Returns:
        Exit status.

    Raises:
        UserError: If a key is wrong, a file is missing or of an unknown kind, or a folder has no data.
    """
    values = read_pairs(read_words(argv, COMMAND), KEYS, COMMAND)
    files = find_files(values)
    out = Path(values["json"]).expanduser() if "json" in values else None
    if out is not None and not out.parent.is_dir():
        raise UserError(f"json={out}: there is no folder {out.parent}.")
    if out is not None:
        check_writable(out)
    from mace_gaunt.cli.quiet import quiet
    from mace_gaunt.data.inspection import inspect_files
    from mace_gaunt.data.labels import LabelKeys

    quiet()
    report = inspect_files(
        files,
        LabelKeys(*(values.get(name, "auto") for name in LABELS)),
        values.get("r_max", 5.0),
        vendi_frames=values.get("vendi_frames", 300),
        memory_gb=values.get("memory_GB", 8.0),
        watch=_watcher(),
    )
    print(report)
    if out is not None:
        write(out, report)
    return report.status(values.get("strict", False))


def write(out: Path, report: "Report") -> None:
    """Write a report as JSON, whole or not at all."""
    text = json.dumps(report.to_json(), indent=1, allow_nan=False, ensure_ascii=False)
    partial = out.with_name(out.name + ".partial")
    partial.write_text(text + "\n", encoding="utf-8")
    partial.replace(out)


def _watcher() -> Callable[[str, int], None] | None:
    """Tells on a terminal, once a second, how far the reading is."""
    if not sys.stderr.isatty():
        return None
    told = time.monotonic()

    def watch(file: str, n: int) -> None:
        nonlocal told
        if time.monotonic() - told > 1.0:
            told = time.monotonic()
            print(f"\r\x1b[K{file}: {n} records", end="\r", file=sys.stderr, flush=True)

    return watch
