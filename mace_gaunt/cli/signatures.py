"""What a `_target_` can be given: its arguments, their defaults, and whether a value fits."""

import collections.abc
import functools
import inspect
import types
import typing
from pathlib import Path
from typing import Any, Literal, Union

from mace_gaunt.errors import UserError, nearest

# What a plain yaml value can be for each annotation; anything else is left to the target itself.
_ACCEPTED: dict[Any, tuple[type, ...]] = {
    bool: (bool,),
    int: (int,),
    float: (int, float),
    str: (str,),
    Path: (str,),
    list: (list,),
    tuple: (list,),
    dict: (dict,),
    collections.abc.Sequence: (list,),
    collections.abc.Iterable: (list,),
    collections.abc.Mapping: (dict,),
    type(None): (type(None),),
}


@functools.cache
def find_target(target: str) -> Any:
    """The class or function that a `_target_` names.

    Args:
        target: Dotted path.

    Returns:
        The object.

    Raises:
        UserError: If there is no such thing, or a library it needs is not installed.
    """
    from hydra.errors import InstantiationException
    from hydra.utils import get_object

    try:
        return get_object(target)
    except ModuleNotFoundError as error:
        raise UserError(f"_target_ {target} needs the package '{error.name}', which is not installed.") from error
    except (ImportError, AttributeError, InstantiationException, ValueError) as error:
        raise UserError(f"_target_ {target} cannot be imported: {error}") from error


@functools.cache
def list_arguments(target: str) -> dict[str, inspect.Parameter] | None:
    """The arguments of a `_target_`, those that `**kwargs` hands to base classes included.

    Args:
        target: Dotted path of a class or function.

    Returns:
        Name -> parameter with resolved annotation, or None when any keyword is taken.

    Raises:
        UserError: If the target cannot be imported.
    """
    found = find_target(target)
    functions = _constructors(found) if inspect.isclass(found) else [found]
    arguments: dict[str, inspect.Parameter] = {}
    for function in functions:
        parameters = _parameters(function)
        arguments = {**_named(parameters), **arguments}
        if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
            return arguments
    return None


def misfit(value: Any, annotation: Any) -> str | None:
    """Why a plain value does not fit an annotation.

    Args:
        value: Number, string, bool, None, list or dict.
        annotation: Type hint of the argument.

    Returns:
        What was expected, or None when the value fits or nothing can be said.
    """
    options = _options(annotation)
    if options is None or any(_fits(value, option) for option in options):
        return None
    literals = [choice for option in options for choice in typing.get_args(option) if _is_literal(option)]
    hint = nearest(value, literals) if literals and isinstance(value, str) else ""
    names = dict.fromkeys(_name(option) for option in options)
    return f"expected {' or '.join(names)}.{hint if 'Did you mean' in hint else ''}"


def _constructors(cls: type) -> list[Any]:
    """Every `__init__` on the way up, nearest first."""
    return [vars(base)["__init__"] for base in cls.__mro__ if "__init__" in vars(base) and base is not object]


def _parameters(function: Any) -> list[inspect.Parameter]:
    """The parameters, `self` left out, annotations resolved where that is possible."""
    unwrapped = inspect.unwrap(function)
    try:
        hints = typing.get_type_hints(unwrapped)
    except (NameError, TypeError, AttributeError):
        hints = {}
    parameters = list(inspect.signature(function).parameters.values())
    return [parameter.replace(annotation=hints.get(parameter.name, Any)) for parameter in parameters]


def _named(parameters: list[inspect.Parameter]) -> dict[str, inspect.Parameter]:
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return {item.name: item for item in parameters if item.kind in kinds and item.name != "self"}


def _options(annotation: Any) -> list[Any] | None:
    """The members of a union, or None when one of them cannot be judged."""
    if typing.get_origin(annotation) in (Union, types.UnionType):
        parts = [_options(part) for part in typing.get_args(annotation)]
        return None if None in parts else [option for part in parts if part for option in part]
    if _is_literal(annotation) or typing.get_origin(annotation) in _ACCEPTED or annotation in _ACCEPTED:
        return [annotation]
    # A class of some library cannot be written in yaml: the value is for the other members of the union.
    return [] if inspect.isclass(annotation) and annotation not in (object, Any) else None


def _fits(value: Any, option: Any) -> bool:
    if _is_literal(option):
        return value in typing.get_args(option)
    accepted = _ACCEPTED[typing.get_origin(option) or option]
    return isinstance(value, accepted) and (not isinstance(value, bool) or bool in accepted)


def _is_literal(annotation: Any) -> bool:
    return typing.get_origin(annotation) is Literal


def _name(option: Any) -> str:
    if _is_literal(option):
        return " or ".join(repr(choice) for choice in typing.get_args(option))
    if option is type(None):
        return "null"
    names = {
        list: "a list",
        tuple: "a list",
        dict: "a mapping",
        bool: "true or false",
        int: "an integer",
        float: "a number",
    }
    return names.get(typing.get_origin(option) or option, "text" if option in (str, Path) else "a list")
