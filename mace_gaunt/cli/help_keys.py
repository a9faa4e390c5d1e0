"""`--help-keys`: every legal key with its default, every choice, every alias."""

import inspect

from mace_gaunt.cli.aliases import legal_aliases
from mace_gaunt.cli.choices import list_choices
from mace_gaunt.cli.compose import Composed
from mace_gaunt.cli.keys import legal_keys, to_plain


def describe_keys(composed: Composed) -> str:
    """Every key of a configuration.

    Args:
        composed: The configuration; its choices decide which keys there are.

    Returns:
        Lines.
    """
    request = composed.request
    plain = to_plain(composed.config)
    lines = ["Groups and their choices:"]
    for group in sorted(request.known.groups):
        lines.append(f"  {group}={' | '.join(list_choices(group, request.folders))}")
    lines.append("\nKeys, with their values here or the defaults of what they configure:")
    for key, parameter in legal_keys(plain, request.known).items():
        if key not in request.known.groups:
            lines.append(f"  {key}={value_text(key, plain, parameter)}")
    lines.append("\nOther names for them, at the top level:")
    lines += [f"  {name} -> {key}" for name, key in legal_aliases(request.known).items()]
    return "\n".join(lines)


def value_text(key: str, plain: dict[str, object], parameter: inspect.Parameter | None) -> object:
    """A key's value as the command line writes it.

    Args:
        key: Dotted key.
        plain: The configuration as dicts and lists.
        parameter: What it fills, whose default stands where the configuration says nothing.
    """
    node: object = plain
    for name in key.split("."):
        if not isinstance(node, dict) or name not in node:
            node = parameter.default if parameter is not None else None
            return "???" if node is inspect.Parameter.empty else "null" if node is None else node
        node = node[name]
    return "null" if node is None else str(node).lower() if isinstance(node, bool) else node
