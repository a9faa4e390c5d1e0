"""`mace-gaunt md`: molecular dynamics with a trained model."""

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mace_gaunt.cli.arguments import parse_arguments
from mace_gaunt.cli.help import flags_table, keys_of
from mace_gaunt.errors import UserError

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from mace_gaunt.simulation.calculator import MaceGauntCalculator

HELP = """\
usage: mace-gaunt md model=FOLDER structure=FILE out=DIR [file.yaml] [key=value ...] [flags]

Molecular dynamics through ASE: trajectory.extxyz, md.csv and health.json in out.

examples:
  mace-gaunt md model=runs/first structure=molecule.xyz out=md
  mace-gaunt md model=runs/first structure=train.xyz index=0 ensemble=langevin temperature_K=600 steps=10000 out=hot

keys:
{keys}

flags:
{flags}"""

# Keys that find the structure and make the calculator; all others are arguments of `run_md`.
BEFORE = ("model", "structure", "index", "out", "device", "dtype", "kernel", "skin", "compile", "package")

# Compiling takes up to a minute and saves a third of a step or more: `auto` compiles runs longer than this (s).
LONG_RUN = 180.0


def help_text() -> str:
    """What `mace-gaunt md --help` prints."""
    return HELP.format(keys=keys_of("md"), flags=flags_table(["--print-config", "--validate-only", "--help-keys"]))


def run(argv: list[str]) -> int:
    """Run the verb.

    Args:
        argv: The words after the verb.

    Returns:
        Exit status.

    Raises:
        UserError: For anything the user can mend; what is found before the first step leaves nothing behind.
    """
    arguments = parse_arguments(argv)
    from mace_gaunt.cli.compose import compose
    from mace_gaunt.cli.plain_verb import finish_early, refuse_sweep
    from mace_gaunt.cli.request import read_request

    refuse_sweep("md", arguments)
    composed = compose(read_request("md", arguments))
    if not finish_early(composed, arguments):
        simulate(composed.config, "--validate-only" in arguments.flags)
    return 0


def simulate(config: "DictConfig", validate_only: bool = False) -> dict[str, Any]:
    """Run a simulation.

    Args:
        config: The checked configuration.
        validate_only: Whether to stop after the energy of the structure.

    Returns:
        The content of health.json; empty when only validated.

    Raises:
        UserError: If something is not as it must be, or the simulation became unphysical.
    """
    from mace_gaunt.cli.plain_verb import require

    require(config, "model", "FOLDER, what a training wrote, such as runs/first")
    require(config, "structure", "FILE with the atoms to start from")
    require(config, "out", "DIR for the trajectory")
    from mace_gaunt.cli.machine import use_machine_well
    from mace_gaunt.cli.quiet import quiet
    from mace_gaunt.simulation.calculator import MaceGauntCalculator
    from mace_gaunt.simulation.molecular_dynamics import run_md
    from mace_gaunt.simulation.structures import read_structure

    quiet()
    use_machine_well()
    atoms = read_structure(config.structure, config.index)
    calculator = MaceGauntCalculator(
        config.model,
        device=config.device,
        dtype=config.dtype,
        kernel=config.kernel,
        skin=config.skin,
        package=config.package,
    )
    if validate_only:
        energy = calculator.evaluate([atoms])[0]["energy"]
        print(f"valid: {atoms.get_chemical_formula()} has {energy:.6f} eV; nothing was written")
        return {}
    settings = {str(key): value for key, value in config.items() if key not in BEFORE}
    calculator.prepare_for(atoms)
    for name, choice in calculator.kernels.items():
        print(f"{name}  kernel {choice}")
    compile_if_it_pays(config, calculator, atoms)
    health: dict[str, Any] = run_md(calculator, atoms, config.out, **settings)
    _tell(health, Path(config.out))
    return health


def compile_if_it_pays(config: "DictConfig", calculator: "MaceGauntCalculator", atoms: Any) -> None:
    """Compile energies and forces for a long simulation, or where it is asked for, and say so; never beside a package.

    Args:
        config: The checked configuration.
        calculator: With its kernels chosen.
        atoms: The first structure.

    Raises:
        UserError: If compiling was asked for and fails, or there is a package.
    """
    from mace_gaunt.training.compilation import check_choice, missing_compiler

    choice = check_choice(config.compile)
    if config.package is not None:
        if choice == "on":
            raise UserError("package holds energies and forces that are compiled already: give it without compile=on.")
        return
    if choice == "off" or (choice == "auto" and (missing_compiler() or not is_long(config, calculator, atoms))):
        return
    print("compiling energies and forces, up to a minute", flush=True)
    try:
        calculator.prepare_for(atoms, compile=True)
    except UserError as error:
        if choice == "on":
            raise
        print(f"warning: compile=auto: not compiled: {error}", file=sys.stderr)


def is_long(config: "DictConfig", calculator: "MaceGauntCalculator", atoms: Any) -> bool:
    """Whether the steps would take long enough without compiling; a structure that cannot be computed is told later."""
    try:
        calculator.evaluate([atoms])
        begin = time.perf_counter()
        calculator.evaluate([atoms])
    except UserError:
        return False
    return bool((time.perf_counter() - begin) * config.steps > LONG_RUN)


def _tell(health: dict[str, Any], out: Path) -> None:
    drift = health["drift_meV_per_atom_per_ps"]
    words = [
        f"{health['steps']} steps ({health['time_ps']:g} ps)",
        f"mean temperature {health['temperature_mean_K']:.0f} K",
    ]
    if drift is not None:
        words.append(f"drift {drift:.3g} meV/atom/ps")
    if health["closest_distance_A"] is not None:
        words.append(f"closest distance {health['closest_distance_A']:.2f} Å")
    print(", ".join(words))
    print(f"trajectory  {out / 'trajectory.extxyz'}\nsee also    {out / 'md.csv'}, {out / 'health.json'}")
