"""`mace-gaunt compare`: several trainings under one budget, and what each reaches at what cost."""

from typing import TYPE_CHECKING, Any

from mace_gaunt.cli.arguments import Arguments, parse_arguments
from mace_gaunt.cli.help import flags_table, keys_of
from mace_gaunt.errors import UserError, nearest

if TYPE_CHECKING:
    from mace_gaunt.cli.compare_plan import Comparison

HELP = """\
usage: mace-gaunt compare [file.yaml] KEY=VALUE,VALUE,... [budget=TIME | epochs=NUMBER] [run=NAME] [key=value ...]

Trains every combination of the values (a member), at equal time or at equal epochs, and evaluates each on all splits;
then times training steps, energies and forces and molecular dynamics of all in turns. Writes frontier.csv (a row for
each member), summary.csv and summary.md (mean and spread over seeds), frontier.json and plots into runs/<run>/.
The same command again goes on: finished members are not trained again, interrupted ones are continued.

examples:
  mace-gaunt compare data=3bpa_xtb tensor_product=gaunt,clebsch_gordan budget=10min run=families
  mace-gaunt compare experiment=3bpa_small tensor_product=gaunt,matrix seed=0,1,2 budget=30min parallel=2 run=three
  mace-gaunt compare experiment=3bpa_small model.num_channels=32,64 max_L=0,1 epochs=200 run=sizes

keys (all others are those of `mace-gaunt train`):
{keys}

flags:
{flags}"""

SPEEDS = ("auto", "eager", "compiled", "none")
FLAGS = ("--print-config", "--validate-only", "--help-keys")


def help_text() -> str:
    """What `mace-gaunt compare --help` prints."""
    return HELP.format(keys=keys_of("compare"), flags=flags_table([*FLAGS, "--config-dir"]))


def run(argv: list[str]) -> int:
    """Run the verb.

    Args:
        argv: The words after the verb.

    Returns:
        Exit status: 1 when a member failed.

    Raises:
        UserError: If a key or a combination is wrong, the data cannot be read, or members there were trained with other
            settings; nothing is trained then.
    """
    settings, arguments = split_keys(parse_arguments(argv))
    from mace_gaunt.cli.compare_plan import plan_comparison
    from mace_gaunt.cli.quiet import quiet

    quiet()
    comparison = plan_comparison(settings, arguments)
    if "--help-keys" in arguments.flags:
        from mace_gaunt.cli.help_keys import describe_keys

        print(f"Keys of the comparison itself:\n{keys_of('compare')}\n\n{describe_keys(comparison.first)}")
        return 0
    if "--print-config" in arguments.flags:
        print(describe(comparison))
        return 0
    from mace_gaunt.cli.compare_run import check_first, run_comparison

    if comparison.peers:
        from mace_gaunt.cli.compare_peer import check_peer

        check_peer(comparison)
    if "--validate-only" in arguments.flags:
        check_first(comparison)
        print(describe(comparison))
        return 0
    return run_comparison(comparison, ["compare", *argv])


def describe(comparison: "Comparison") -> str:
    """The plan in words: what is equal, and the members with what they differ in."""
    lines = [f"comparison    {comparison.folder}", f"compared at   {comparison.budget.title}"]
    lines += [f"member        {member.name}" for member in comparison.members]
    return "\n".join(lines)


def split_keys(arguments: Arguments) -> tuple[dict[str, Any], Arguments]:
    """The keys of the comparison itself, and the command line of its trainings.

    Args:
        arguments: The sorted command line.

    Returns:
        Keys of configs/compare.yaml, complete and checked; the rest.

    Raises:
        UserError: If a key does not exist, or a value is of the wrong kind.
    """
    from dataclasses import replace

    from mace_gaunt.cli.aliases import legal_aliases
    from mace_gaunt.cli.choices import config_dir
    from mace_gaunt.cli.request import load_yaml, read_known, read_value

    wrong = sorted(arguments.flags - set(FLAGS))
    if wrong:
        why = "keys with several values are swept without it" if wrong[0] == "--multirun" else "see compare --help"
        raise UserError(f"'compare' has no {wrong[0]}: {why}.")
    defaults = load_yaml(config_dir() / "compare.yaml")
    known = read_known("train", config_dir())
    legal = {*defaults, *known.keys, *known.groups, *legal_aliases(known)}
    for key, _ in arguments.pairs:
        if key not in legal and "." not in key and "/" not in key:
            raise UserError(f"no key '{key}'.{nearest(key, legal)}")
        if key == "resume":
            raise UserError("a comparison always goes on: leave resume out, or choose another run.")
    settings = defaults | {key: read_value(key, text, known) for key, text in arguments.pairs if key in defaults}
    check_values(settings)
    return settings, replace(arguments, pairs=[pair for pair in arguments.pairs if pair[0] not in defaults])


def check_values(settings: dict[str, Any]) -> None:
    """Refuse values of the wrong kind.

    Args:
        settings: Keys of configs/compare.yaml.

    Raises:
        UserError: At the first one.
    """
    for key in ("peer", "overwrite"):
        if not isinstance(settings[key], bool):
            raise UserError(f"{key} is true or false, not {settings[key]}.")
    if settings["speed"] not in SPEEDS:
        raise UserError(f"speed={settings['speed']} is not possible.{nearest(str(settings['speed']), SPEEDS)}")
    for key, what in (("speed_seconds", "time in seconds"), ("peer_lr", "learning rate")):
        value = settings[key]
        if value is None and key == "peer_lr":
            continue
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not value > 0:
            raise UserError(f"{key} is a positive {what}, not {value}.")
