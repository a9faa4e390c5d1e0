"""`mace-gaunt relax`: structures at a minimum of a trained model's energy."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from mace_gaunt.cli.help import flags_table, keys_of

if TYPE_CHECKING:
    from omegaconf import DictConfig

HELP = """\
usage: mace-gaunt relax model=FOLDER structure=FILE out=DIR [file.yaml] [key=value ...] [flags]

Moves atoms, and the cell where asked for, to a minimum of the energy with ASE's optimizers: relaxed.extxyz, every step
in trajectory.extxyz and relax.csv, a summary in relax.json. The exit status is not zero if one did not converge.

examples:
  mace-gaunt relax model=runs/first structure=molecule.xyz fmax=0.001 out=relaxed
  mace-gaunt relax model=runs/first structure=crystal.cif cell=full pressure_GPa=5 out=relaxed
  mace-gaunt relax model=runs/first structure=many.xyz index=: optimizer=LBFGS out=relaxed

keys:
{keys}

flags:
{flags}"""

SETTINGS = ("optimizer", "fmax", "steps", "cell", "pressure_GPa")


def help_text() -> str:
    """What `mace-gaunt relax --help` prints."""
    return HELP.format(keys=keys_of("relax"), flags=flags_table(["--print-config", "--validate-only", "--help-keys"]))


def run(argv: list[str]) -> int:
    """Run the verb.

    Args:
        argv: The words after the verb.

    Returns:
        Exit status.

    Raises:
        UserError: For anything the user can mend, and for structures that do not converge.
    """
    from mace_gaunt.cli.plain_verb import run_plain

    return run_plain("relax", argv, lambda composed, validate_only: relax(composed.config, validate_only))


def relax(config: "DictConfig", validate_only: bool = False) -> list[dict[str, Any]]:
    """Relax structures.

    Args:
        config: The checked configuration.
        validate_only: Whether to stop after the energies of the structures.

    Returns:
        An entry per structure; none when only validated.

    Raises:
        UserError: If something is not as it must be, or a structure did not converge.
    """
    from mace_gaunt.cli.calculation import compile_if_it_pays, open_calculator
    from mace_gaunt.cli.plain_verb import require

    require(config, "model", "FOLDER, what a training wrote, such as runs/first")
    require(config, "structure", "FILE with the structures to relax")
    require(config, "out", "DIR for the relaxed structures")
    from mace_gaunt.simulation.relaxation import RELAXED, RelaxSettings, relax_structures
    from mace_gaunt.simulation.structures import read_structures

    settings = {name: config[name] for name in SETTINGS}
    RelaxSettings(**settings).check()
    structures = read_structures(config.structure, str(config.index))
    calculator = open_calculator(config)
    if validate_only:
        calculator.evaluate(structures, forces=False)
        print(f"valid: {len(structures)} structures can be computed; nothing was written")
        return []
    # Of the first one, a single atom perhaps, nothing could be learnt about the others.
    largest = max(structures, key=len)
    calculator.prepare_for(largest)
    compile_if_it_pays(config, calculator, largest, config.steps * sum(map(len, structures)) // max(len(largest), 1))
    entries = relax_structures(calculator, structures, config.out, overwrite=config.overwrite, **settings)
    for index, entry in enumerate(entries[:10]):
        gained = entry["energy_start_eV"] - entry["energy_eV"]
        print(f"frame {index}: {entry['steps']} steps, {entry['energy_eV']:.6f} eV, {gained:.6f} eV below the start")
    print(f"relaxed  {Path(config.out) / RELAXED}")
    return entries
