"""The text behind `--help` and `--help-keys`."""

from mace_gaunt.cli.arguments import FLAGS, OPTIONS
from mace_gaunt.cli.choices import config_dir, list_choices, list_groups


def keys_of(name: str) -> str:
    """The plain keys of a verb with their defaults and comments, as its yaml file has them.

    Args:
        name: Name of the primary config.
    """
    lines = (config_dir() / f"{name}.yaml").read_text().splitlines()
    kept = [line for line in lines if line and not line.startswith(("#", "defaults:", "  - ", "data: {"))]
    return "\n".join(f"  {line}" for line in kept)


def choices_table(groups: list[str] | None = None) -> str:
    """One line per group with its choices.

    Args:
        groups: The groups to list; all by default.
    """
    folder = config_dir()
    names = groups or sorted(list_groups([folder]))
    return "\n".join(f"  {name:15} {' | '.join(list_choices(name, [folder]))}" for name in names)


def flags_table(names: list[str]) -> str:
    """One line per flag.

    Args:
        names: Flags in their long form.
    """
    table = {**FLAGS, **OPTIONS}
    return "\n".join(f"  {name + (' DIR' if name in OPTIONS else ''):18} {table[name]}" for name in names)
