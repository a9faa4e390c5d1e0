"""`mace-gaunt data verify`: whether a store is what it was when it was prepared."""

from pathlib import Path

from mace_gaunt.benchmark.keys import Key, describe, flag, read_pairs, word
from mace_gaunt.cli.data_keys import read_words
from mace_gaunt.cli.data_prepare import ENGINE_KEYS, engine_values, progress_line
from mace_gaunt.errors import UserError

COMMAND = "data verify"
KEYS = {
    "path": Key(word, "folder of the store; path= may be left out (needed)"),
    "deep": Key(flag, "also compare with the files that it was made from (false)"),
} | ENGINE_KEYS

HELP = """\
usage: mace-gaunt data verify FOLDER [deep=true] [key=value ...]

Recomputes every checksum of a store, reads every record and counts. With deep=true the files that it was made from
are compared with their checksums, and every shard with what they give. Exit status 1 when something is wrong.

example:
  mace-gaunt data verify stores/2M workers=8

keys (and defaults):
{keys}"""


def help_text() -> str:
    """What `mace-gaunt data verify --help` prints."""
    return HELP.format(keys=describe(KEYS))


def run(argv: list[str]) -> int:
    """Check a store and print what is wrong.

    Args:
        argv: The words after the subverb.

    Returns:
        1 when something is, else 0.

    Raises:
        UserError: If a key is wrong or there is no complete store.
    """
    values = read_pairs(read_words(argv, COMMAND), KEYS, COMMAND)
    if "path" not in values:
        raise UserError(f"which store? See: mace-gaunt {COMMAND} --help")
    from mace_gaunt.data.store.engines import open_engine
    from mace_gaunt.data.store.manifest import describe as describe_store
    from mace_gaunt.data.store.manifest import read_manifest
    from mace_gaunt.data.store.verify import verify

    folder = Path(values["path"]).expanduser()
    with open_engine(**engine_values(values)) as workers, progress_line("verified") as progress:
        problems = verify(folder, workers, values.get("deep", False), progress)
    if problems:
        print(*problems, f"{len(problems)} problems", sep="\n")
        return 1
    print(f"{folder} is as it was prepared\n{describe_store(read_manifest(folder))}")
    return 0
