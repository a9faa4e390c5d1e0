"""`mace-gaunt data download`: fetch a public data set and check it."""

from mace_gaunt.benchmark.keys import Key, describe, read_pairs, word
from mace_gaunt.cli.benchmark_run import read_words
from mace_gaunt.errors import UserError

COMMAND = "data download"
KEYS = {
    "data": Key(word, "the data set: 3bpa or acac (needed)"),
    "root": Key(word, "folder to put it in ($MACE_GAUNT_DATA/NAME, or data/NAME)"),
    "address": Key(word, "URL of the repository that has it"),
}

HELP = """\
usage: mace-gaunt data download data=NAME [root=DIR] [address=URL]

Fetches a public data set and checks it; without a network, says what to do by hand.

examples:
  mace-gaunt data download data=3bpa
  mace-gaunt data download data=3bpa root=data/3bpa

keys (and defaults):
{keys}"""


def help_text() -> str:
    """What `mace-gaunt data download --help` prints."""
    return HELP.format(keys=describe(KEYS))


def run(argv: list[str]) -> int:
    """Fetch a data set and say what arrived.

    Args:
        argv: The words after the subverb.

    Returns:
        0.

    Raises:
        UserError: If a key is wrong or the set cannot be fetched.
    """
    values = read_pairs(read_words(argv, COMMAND), KEYS, COMMAND)
    if "data" not in values:
        raise UserError("which data set? Give data=3bpa or data=acac.")
    from mace_gaunt.cli.quiet import quiet
    from mace_gaunt.data.download import download, place_of

    quiet()
    download(values["data"], values.get("root"), values.get("address"))
    print(f"data set in {place_of(values['data'], values.get('root'))}")
    return 0
