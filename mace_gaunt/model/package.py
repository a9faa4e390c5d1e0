"""Use of packages, which `ahead_of_time` makes: their metadata, what these refuse, and the gradient inside.

Metadata are read without running anything of a package. Loading a package runs the machine code in it, unlike loading
a model folder, which runs nothing: so it is done on request alone.
"""

import hashlib
import json
import zipfile
from pathlib import Path

import torch
from torch import Tensor

from mace_gaunt import __version__
from mace_gaunt.errors import UserError
from mace_gaunt.model.checkpoint import DESCRIPTION, WEIGHTS
from mace_gaunt.model.kernels import PLACES, place_of, restore_kernels
from mace_gaunt.model.mace import MACE
from mace_gaunt.tensor_products.kernels.native import processor
from mace_gaunt.tensor_products.selection import products_of

SCHEMA = "1"
# x86 also lists what no compiler uses; other processors list instructions alone.
X86_INSTRUCTIONS = ("sse", "ssse", "avx", "fma", "f16c", "bmi", "abm", "movbe", "popcnt", "amx", "adx", "vaes", "gfni")


def hash_model(folder: Path) -> str:
    """SHA-256 of a model folder: of its description and of its weights."""
    digest = hashlib.sha256()
    for name in (DESCRIPTION, WEIGHTS):
        digest.update(hashlib.sha256((folder / name).read_bytes()).digest())
    return digest.hexdigest()


def describe_package(model: MACE, operators: list[str], sha256: str) -> dict[str, str]:
    """The metadata of a package: text under every key.

    Args:
        model: What it computes, with its precision, device and kernels.
        operators: Namespaces of the operators it calls.
        sha256: What `hash_model` gives for the model folder.

    Returns:
        Numbers of a list are separated by spaces; `kernels` is JSON.
    """
    products = dict(products_of(model))
    families = {place: {one.family for one in products.values() if place_of(one) == place} for place in PLACES}
    return {
        "mace_gaunt_schema": SCHEMA,
        "program": f"mace_gaunt {__version__}",
        "torch": torch.__version__,
        "model_sha256": sha256,
        "inputs": "vectors [n_pairs, 3], node_types [n_nodes] int64, pair_index [2, n_pairs] int64; contiguous",
        "outputs": "node_energy [n_nodes] without E0s, dE/dvectors [n_pairs, 3]",
        "units": "eV, Angstrom",
        "dtype": str(model.dtype).removeprefix("torch."),
        "device": model.device.type,
        "r_max": repr(model.r_max),
        "atomic_numbers": " ".join(map(str, model.atomic_numbers)),
        "head": model.head or "",
        "E0s": " ".join(map(repr, model.E0s.tolist())),
        **{f"{place}_family": " ".join(sorted(families[place])) for place in PLACES},
        "kernels": json.dumps({name: product.kernel_name for name, product in products.items()}),
        "operators": " ".join(operators),
        "instructions": " ".join(sorted(instructions())) if model.device.type == "cpu" else "",
        "compute_capability": compute_capability(model.device),
    }


def instructions() -> set[str]:
    """Sets of instructions that this processor has, of those that a compiler uses."""
    kind, _, words = processor().partition(":")
    known = words.split()
    return {word for word in known if word.startswith(X86_INSTRUCTIONS)} if kind.startswith("flags") else set(known)


def compute_capability(device: torch.device) -> str:
    """Of a CUDA device, as "9.0"; empty for others."""
    return ".".join(map(str, torch.cuda.get_device_capability(device))) if device.type == "cuda" else ""


def read_metadata(path: Path) -> dict[str, str]:
    """The metadata of a package; nothing in it is run.

    Raises:
        UserError: If the file is absent or no package of this program, or of a schema it does not know.
    """
    if not path.is_file():
        raise UserError(f"No package '{path}'. mace-gaunt export model=FOLDER out={path.name} makes one")
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name for name in archive.namelist() if name.endswith("_metadata.json")]
            found = [json.loads(archive.read(name)) for name in names]
    except (zipfile.BadZipFile, OSError, ValueError) as error:
        raise UserError(f"'{path}' cannot be read as a package: {error}") from error
    ours: list[dict[str, str]] = [one for one in found if isinstance(one, dict) and "mace_gaunt_schema" in one]
    if not ours:
        raise UserError(f"'{path}' is no package that mace-gaunt export wrote.")
    if ours[0]["mace_gaunt_schema"] != SCHEMA:
        raise UserError(
            f"'{path}' has schema version {ours[0]['mace_gaunt_schema']}, this program ({__version__}) reads {SCHEMA}: "
            "export the model again"
        )
    return ours[0]


def check_metadata(info: dict[str, str], path: Path, model: MACE, sha256: str) -> None:
    """Refuse a package that was made from or for something else.

    Args:
        info: What `read_metadata` gives.
        path: The package, for the message.
        model: The model that it shall compute.
        sha256: What `hash_model` gives for its folder.

    Raises:
        UserError: Naming what differs, and what to do.
    """
    dtype, device = str(model.dtype).removeprefix("torch."), model.device.type
    for key, here, what, mend in (
        ("torch", torch.__version__, "torch", "export the model again with the torch that runs it"),
        ("device", device, "device", f"give device={info['device']}, or export the model with device={device}"),
        ("dtype", dtype, "dtype", f"give dtype={info['dtype']}, or export the model with dtype={dtype}"),
        ("compute_capability", compute_capability(model.device), "compute capability", "export the model on this GPU"),
    ):
        if info.get(key) != here:
            raise UserError(f"package '{path}' is for {what} {info.get(key)}, and here it is {here}: {mend}.")
    if info.get("head", "") != (model.head or ""):
        raise UserError(
            f"package '{path}' is for head '{info.get('head', '')}', and here it is '{model.head or ''}': "
            "give the same head, or export the model with this one."
        )
    if info.get("model_sha256") != sha256:
        raise UserError(f"package '{path}' was made from another model: export this one, or give the folder it is of.")
    lacking = sorted(set(info["instructions"].split()) - instructions())
    if lacking:
        raise UserError(
            f"package '{path}' was compiled for a processor with {', '.join(lacking)}, which this one has not: "
            "export the model on this machine."
        )


class PackagedGradient:
    """The gradient in a package, an `EdgeGradient`. Making one loads and so runs the machine code of the file.

    Args:
        path: A package whose metadata have been checked.
        device_index: Which GPU; -1 is the current one.
    """

    def __init__(self, path: Path, device_index: int = -1) -> None:
        self._run = torch._inductor.aoti_load_package(str(path), device_index=device_index)

    def __call__(
        self, vectors: Tensor, node_types: Tensor, pair_index: Tensor, training: bool
    ) -> tuple[Tensor, Tensor]:
        """Node energies and dE/dvectors; shapes as in `edge_gradient`.

        Raises:
            ValueError: If the result is to be differentiated, for which a package has no code.
        """
        if training:
            raise ValueError("a package computes energies and forces only: train with the model itself")
        # The code of a package takes strides for granted and does not look at them.
        node_energy, gradient = self._run(vectors.contiguous(), node_types.contiguous(), pair_index.contiguous())
        return node_energy, gradient


def open_package(path: str | Path, model: MACE, sha256: str) -> PackagedGradient:
    """Load a package after a look at its metadata. This runs the machine code in it.

    Args:
        path: The file.
        model: The model that it shall compute, on its device and in its precision; it gets the kernels of the package,
            which registers the operators that they bring.
        sha256: What `hash_model` gives for its folder.

    Returns:
        What `predict` takes as `gradient`.

    Raises:
        UserError: If the package is of another model, dtype, device, processor or torch, or damaged.
    """
    path = Path(path).expanduser()
    info = read_metadata(path)
    check_metadata(info, path, model, sha256)
    restore_kernels(model, json.loads(info["kernels"]), model.device.type)
    try:
        return PackagedGradient(path, -1 if model.device.index is None else model.device.index)
    except Exception as error:  # torch raises nearly anything here
        raise UserError(f"package '{path}' cannot be loaded: {error}") from error
