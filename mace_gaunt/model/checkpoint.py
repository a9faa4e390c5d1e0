"""The model folder: weights in safetensors, everything else in JSON; loaded without pickle and without Lightning."""

import functools
import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from mace_gaunt import __version__
from mace_gaunt.errors import UserError, nearest
from mace_gaunt.files import new_folder, write_whole
from mace_gaunt.model.kernels import KernelChoice, use_kernels
from mace_gaunt.model.mace import MACE
from mace_gaunt.model.probe import Probe, check_probe, compute_probe, read_probe
from mace_gaunt.tensor_products.contracts import EdgeProduct, NodeProduct
from mace_gaunt.tensor_products.families import product_class

SCHEMA_VERSION = 2
"""1: without checksums and test structure, which are then not compared. Both are read."""
CHECKSUMS = {"sha256", "weights_sha256", "probe"}
WEIGHTS = "weights.safetensors"
DESCRIPTION = "model.json"
UNITS = {"energy": "eV", "length": "Angstrom", "stress": "eV/Angstrom^3"}
DTYPES = {"float32": torch.float32, "float64": torch.float64}


def describe_product(product: Any) -> dict[str, Any]:
    """Family, kernel and options of an edge or node product, as JSON values."""
    return {"family": product.family, "kernel": product.kernel_name, "options": product.options()}


def save_model(model: MACE, folder: str | Path, metadata: dict[str, Any] | None = None) -> Path:
    """Write the model folder.

    Args:
        model: The potential.
        folder: Where; made when absent.
        metadata: JSON values to keep with the model (data hashes, metrics, versions).

    Returns:
        The folder.
    """
    folder = Path(folder)
    weights = save({name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()})
    description = {
        "schema_version": SCHEMA_VERSION,
        "program": {"name": "mace_gaunt", "version": __version__, "torch": torch.__version__},
        "units": UNITS,
        "dtype": str(model.dtype).removeprefix("torch."),
        "hyperparameters": model.hyperparameters,
        "edge_product": describe_product(model.interactions[0].get_submodule("edge_product")),
        "node_product": describe_product(model.products[0].get_submodule("node_product")),
        "metadata": model.metadata if metadata is None else metadata,
        "weights_sha256": hashlib.sha256(weights).hexdigest(),
        "probe": compute_probe(model),
    }
    # Each file appears whole or not at all, the description last: without it the folder is no model.
    with new_folder(folder):
        write_whole(folder / WEIGHTS, weights)
        write_whole(folder / DESCRIPTION, sealed(description))
    return folder


def sealed(description: dict[str, Any]) -> str:
    """The text of a description, with a checksum of everything else in it."""
    return json.dumps(description | {"sha256": checksum(description)}, indent=2) + "\n"


def checksum(description: dict[str, Any]) -> str:
    """SHA-256 of a description as JSON, but for the checksum itself."""
    rest = {name: value for name, value in description.items() if name != "sha256"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def load_model(
    folder: str | Path,
    *,
    dtype: str | None = None,
    device: str | torch.device = "cpu",
    kernel: KernelChoice = None,
) -> MACE:
    """Read a model folder. Nothing in it is executed.

    Args:
        folder: The folder that `save_model` wrote.
        dtype: "float32" or "float64"; the precision it was saved in when None.
        device: Where the model goes.
        kernel: Kernel of every product that has one of this name, or {"edge": X, "node": Y}; each product's default
            when None or "auto", until `select_kernels` measures.

    Returns:
        The potential in eval mode, `metadata` filled.

    Raises:
        UserError: If the folder is no model, is damaged, altered or newer than this program, has no such kernel, if
            the device cannot be used, or if the energy and the forces of its test structure do not come out as they
            were saved.
    """
    folder = Path(folder)
    description = read_description(folder)
    if dtype is not None and dtype not in DTYPES:
        raise UserError(f"unknown dtype '{dtype}'.{nearest(dtype, DTYPES)}")
    model, probe = read_model(folder, description)
    use_kernels(model, kernel)
    wanted = DTYPES[dtype] if dtype else model.dtype
    if probe is not None:
        check_probe(placed(model, device, torch.float64).eval(), probe, folder)
    return placed(model, device, wanted).eval()


def placed(model: MACE, device: str | torch.device, dtype: torch.dtype) -> MACE:
    """Move a model; too little memory for it stays torch's own error.

    Raises:
        UserError: If torch cannot use the device, or the device not the precision.
    """
    try:
        return model.to(device=device, dtype=dtype)
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, AssertionError, TypeError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"device='{device}' cannot be used here: {reason}. Try device='cpu'.") from error


def read_model(folder: Path, description: dict[str, Any]) -> tuple[MACE, Probe | None]:
    """The model of a folder as it was saved, and what its test structure must give if that was saved too.

    Raises:
        UserError: If the folder is incomplete or damaged.
    """
    try:
        weights = read_weights(folder, description)
        # The random weights that are overwritten here must not advance the caller's random numbers.
        with torch.random.fork_rng(devices=[]):
            model = build_model(description)
        model.to(DTYPES[description["dtype"]])
        model.load_state_dict(load(weights))
        model.metadata = description["metadata"]
        return model, read_probe(description["probe"]) if description["schema_version"] > 1 else None
    except UserError:
        raise
    except FileNotFoundError as error:
        raise UserError(f"{folder} has no {WEIGHTS}: the model folder is incomplete") from error
    except KeyError as error:
        raise UserError(f"{folder} is damaged: {DESCRIPTION} has no {error}") from error
    except (SafetensorError, TypeError, ValueError, RuntimeError) as error:
        # torch lists every weight that does not fit: the first will do.
        reason = " ".join(line.strip() for line in str(error).splitlines()[:2])
        raise UserError(f"{folder} is damaged: {reason[:300]}") from error


def read_weights(folder: Path, description: dict[str, Any]) -> bytes:
    """The bytes of the weights, if they are those that were saved."""
    content = (folder / WEIGHTS).read_bytes()
    if description["schema_version"] > 1 and hashlib.sha256(content).hexdigest() != description["weights_sha256"]:
        raise UserError(f"{folder / WEIGHTS} is not the file that was saved: it was cut off, altered or exchanged")
    return content


def read_description(folder: Path) -> dict[str, Any]:
    """The JSON of a model folder, of a schema this program knows."""
    path = folder / DESCRIPTION
    if not path.is_file():
        raise UserError(f"{folder} is no model folder: it has no {DESCRIPTION}")
    try:
        description = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} cannot be read as a model description: {error}") from error
    if not isinstance(description, dict) or "schema_version" not in description:
        raise UserError(f"{path} cannot be read as a model description: it is no JSON object with a schema_version")
    version = description["schema_version"]
    if type(version) is not int or not 1 <= version <= SCHEMA_VERSION:
        raise UserError(
            f"{path} has schema version {version}, this program ({__version__}) reads 1 to {SCHEMA_VERSION}: "
            "it was written by another version of mace_gaunt"
        )
    # A folder with checksums whose schema reads 1 was altered, too.
    if (version > 1 or CHECKSUMS & set(description)) and description.get("sha256") != checksum(description):
        raise UserError(f"{path} was altered since it was saved: its checksum is another one")
    if description.get("dtype") not in DTYPES:
        raise UserError(f"{path}: unknown dtype '{description.get('dtype')}'.{nearest('', DTYPES)}")
    result: dict[str, Any] = description
    return result


def build_model(description: dict[str, Any]) -> MACE:
    """The model of a description, with random weights."""
    products: dict[str, Any] = {}
    for name, contract in (("edge_product", EdgeProduct), ("node_product", NodeProduct)):
        product = product_class(description[name]["family"], contract)
        products[name] = functools.partial(product, **description[name]["options"])
    return MACE(**description["hyperparameters"], **products)
