"""`mace-gaunt data select`: a diverse subset of n frames."""

from mace_gaunt.benchmark.keys import Key, choice, describe, flag, integer, read_pairs, word
from mace_gaunt.cli.data_keys import DESCRIBING, PATH, descriptor, read_words, tell_bad
from mace_gaunt.errors import UserError

COMMAND = "data select"
KEYS = {
    "path": PATH,
    "out": Key(word, "extxyz file to write (needed); where its frames come from is written beside, as .json"),
    "n": Key(integer(least=1), "number of frames (needed)"),
    "method": Key(choice("farthest", "random"), "farthest: each frame farthest from those chosen; random (farthest)"),
    "max_frames": Key(integer(least=1), "choose from so many frames, drawn at random; 2.4 kB of memory each (all)"),
    "overwrite": Key(flag, "whether out may be replaced (false)"),
    **DESCRIBING,
}

HELP = """\
usage: mace-gaunt data select path=FILE_OR_FOLDER[,...] out=FILE.extxyz n=100 [seed=0] [key=value ...]

Chooses frames that are far from each other: the first at random, then always the one farthest from all chosen before,
so that the first m frames of the result are a diverse subset of m. Prints how many distinct frames (Vendi scores) all
frames, the chosen ones and random ones have. All labels are kept.

examples:
  mace-gaunt data select path=train.xyz n=200 out=diverse.extxyz
  mace-gaunt data select path=s2ef_train_200K n=5000 max_frames=100000 seed=1 out=diverse.extxyz
  mace-gaunt data select path=pool.xyz n=50 model=runs/first out=next.extxyz

keys (and defaults):
{keys}"""


def help_text() -> str:
    """What `mace-gaunt data select --help` prints."""
    return HELP.format(keys=describe(KEYS))


def run(argv: list[str]) -> int:
    """Choose and write.

    Args:
        argv: The words after the subverb.

    Returns:
        Exit status: 1 when records were left out.

    Raises:
        UserError: For anything the user can mend; then nothing is written.
    """
    values = read_pairs(read_words(argv, COMMAND), KEYS, COMMAND)
    for key, what in (("path", "FILE_OR_FOLDER"), ("out", "FILE.extxyz"), ("n", "NUMBER")):
        if key not in values:
            raise UserError(f"{key} is missing: give {key}={what}. See: mace-gaunt {COMMAND} --help")
    from mace_gaunt.cli.quiet import quiet
    from mace_gaunt.data.described import describe_records
    from mace_gaunt.data.diversity import Similarity
    from mace_gaunt.data.records import open_records
    from mace_gaunt.data.selection import choose, compare_choice
    from mace_gaunt.data.subset import check_out, record_file, write_subset

    quiet()
    out = check_out(values["out"], values.get("overwrite", False))
    seed, method = values.get("seed", 0), values.get("method", "farthest")
    describe_frame = descriptor(values)
    files = open_records(values["path"])
    frames = describe_records(files, describe_frame, values.get("max_frames"), seed, values.get("on_bad_frame", "stop"))
    similarity = Similarity.of(frames.features)
    chosen = choose(similarity.scale(frames.features), values["n"], method, seed)
    scores = compare_choice(similarity, frames.features, chosen, seed)
    settings = {"n": len(chosen), "of": len(frames), "records": frames.seen, "seed": seed, "method": method}
    record = {**settings, "descriptor": describe_frame.name, "vendi": scores}
    write_subset(out, files, [frames.origins[i] for i in chosen], record)
    print(f"{len(chosen)} of {len(frames)} frames in {out}, where they come from in {record_file(out)}")
    told = ", ".join(f"{name} {score:.1f}" for name, score in scores.items())
    print(f"effectively distinct frames (Vendi score, q=1): {told}")
    return tell_bad(frames.bad)
