"""`mace-gaunt md`: molecular dynamics with a trained model."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from mace_gaunt.cli.help import flags_table, keys_of

if TYPE_CHECKING:
    from omegaconf import DictConfig

HELP = """\
usage: mace-gaunt md model=FOLDER structure=FILE out=DIR [file.yaml] [key=value ...] [flags]

Molecular dynamics through ASE: trajectory, table, plot and a health report in out. What was killed goes on with
resume=auto, as if it never had been.

examples:
  mace-gaunt md model=runs/first structure=molecule.xyz out=md
  mace-gaunt md model=runs/first structure=train.xyz index=0 ensemble=langevin temperature_K=600 steps=10000 out=hot
  mace-gaunt md model=runs/first structure=crystal.cif ensemble=npt pressure_GPa=1 replicas=4 resume=auto out=npt
  mace-gaunt md model=[runs/a,runs/b] structure=molecule.xyz max_force_std=0.5 out=careful

keys:
{keys}

flags:
{flags}"""

# Keys that find the structure and make the calculator; all others are arguments of `run_md`.
BEFORE = (
    "model", "head", "structure", "index", "out", "device", "dtype", "kernel", "skin", "compile", "package", "replicas",
)  # fmt: skip


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
    from mace_gaunt.cli.plain_verb import run_plain

    return run_plain("md", argv, lambda composed, validate_only: simulate(composed.config, validate_only))


def simulate(config: "DictConfig", validate_only: bool = False) -> list[dict[str, Any]]:
    """Run a simulation, or its replicas.

    Args:
        config: The checked configuration.
        validate_only: Whether to stop after the energy of the structure.

    Returns:
        The content of health.json of each; none when only validated.

    Raises:
        UserError: If something is not as it must be, or a simulation became unphysical.
    """
    from mace_gaunt.cli.calculation import compile_if_it_pays, open_calculator
    from mace_gaunt.cli.plain_verb import require

    require(config, "model", "FOLDER, what a training wrote, such as runs/first")
    require(config, "structure", "FILE with the atoms to start from")
    require(config, "out", "DIR for the trajectory")
    from mace_gaunt.simulation.md_checkpoint import earlier_checkpoints
    from mace_gaunt.simulation.md_restore import use_earlier_kernels
    from mace_gaunt.simulation.md_settings import MDSettings, check_whole
    from mace_gaunt.simulation.molecular_dynamics import run_md, run_replicas
    from mace_gaunt.simulation.structures import read_structure
    from mace_gaunt.simulation.trajectories import check_library

    settings = {str(key): value for key, value in config.items() if key not in BEFORE}
    flow = {name: settings.pop(name) for name in ("resume", "overwrite")}
    check_library(MDSettings.of(settings).trajectory)
    check_whole("replicas", config.replicas, 1)
    atoms = read_structure(config.structure, config.index)
    calculator = open_calculator(config, package=config.package)
    if validate_only:
        energy = calculator.evaluate([atoms])[0]["energy"]
        print(f"valid: {atoms.get_chemical_formula()} has {energy:.6f} eV; nothing was written")
        return []
    out = Path(config.out).expanduser()
    earlier = None if flow["resume"] == "never" else next(earlier_checkpoints(out), None)
    if earlier is not None:
        use_earlier_kernels(calculator, earlier)
    calculator.prepare_for(atoms)
    for name, choice in calculator.kernels.items():
        print(f"{name}  kernel {choice}")
    compile_if_it_pays(config, calculator, atoms, config.steps * config.replicas, earlier)
    if config.replicas == 1:
        healths = [run_md(calculator, atoms, out, **flow, **settings)]
    else:
        healths = run_replicas(calculator, atoms, out, config.replicas, **flow, **settings)
    _tell(healths, out, settings["trajectory"])
    return healths


def _tell(healths: list[dict[str, Any]], out: Path, trajectory: str) -> None:
    from mace_gaunt.simulation.health_text import describe
    from mace_gaunt.simulation.replicas import summary_lines

    if len(healths) > 1:
        print("\n".join(summary_lines(healths)))
        print(f"see also    {out}/replicas.csv, {out}/replica_*/health.txt")
        return
    print(describe(healths[0]))
    print(f"trajectory  {out / f'trajectory.{trajectory}'}")
    print(f"see also    {out / 'md.csv'}, {out / 'md.png'}, {out / 'health.json'}")
