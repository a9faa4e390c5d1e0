"""`mace-gaunt phonons`: vibrations of crystals with a trained model."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from mace_gaunt.cli.help import flags_table, keys_of

if TYPE_CHECKING:
    from omegaconf import DictConfig

HELP = """\
usage: mace-gaunt phonons model=FOLDER structure=FILE out=DIR [file.yaml] [key=value ...] [flags]

Phonons of a crystal by finite displacements through phonopy (extra `phonons`): bands along the standard path, density
of states and thermal properties as csv and plots, force constants in phonopy_params.yaml, a summary in phonons.json.

examples:
  mace-gaunt relax model=runs/first structure=crystal.cif cell=full fmax=0.0005 out=relaxed
  mace-gaunt phonons model=runs/first structure=relaxed/relaxed.extxyz out=phonons
  mace-gaunt phonons model=runs/first structure=relaxed/relaxed.extxyz supercell=[3,3,2] displacement=0.02 out=larger

keys:
{keys}

flags:
{flags}"""

SETTINGS = ("supercell", "displacement", "mesh", "points", "max_temperature_K", "symprec")


def help_text() -> str:
    """What `mace-gaunt phonons --help` prints."""
    return HELP.format(keys=keys_of("phonons"), flags=flags_table(["--print-config", "--validate-only", "--help-keys"]))


def run(argv: list[str]) -> int:
    """Run the verb.

    Args:
        argv: The words after the verb.

    Returns:
        Exit status.

    Raises:
        UserError: For anything the user can mend; then nothing is written.
    """
    from mace_gaunt.cli.plain_verb import run_plain

    return run_plain("phonons", argv, lambda composed, validate_only: phonons(composed.config, validate_only))


def phonons(config: "DictConfig", validate_only: bool = False) -> dict[str, Any]:
    """Compute phonons.

    Args:
        config: The checked configuration.
        validate_only: Whether to stop after the energy of the structure.

    Returns:
        The content of phonons.json; empty when only validated.

    Raises:
        UserError: If something is not as it must be; then nothing is written.
    """
    from omegaconf import OmegaConf

    from mace_gaunt.cli.calculation import open_calculator
    from mace_gaunt.cli.plain_verb import require

    require(config, "model", "FOLDER, what a training wrote, such as runs/first")
    require(config, "structure", "FILE with the crystal")
    require(config, "out", "DIR for the results")
    from mace_gaunt.simulation.phonons import PhononSettings, check_crystal, compute_phonons, load_phonopy
    from mace_gaunt.simulation.structures import read_structure

    plain: dict[str, Any] = OmegaConf.to_container(config)  # type: ignore[assignment]
    settings = {name: plain[name] for name in SETTINGS}
    PhononSettings(**settings).check()
    load_phonopy()
    atoms = read_structure(config.structure, config.index)
    check_crystal(atoms)
    calculator = open_calculator(config)
    if validate_only:
        energy = calculator.evaluate([atoms])[0]["energy"]
        print(f"valid: {atoms.get_chemical_formula()} has {energy:.6f} eV; nothing was written")
        return {}
    print("displacing atoms", flush=True)
    summary = compute_phonons(calculator, atoms, config.out, overwrite=config.overwrite, **settings)
    _tell(summary, Path(config.out))
    return summary


def _tell(summary: dict[str, Any], out: Path) -> None:
    print(f"crystal      {summary['formula']}, space group {summary['space_group']}, supercell {summary['supercell']}")
    print(f"forces of    {summary['displacements']} displacements in {summary['atoms_in_supercell']} atoms")
    print(f"frequencies  {summary['lowest_frequency_THz']:.3f} to {summary['highest_frequency_THz']:.3f} THz")
    print(
        f"at {summary['temperature_K']:g} K     free energy {summary['free_energy_kJ_mol']:.3f} kJ/mol, heat capacity "
        f"{summary['heat_capacity_J_K_mol']:.3f} J/K/mol of {summary['atoms_in_primitive_cell']}-atom cells"
    )
    for warning in summary["warnings"]:
        print(f"WARNING      {warning}")
    print(f"see          {out / 'bands.png'}, {out / 'thermal.png'}, {out / 'phonons.json'}")
