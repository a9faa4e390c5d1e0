"""From what the user names (a folder, a run, a loaded model) to a model on a device."""

import copy
from pathlib import Path

import torch

from mace_gaunt.errors import UserError, nearest
from mace_gaunt.model.checkpoint import load_model
from mace_gaunt.model.kernels import KernelChoice
from mace_gaunt.model.mace import MACE
from mace_gaunt.model.package import PackagedGradient, hash_model, open_package

DTYPES = {"float32": torch.float32, "float64": torch.float64}


def choose_device(device: str) -> str:
    """The device that will be used.

    Args:
        device: "auto" (CUDA when there is one, else the CPU) or a torch device such as "cuda:1".

    Returns:
        A torch device string.

    Raises:
        UserError: If torch cannot use the device here, or it is mps: total energies are kept in float64 in every
            precision (float32 rounds them by meV), and mps has no float64.
    """
    chosen = str(device)
    if chosen == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if chosen.startswith("mps"):
        raise UserError("device='mps' has no float64, in which total energies are kept. Use device=cpu.")
    try:
        torch.empty(0, device=chosen)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"device='{chosen}' cannot be used here: {reason}. Try device=auto or device=cpu.") from error
    return chosen


def open_model(
    model: str | Path | MACE,
    device: str = "auto",
    dtype: str = "float64",
    kernel: KernelChoice = "auto",
    head: str | None = None,
) -> MACE:
    """Load a model, or place a loaded one, ready to predict.

    Args:
        model: A model folder, a run folder that holds `model/`, or a loaded model. A loaded model is never changed:
            where its device or dtype differs, a copy is made.
        device: See `choose_device`.
        dtype: "float32" or "float64".
        kernel: Kernel of the tensor products, for a folder: a name, {"edge": X, "node": Y}, or "auto", which
            `model.kernels.select_kernels` can measure.
        head: The head of a model that has names for them; None for the one in use (of several, the one named Default).

    Returns:
        The model on that device in that precision; its `head` is the one in use, None where heads have no names.

    Raises:
        UserError: If there is no model, device or dtype are not there, a kernel is asked of a loaded model, there is no
            such head, or one must be chosen.
    """
    if dtype not in DTYPES:
        raise UserError(f"dtype is 'float32' or 'float64', not '{dtype}'.{nearest(str(dtype), DTYPES)}")
    device = choose_device(device)
    if not isinstance(model, (str, Path)):
        if kernel not in (None, "auto"):
            raise UserError(f"kernel='{kernel}' is chosen when a model is loaded: give the folder, not the model.")
        return _with_head(_placed(model, device, dtype), head, belongs_to_caller=True)
    loaded = load_model(find_model_folder(model), dtype=dtype, device=device, kernel=kernel).eval()
    return _with_head(loaded, head, belongs_to_caller=False)


def find_model_folder(path: str | Path) -> Path:
    """The folder with `model.json`: the path itself, or `model/` inside a run folder.

    Args:
        path: Model folder or run folder.

    Returns:
        The model folder.

    Raises:
        UserError: If neither holds a model.
    """
    folder = Path(path).expanduser()
    for candidate in (folder, folder / "model"):
        if (candidate / "model.json").is_file():
            return candidate
    if folder.is_file():
        raise UserError(f"model='{path}' is a file: give the folder it lies in.")
    if not folder.exists():
        beside = [entry.name for entry in folder.parent.iterdir()] if folder.parent.is_dir() else []
        raise UserError(f"No model folder '{path}'.{nearest(folder.name, beside) if beside else ''}")
    raise UserError(f"'{path}' holds no model: expected model.json and weights.safetensors in it or in its model/.")


def open_packaged_gradient(package: str | Path, folder: str | Path | MACE, model: MACE) -> PackagedGradient:
    """Load energies and forces that `mace-gaunt export` compiled. This runs the machine code in the file.

    Args:
        package: The file.
        folder: Model folder or run folder that it was made from.
        model: What `open_model` made of the folder; it gets the kernels of the package.

    Returns:
        What `predict` takes as `gradient`.

    Raises:
        UserError: If the package does not fit the model, its precision, its device or this machine.
    """
    if not isinstance(folder, (str, Path)):
        raise UserError("a package is compared with the folder it was made from: give the folder, not a loaded model.")
    return open_package(package, model, hash_model(find_model_folder(folder)))


def head_line(model: MACE) -> str | None:
    """What to tell the user about the head in use; None where there is one only."""
    others = [name for name in model.heads if name != model.head]
    return f"head {model.head}; the model also has {', '.join(others)}" if others else None


def _with_head(model: MACE, head: str | None, *, belongs_to_caller: bool) -> MACE:
    """The model with a head in use; a copy where another one is in use of a model that belongs to the caller."""
    if head is None:
        if len(model.heads) > 1 and model.head is None:
            raise UserError(f"the model has the heads {', '.join(model.heads)}: choose one with head=NAME.")
        return model
    if not model.heads:
        raise UserError(f"head='{head}': the model has one head, which has no name. Leave head out.")
    if head not in model.heads:
        raise UserError(f"the model has no head '{head}'.{nearest(str(head), model.heads)}")
    if head == model.head:
        return model
    return (copy.deepcopy(model) if belongs_to_caller else model).choose_head(head)


def _placed(model: MACE, device: str, dtype: str) -> MACE:
    """The model itself when it is already there, else a moved copy."""
    here = torch.device(device)
    same_device = model.device.type == here.type and here.index in (None, model.device.index)
    if same_device and model.dtype == DTYPES[dtype]:
        return model
    return copy.deepcopy(model).to(device=here, dtype=DTYPES[dtype])
