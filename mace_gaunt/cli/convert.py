"""`mace-gaunt convert`: a model of mace-torch as a model folder."""

import math
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mace_gaunt.cli.help import flags_table, keys_of
from mace_gaunt.errors import UserError

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from mace_gaunt.model.mace import MACE

HELP = """\
usage: mace-gaunt convert mace=FILE out=DIR [file.yaml] [key=value ...] [flags]

A trained model of mace-torch as a model folder of the clebsch_gordan family, with the same energies, forces and stress.
What has no counterpart here is refused by name: nothing is approximated.

examples:
  mace-gaunt convert mace=water out=models/water                          water/config.json, water/state_dict.npz
  mace-gaunt convert mace=water/state_dict.pt out=models/water            config.json lies beside it
  mace-gaunt convert mace=MACE.model trust=true out=models/water          needs mace-torch: peer_env
  mace-gaunt md model=models/water structure=box.xyz out=md

A .model is a pickle: opening it runs code that is in the file, and so is done with trust=true alone, in a process of an
environment with mace-torch (bash scripts/make_peer_env.sh makes one). A config and a state dict run nothing and need no
mace-torch. Energies are eV, lengths Angstrom, as in MACE.

keys:
{keys}

flags:
{flags}"""

UNITS = {"energy": "eV", "node_energy": "eV", "forces": "eV/Å", "stress": "eV/Å^3"}
TOLERANCE = 1e-6
"""Largest difference from mace-torch, of values up to one or relative; a model saved in float32 reaches 1e-8."""


def help_text() -> str:
    """What `mace-gaunt convert --help` prints."""
    return HELP.format(keys=keys_of("convert"), flags=flags_table(["--print-config", "--validate-only", "--help-keys"]))


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

    return run_plain("convert", argv, lambda composed, validate_only: convert(composed.config, validate_only))


def convert(config: "DictConfig", validate_only: bool = False) -> "MACE":
    """Convert a model.

    Args:
        config: The checked configuration.
        validate_only: Whether to stop before anything is written.

    Returns:
        The potential.

    Raises:
        UserError: If the model cannot be read or is not supported, or `out` cannot be written.
    """
    from mace_gaunt.cli.plain_verb import require

    require(config, "mace", "FILE, a model of mace-torch")
    require(config, "out", "DIR for the model folder")
    from mace_gaunt.cli.quiet import quiet
    from mace_gaunt.model.checkpoint import DESCRIPTION, WEIGHTS, save_model
    from mace_gaunt.simulation.output import check_output

    quiet()
    out, path = check_output(config.out, [DESCRIPTION, WEIGHTS], config.overwrite), Path(config.mace).expanduser()
    with tempfile.TemporaryDirectory(prefix="mace-gaunt-convert-") as scratch:
        source, extracted = find_source(path, config, Path(scratch))
        model = read_model(source, path, config.head)
        print(describe(model))
        if extracted:
            print(f"checked   {compare(model, source)}")
    if validate_only:
        print("valid: the model can be converted; nothing was written")
        return model
    model.metadata["converted_from"]["file"] = path.name
    save_model(model, out)
    print(f"written   {out}")
    return model


def find_source(path: Path, config: "DictConfig", scratch: Path) -> tuple[Path, bool]:
    """The folder or file with config and state dict, and whether it was extracted from a pickled model here."""
    from mace_gaunt.interop.mace_files import PickledModelError, read_files

    if path.suffix != ".model":
        try:
            read_files(path)
            return path, False
        except PickledModelError:
            pass
    elif not path.is_file():
        raise UserError(f"No file '{path}'.")
    if not config.trust:
        raise UserError(
            f"'{path}' is a pickled model: opening it runs code that is in the file. If you trust it, give trust=true; "
            "or give a config.json with a state dict, which run nothing."
        )
    from mace_gaunt.interop.mace_pickle import extract

    python = find_python(config.peer_env)
    print(f"opening   {path}, which runs code that is in it, by {python}", flush=True)
    extract(path, python, scratch)
    return scratch, True


def find_python(peer_env: str | None) -> Path:
    """Python of the environment with mace-torch."""
    from mace_gaunt.benchmark.peer.sides import PEER_FOLDER, find_peer

    try:
        return find_peer(peer_env)
    except UserError as error:
        raise UserError(
            f"no environment with mace-torch in {peer_env or PEER_FOLDER}, which a pickled model needs. Make it: bash "
            "scripts/make_peer_env.sh; or name another one: peer_env=DIR."
        ) from error


def read_model(source: Path, path: Path, head: str | None) -> "MACE":
    """Convert, and say what is wrong in the user's words."""
    from mace_gaunt.interop.mace import from_state_dict
    from mace_gaunt.interop.mace_files import read_files

    settings, tensors = read_files(source)
    try:
        return from_state_dict(settings, tensors, head)
    except NotImplementedError as error:
        raise UserError(f"'{path}' cannot be converted: {error}.") from error
    except ValueError as error:
        raise UserError(f"'{path}': {error}") from error


def describe(model: "MACE") -> str:
    """What was read, in a few lines."""
    from mace_gaunt.data.atomic_data import symbols

    settings: dict[str, Any] = model.hyperparameters
    weights = sum(parameter.numel() for parameter in model.parameters())
    in_use = f" ({model.head} is used where none is named)" if len(model.heads) > 1 and model.head else ""
    layers = zip(settings["interaction"], settings["correlation"], strict=True)
    radial = settings["radial"]["basis"]["name"], settings["radial"].get("transform", {}).get("name")
    words = [*filter(None, radial), *(["ZBL"] if settings["zbl"] else []), f"r_max {model.r_max:g} Å"]
    lines = {
        "model": f"{model.metadata['converted_from']['class']}, {settings['num_channels']} channels, max_L "
        f"{settings['max_L']}, max_ell {settings['max_ell']}, {weights} weights",
        "layers": ", ".join(f"{kind} with correlation {order}" for kind, order in layers),
        "radial": ", ".join(words),
        "elements": symbols(model.atomic_numbers),
        "heads": ", ".join(model.heads) + in_use,
        "units": "energy eV, length Å, stress eV/Å^3, as in the MACE model",
    }
    return "\n".join(f"{name:9} {text}" for name, text in lines.items())


def compare(model: "MACE", folder: Path) -> str:
    """Largest differences from what mace-torch computed.

    Raises:
        UserError: If they are too large to be of rounding.
    """
    from mace_gaunt.interop.mace_probe import largest_differences, largest_values

    found = {name: value for name, value in largest_differences(model, folder).items() if not math.isnan(value)}
    scales = largest_values(folder)
    words = ", ".join(f"{name} {value:.1e} {UNITS[name]}" for name, value in found.items())
    if not all(value < TOLERANCE * max(1.0, scales[name]) for name, value in found.items()):
        raise UserError(f"the converted model differs from the MACE model ({words}): please report it.")
    return f"largest difference from mace-torch in float64: {words}"
