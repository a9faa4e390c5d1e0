"""`mace-gaunt export`: a model compiled ahead of time."""

import json
from typing import TYPE_CHECKING

from mace_gaunt.cli.help import flags_table, keys_of

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from mace_gaunt.simulation.export import Exported

HELP = """\
usage: mace-gaunt export model=FOLDER out=FILE.pt2 [file.yaml] [key=value ...] [flags]

Energies and forces of a model compiled ahead of time (torch.export and AOTInductor), in one file with the weights
inside. It takes about a minute and needs a C++ compiler. The file is compared with the model before it gets its name.

examples:
  mace-gaunt export model=runs/first out=first.pt2
  mace-gaunt export model=runs/first out=first.pt2 kernel=fused dtype=float32
  mace-gaunt md model=runs/first package=first.pt2 dtype=float32 structure=molecule.xyz out=md

A package holds machine code for the torch, the kind of processor or GPU, the precision and the model it was made with;
anything else refuses it. Loading one runs that code: load only those that you or people you trust have made.

keys:
{keys}

flags:
{flags}"""


def help_text() -> str:
    """What `mace-gaunt export --help` prints."""
    return HELP.format(keys=keys_of("export"), flags=flags_table(["--print-config", "--validate-only", "--help-keys"]))


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

    return run_plain("export", argv, lambda composed, validate_only: export(composed.config, validate_only))


def export(config: "DictConfig", validate_only: bool = False) -> "Exported | None":
    """Export a model.

    Args:
        config: The checked configuration.
        validate_only: Whether to stop before compiling.

    Returns:
        What was made; None when only validated.

    Raises:
        UserError: If something is not as it must be, or the package gives other results; then nothing is written.
    """
    from mace_gaunt.cli.plain_verb import require

    require(config, "model", "FOLDER, what a training wrote, such as runs/first")
    require(config, "out", "FILE.pt2 for the package")
    from mace_gaunt.cli.machine import use_machine_well
    from mace_gaunt.cli.quiet import quiet
    from mace_gaunt.simulation.export import check_request, export_model

    quiet()
    use_machine_well()
    settings = {str(key): value for key, value in config.items() if key != "parallel"}
    if validate_only:
        check_request(**settings)
        print("valid: the model can be read and the file written; nothing was written")
        return None
    print("compiling energies and forces, about a minute", flush=True)
    exported = export_model(**settings, parallel=config.parallel)
    _tell(exported)
    return exported


def _tell(exported: "Exported") -> None:
    info = exported.metadata
    portable = "mace_gaunt" not in info["operators"].split()
    users = "any program with libtorch of this version" if portable else "Python with mace_gaunt"
    worst = max(error for errors in exported.differences.values() for error in errors.values())
    names = sorted(set(json.loads(info["kernels"]).values()))
    if info["head"]:
        print(f"head     {info['head']}")
    print(f"kernels  {', '.join(names)} (edge product {info['edge_family']}, node product {info['node_family']})")
    print(f"checked  energies, forces and virials of {len(exported.differences)} structures: {worst:.1e} from eager")
    print(f"package  {exported.path}  {exported.size / 1e6:.1f} MB, {exported.seconds:.0f} s, {info['dtype']}")
    print(f"for      torch {info['torch']} on {info['device']}; {users}")
