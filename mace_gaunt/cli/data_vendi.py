"""`mace-gaunt data vendi`: how many distinct frames a set has."""

import json
from pathlib import Path

from mace_gaunt.benchmark.keys import Key, choice, describe, integer, positive, read_pairs, split, word
from mace_gaunt.cli.data_keys import DESCRIBING, PATH, descriptor, read_words, tell_bad
from mace_gaunt.errors import UserError

COMMAND = "data vendi"
KEYS = {
    "path": PATH,
    "q": Key(split, "orders of the score, 0 or more (0.1,1,2,inf)"),
    "kernel": Key(choice("gaussian", "cosine"), "when frames are alike (gaussian)"),
    "bandwidth": Key(positive, "of the gaussian kernel, in median distances of two frames (0.3333)"),
    "max_frames": Key(integer(least=1), "use at most so many frames, drawn at random (all)"),
    "json": Key(word, "file to write the scores to"),
    **DESCRIBING,
}

HELP = """\
usage: mace-gaunt data vendi path=FILE_OR_FOLDER[,...] [key=value ...]

The Vendi score of a set is its effective number of distinct frames: 1 when all are alike, n when n frames have nothing
in common. Of several files each is told, and all together, on one scale. A gaussian kernel takes at most 5000 frames,
kernel=cosine any number.

examples:
  mace-gaunt data vendi path=train.xyz
  mace-gaunt data vendi path=train_300K.xyz,train_mixedT.xyz q=1,2
  mace-gaunt data vendi path=train.xyz model=runs/first max_frames=2000

keys (and defaults):
{keys}"""


def help_text() -> str:
    """What `mace-gaunt data vendi --help` prints."""
    return HELP.format(keys=describe(KEYS))


def run(argv: list[str]) -> int:
    """Measure.

    Args:
        argv: The words after the subverb.

    Returns:
        Exit status: 1 when records were left out.

    Raises:
        UserError: For anything the user can mend.
    """
    values = read_pairs(read_words(argv, COMMAND), KEYS, COMMAND)
    if "path" not in values:
        raise UserError("which frames? Give path=FILE_OR_FOLDER.")
    from mace_gaunt.cli.quiet import quiet
    from mace_gaunt.data.described import describe_records
    from mace_gaunt.data.diversity import BANDWIDTH, Similarity, describe_orders, parse_orders
    from mace_gaunt.data.label_table import format_rows
    from mace_gaunt.data.records import open_records
    from mace_gaunt.files import write_whole

    quiet()
    orders = parse_orders(values.get("q", ["0.1", "1", "2", "inf"]))
    describe_frame = descriptor(values)
    files = open_records(values["path"])
    frames = describe_records(
        files, describe_frame, values.get("max_frames"), values.get("seed", 0), values.get("on_bad_frame", "stop")
    )
    kernel = values.get("kernel", "gaussian")
    similarity = Similarity.of(frames.features, kernel, values.get("bandwidth", BANDWIDTH))
    sets = {file.name: frames.of_file(number) for number, file in enumerate(files)} if len(files) > 1 else {}
    sets["all" if sets else files[0].name] = frames.features
    sets = {name: part for name, part in sets.items() if len(part)}
    scores = {name: describe_orders(similarity.eigenvalues(part), orders) for name, part in sets.items()}
    rows = [(name, str(len(part)), *(f"{score:.2f}" for score in scores[name].values())) for name, part in sets.items()]
    print(format_rows(("set", "frames", *(f"q={order:g}" for order in orders)), rows))
    print(f"\neffectively distinct frames (Vendi score): {kernel} kernel of {describe_frame.name}")
    if len(frames) < frames.seen:
        print(f"{len(frames)} of {frames.seen} records, drawn at random")
    if "json" in values:
        settings = {"kernel": kernel, "descriptor": describe_frame.name, "records": frames.seen}
        told = {name: {"frames": len(part), "scores": scores[name]} for name, part in sets.items()}
        write_whole(Path(values["json"]).expanduser(), json.dumps({**settings, "sets": told}, indent=1) + "\n")
    return tell_bad(frames.bad)
