"""What `md`, `relax` and `phonons` share: a calculator made from a configuration, compiled where that pays."""

import sys
import time
from typing import TYPE_CHECKING, Any

from mace_gaunt.errors import UserError

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from mace_gaunt.simulation.calculator import MaceGauntCalculator
    from mace_gaunt.simulation.md_checkpoint import Checkpoint

# Compiling takes up to a minute and saves a third of a step or more: `auto` compiles runs longer than this (s).
LONG_RUN = 180.0


def open_calculator(config: "DictConfig", **further: Any) -> "MaceGauntCalculator":
    """The calculator that the keys model, head, device, dtype, kernel and, where there is one, skin describe.

    Args:
        config: The checked configuration.
        further: Other arguments of the calculator.

    Returns:
        The calculator.

    Raises:
        UserError: If a model cannot be loaded.
    """
    from omegaconf import OmegaConf

    from mace_gaunt.cli.machine import use_machine_well
    from mace_gaunt.cli.quiet import quiet
    from mace_gaunt.simulation.calculator import MaceGauntCalculator

    quiet()
    use_machine_well()
    plain: dict[str, Any] = OmegaConf.to_container(config)  # type: ignore[assignment]
    names = ("model", "head", "device", "dtype", "kernel", "skin")
    return MaceGauntCalculator(**{name: plain[name] for name in names if name in plain}, **further)


def compile_if_it_pays(
    config: "DictConfig",
    calculator: "MaceGauntCalculator",
    atoms: Any,
    calculations: int,
    earlier: "Checkpoint | None" = None,
) -> None:
    """Compile energies and forces for a long run, or where it is asked for, and say so; never beside a package.

    Args:
        config: The checked configuration.
        calculator: With its kernels chosen.
        atoms: The first structure.
        calculations: How many there will be.
        earlier: The run that is continued: `auto` does as it did where it can, since compiled code rounds otherwise.

    Raises:
        UserError: If compiling was asked for and fails, or there is a package.
    """
    from mace_gaunt.training.compilation import check_choice

    choice = check_choice(config.compile)
    if config.get("package") is not None:
        if choice == "on":
            raise UserError("package holds energies and forces that are compiled already: give it without compile=on.")
        return
    if choice == "off" or (choice == "auto" and not pays(calculator, atoms, calculations, earlier)):
        return
    print("compiling energies and forces, up to a minute", flush=True)
    try:
        calculator.prepare_for(atoms, compile=True)
    except UserError as error:
        if choice == "on":
            raise
        print(f"warning: compile=auto: not compiled: {error.__cause__ or error}", file=sys.stderr)


def pays(calculator: "MaceGauntCalculator", atoms: Any, calculations: int, earlier: "Checkpoint | None" = None) -> bool:
    """Whether `auto` tries to compile: see `compile_if_it_pays`."""
    from mace_gaunt.training.compilation import missing_compiler

    if earlier is not None:
        return bool(earlier.info["numerics"]["compiled"])
    return not missing_compiler() and is_long(calculator, atoms, calculations)


def is_long(calculator: "MaceGauntCalculator", atoms: Any, calculations: int) -> bool:
    """Whether the calculations would take long without compiling; a structure that cannot be computed is told later.

    Args:
        calculator: With its kernels chosen.
        atoms: The structure.
        calculations: How many there will be.
    """
    try:
        calculator.evaluate([atoms])
        begin = time.perf_counter()
        calculator.evaluate([atoms])
    except UserError:
        return False
    return bool((time.perf_counter() - begin) * calculations > LONG_RUN)
