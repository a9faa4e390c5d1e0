"""What all verbs but `train` share: keys without a default, and the flags that stop early."""

from collections.abc import Callable

from omegaconf import DictConfig, OmegaConf

from mace_gaunt.cli.arguments import Arguments, parse_arguments
from mace_gaunt.cli.compose import Composed, complete_text, compose
from mace_gaunt.cli.help_keys import describe_keys
from mace_gaunt.cli.request import read_request
from mace_gaunt.errors import UserError


def run_plain(verb: str, argv: list[str], work: Callable[[Composed, bool], object]) -> int:
    """Compose the configuration of a verb and do its work, unless a flag asks for something to print.

    Args:
        verb: The verb.
        argv: The words after it.
        work: What it does with its configuration, and whether it only validates.

    Returns:
        Exit status.

    Raises:
        UserError: For anything the user can mend.
    """
    arguments = parse_arguments(argv)
    refuse_sweep(verb, arguments)
    composed = compose(read_request(verb, arguments))
    if not finish_early(composed, arguments):
        work(composed, "--validate-only" in arguments.flags)
    return 0


def require(config: DictConfig, key: str, what: str) -> None:
    """Refuse a configuration that lacks a key without default.

    Args:
        config: The checked configuration.
        key: The key.
        what: What the user should write for it.

    Raises:
        UserError: If it is missing.
    """
    if OmegaConf.is_missing(config, key) or config[key] is None:
        raise UserError(f"{key} is missing: give {key}={what}.")


def refuse_sweep(verb: str, arguments: Arguments) -> None:
    """Only trainings are swept.

    Args:
        verb: The verb.
        arguments: Its command line.

    Raises:
        UserError: If a sweep is asked for.
    """
    if "--multirun" in arguments.flags:
        raise UserError(f"'{verb}' has no --multirun: only 'train' has. Call it once for each value.")


def finish_early(composed: Composed, arguments: Arguments) -> bool:
    """Answer the flags that only print.

    Args:
        composed: The checked configuration.
        arguments: The command line.

    Returns:
        Whether that was all.
    """
    if "--help-keys" in arguments.flags:
        print(describe_keys(composed))
    elif "--print-config" in arguments.flags:
        print(complete_text(composed.config, composed.request.known), end="")
    else:
        return False
    return True
