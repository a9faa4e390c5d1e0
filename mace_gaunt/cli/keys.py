"""Every key of a composed configuration against what its `_target_` takes: a wrong one names the nearest right one."""

import difflib
import inspect
from collections.abc import Callable, Iterator
from typing import Any

from omegaconf import DictConfig, OmegaConf

from mace_gaunt.cli.aliases import Known, legal_aliases
from mace_gaunt.cli.signatures import list_arguments, misfit
from mace_gaunt.errors import UserError

# Hydra's own words beside the arguments of a target.
HYDRA_WORDS = {"_target_", "_partial_", "_args_", "_convert_", "_recursive_"}
MISSING = "???"
Where = Callable[[str], str]
SIMPLE = (type(None), bool, int, float, str)


def check_keys(config: DictConfig, known: Known, where: Where = lambda key: "") -> None:
    """Refuse keys that nothing reads and values of the wrong type.

    Args:
        config: The composed configuration.
        known: What the verb has at its top level.
        where: Key -> where the user wrote it, for the message.

    Raises:
        UserError: At the first wrong key; names the nearest right one.
    """
    plain = to_plain(config)
    for key in plain:
        if str(key) not in known.keys | known.groups:
            raise UserError(_no_key(str(key), plain, known, where))
    for group in sorted(known.groups & set(plain)):
        _check_node(plain[group], group, plain, known, where)


def fill_defaults(config: DictConfig, prefix: str = "mace_gaunt.") -> None:
    """Write out the defaults of our own targets, in place, so that the configuration says everything.

    Args:
        config: The composed configuration.
        prefix: Only targets below this name are filled.
    """
    for node in _nodes(config):
        target = str(node.get("_target_"))
        for name, parameter in (list_arguments(target) or {}).items() if target.startswith(prefix) else ():
            if name not in node and _is_plain(parameter.default):
                node[name] = list(parameter.default) if isinstance(parameter.default, tuple) else parameter.default


def to_plain(config: Any) -> Any:
    """The configuration as dicts and lists, references resolved, `???` kept.

    Args:
        config: The composed configuration.

    Raises:
        UserError: If a `${reference}` leads nowhere.
    """
    from omegaconf.errors import OmegaConfBaseException

    try:
        return OmegaConf.to_container(config, resolve=True)
    except OmegaConfBaseException as error:
        raise UserError(f"a reference in the configuration leads nowhere: {str(error).splitlines()[0]}") from error


def legal_keys(plain: dict[str, Any], known: Known) -> dict[str, inspect.Parameter | None]:
    """Every legal dotted key of a composed configuration.

    Args:
        plain: The configuration as dicts and lists.
        known: What the verb has at its top level.

    Returns:
        Dotted key -> parameter of its target (None at the top level).
    """
    keys: dict[str, inspect.Parameter | None] = dict.fromkeys([*sorted(known.keys), *sorted(known.groups)])
    for path, node in _targets(plain, ""):
        keys.setdefault(path, None)
        for name, parameter in _settable(node).items():
            keys[f"{path}.{name}"] = parameter
    return keys


def nearest_key(key: str, plain: dict[str, Any], known: Known) -> str:
    """A hint that names the nearest legal key: a sibling first, then the same name elsewhere, then similar ones.

    Args:
        key: The dotted key that does not exist.
        plain: The configuration as dicts and lists.
        known: What the verb has at its top level.
    """
    parent, _, leaf = key.rpartition(".")
    legal = legal_keys(plain, known)
    for name, target in legal_aliases(known).items():
        # An alias of a key that the chosen part lacks would lead nowhere; one of a part that is off yet to choose may.
        if target.split(",")[0] in legal or not plain.get(target.partition(".")[0]):
            legal[name] = None
    siblings = {name.rpartition(".")[2]: name for name in legal if name.rpartition(".")[0] == parent}
    by_leaf: dict[str, str] = {}
    for name in legal:
        by_leaf.setdefault(name.rpartition(".")[2], name)
    for name, dotted in siblings.items():
        if name.lower() == leaf.lower():
            return f" Did you mean '{dotted}'?"
    for table, word, cutoff in (
        (siblings, leaf, 0.75),
        (by_leaf, leaf, 0.8),
        (siblings, leaf, 0.5),
        ({name: name for name in legal}, key, 0.6),
    ):
        close = difflib.get_close_matches(word, table, n=1, cutoff=cutoff)
        if close:
            return f" Did you mean '{table[close[0]]}'?"
    if parent and siblings:
        return f" Known: {', '.join(sorted(siblings))}."
    return f" Known at the top level: {', '.join(sorted(known.keys | known.groups))}; --help-keys lists all."


def _check_node(node: Any, path: str, plain: dict[str, Any], known: Known, where: Where) -> None:
    """Check one node and the nodes below it."""
    if not isinstance(node, dict):
        return
    if "_target_" not in node:
        for name, child in node.items():
            _check_entry(child, f"{path}.{name}", plain, known, where)
        return
    arguments = list_arguments(node["_target_"])
    settable = _settable(node)
    for name, value in node.items():
        if name in HYDRA_WORDS:
            continue
        if arguments is not None and name not in settable:
            raise UserError(_no_key(f"{path}.{name}", plain, known, where, filled=name in arguments))
        if isinstance(value, dict) and "_target_" in value:
            _check_node(value, f"{path}.{name}", plain, known, where)
        elif name in settable:
            _check_value(f"{path}.{name}", value, settable[name])


def _check_entry(child: Any, path: str, plain: dict[str, Any], known: Known, where: Where) -> None:
    """One entry of a group without a target of its own, such as a callback."""
    if child is None or (isinstance(child, dict) and "_target_" in child):
        _check_node(child, path, plain, known, where)
        return
    group = path.split(".")[0]
    siblings = [entry for entry in (plain.get(group) or {}).values() if isinstance(entry, dict) and "_target_" in entry]
    if not siblings and path.count(".") == 1:
        raise UserError(f"'{path}'{where(path)} has no effect: {group} is off. Choose one first, as in {group}=NAME.")
    raise UserError(_no_key(path, plain, known, where))


def _check_value(path: str, value: Any, parameter: inspect.Parameter) -> None:
    # Null is left to the target: many libraries annotate less than they accept.
    if value is None or value == MISSING or value == parameter.default:
        return
    why = misfit(value, parameter.annotation)
    if why:
        raise UserError(f"{path}={value!r} is not possible: {why}")


def _no_key(key: str, plain: dict[str, Any], known: Known, where: Where, filled: bool = False) -> str:
    if filled:
        return f"'{key}'{where(key)} is filled by the program and cannot be set."
    return f"no key '{key}'{where(key)}.{nearest_key(key, plain, known)}"


def _settable(node: dict[str, Any]) -> dict[str, inspect.Parameter]:
    """The arguments that a configuration may give. What a partial requires is filled by whoever calls it."""
    arguments = list_arguments(node["_target_"]) or {}
    if not node.get("_partial_"):
        return arguments
    return {name: item for name, item in arguments.items() if item.default is not inspect.Parameter.empty}


def _targets(node: Any, path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """(dotted path, node) of every node with a target."""
    if isinstance(node, dict):
        if "_target_" in node:
            yield path, node
        for name, child in node.items():
            yield from _targets(child, f"{path}.{name}" if path else str(name))


def _nodes(node: Any) -> Iterator[DictConfig]:
    if isinstance(node, DictConfig) and not node._is_none():
        if "_target_" in node:
            yield node
        for name in list(node):
            if not OmegaConf.is_missing(node, name):
                yield from _nodes(node[name])


def _is_plain(default: Any) -> bool:
    if isinstance(default, (tuple, list)):
        return all(isinstance(entry, SIMPLE) for entry in default)
    return default is not inspect.Parameter.empty and isinstance(default, SIMPLE)
