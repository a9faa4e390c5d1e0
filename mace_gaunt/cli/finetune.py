"""`mace-gaunt train init=FOLDER`: a training that starts from the weights of a model."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase.data import atomic_numbers as number_of_symbol
from ase.data import chemical_symbols
from omegaconf import DictConfig, OmegaConf

from mace_gaunt.cli.request import Request, leaves
from mace_gaunt.cli.run_folder import RunFolder
from mace_gaunt.data.atomic_data import AtomicData, symbols
from mace_gaunt.data.reference_energies import undetermined_elements
from mace_gaunt.errors import UserError, nearest
from mace_gaunt.model.checkpoint import load_model, read_description
from mace_gaunt.model.mace import MACE
from mace_gaunt.model.package import hash_model
from mace_gaunt.model.transfer import for_elements, transfer_weights
from mace_gaunt.simulation.batching import predict_batches
from mace_gaunt.simulation.loading import find_model_folder
from mace_gaunt.tensor_products.contracts import EdgeProduct, NodeProduct
from mace_gaunt.tensor_products.families import product_class

# Policies of data.E0s that need a model to start from.
KEEP, REFIT = "model", "refit"
# Frames that E0s are fitted on, at most; spread evenly over the training set.
REFIT_FRAMES = 2000
PRODUCTS = {"edge_product": EdgeProduct, "node_product": NodeProduct}
# What belongs to the elements of the data, and not to the weights.
OF_ELEMENTS = ("atomic_numbers", "E0s")


@dataclass
class Start:
    """The model that a training starts from.

    Attributes:
        folder: Its folder.
        model: The model, float64.
        description: Its model.json.
        added: Elements that it lacks and is to learn.
        origin: What run.json and the models that come of it say about it: its name, and the SHA-256 of its folder.
    """

    folder: Path
    model: MACE
    description: dict[str, Any]
    added: list[int]
    origin: dict[str, str]

    def check_elements(self, numbers: Sequence[int]) -> None:
        """Refuse elements that the model lacks, unless they are to be added.

        Raises:
            UserError: Naming them.
        """
        new = sorted(set(numbers) - set(self.model.atomic_numbers))
        unasked = [number for number in new if number not in self.added]
        if unasked:
            wanted = ",".join(chemical_symbols[number] for number in new)
            raise UserError(
                f"the training data hold {symbols(unasked)}, which {self.folder} does not know (it knows "
                f"{symbols(self.model.atomic_numbers)}): add_elements=[{wanted}] lets it learn them anew."
            )
        without = [number for number in self.added if number not in new]
        if without:
            raise UserError(
                f"add_elements names {symbols(without)}, which the model knows or the training data lack: leave it out."
            )

    def settle_elements(self, settings: DictConfig) -> None:
        """Give the settings of the new model what the old one keeps for each element: maybe radii.

        Args:
            settings: `config.model`, its `atomic_numbers` those of the data; changed in place.

        Raises:
            UserError: See `check_elements`.
        """
        self.check_elements(settings.atomic_numbers)
        for name, value in for_elements(self.description["hyperparameters"], settings.atomic_numbers).items():
            settings[name] = value

    def fit_energies(self, frames: Sequence[AtomicData], numbers: Sequence[int], E0s: Sequence[float]) -> list[float]:
        """E0s with which the model fits the energies of some frames best, as near to the given ones as can be.

        Least squares of energy minus the model's interaction energy, by composition. Compositions that leave a sum of
        E0s open change it as little as possible; an element that the model has never seen must be determined.

        Args:
            frames: Training frames.
            numbers: The elements of the data, sorted.
            E0s: Energies to start from (eV), zero for new elements.

        Returns:
            One energy per element (eV).

        Raises:
            UserError: If the energies do not determine the E0 of a new element.
        """
        stride = -(-len(frames) // REFIT_FRAMES)
        chosen = [frames[index] for index in range(0, len(frames), stride)]
        known = torch.tensor(self.model.atomic_numbers)
        # A frame with a new element cannot be predicted: all of its energy counts as its E0s.
        inside = [bool(torch.isin(frame.atomic_numbers, known).all()) for frame in chosen]
        energies = np.array([float(frame.energy) for frame in chosen])
        energies[inside] -= self._interaction_energies([frame for frame, ok in zip(chosen, inside, strict=True) if ok])
        counts = np.array([np.bincount(frame.node_types.numpy(), minlength=len(numbers)) for frame in chosen], float)
        labelled = np.isfinite(energies)
        counts, energies = counts[labelled], energies[labelled]
        open_ = [numbers[column] for column in undetermined_elements(counts) if numbers[column] in self.added]
        if open_:
            raise UserError(f"E0s=refit cannot determine {symbols(open_)}: give E0s={{symbol: eV}}, or isolated atoms.")
        change = np.linalg.lstsq(counts, energies - counts @ np.asarray(E0s), rcond=1e-8)[0]
        return [float(energy) for energy in np.asarray(E0s) + change]

    def _interaction_energies(self, frames: Sequence[AtomicData]) -> np.ndarray:
        """What the model says, less its E0s, shape [n_frames] (eV)."""
        renumbered = [self._graph(frame) for frame in frames]
        found = [prediction["interaction_energy"] for _, prediction in predict_batches(self.model, renumbered)]
        return torch.cat(found).detach().cpu().double().numpy() if found else np.zeros(0)

    def _graph(self, frame: AtomicData) -> AtomicData:
        """A frame whose element indices are those of this model."""
        copy: AtomicData = frame.clone()
        copy.node_types = torch.searchsorted(torch.tensor(self.model.atomic_numbers), frame.atomic_numbers)
        return copy

    def fill(self, model: MACE) -> None:
        """Give a model the weights, and tell what was done."""
        shared = transfer_weights(self.model, self.description, model)
        new = [number for number in model.atomic_numbers if number not in shared]
        left = [number for number in self.model.atomic_numbers if number not in shared]
        words = [f"start         {self.folder}, elements {symbols(shared)}"]
        words += [f"new with random weights: {symbols(new)}"] if new else []
        words += [f"left out: {symbols(left)}"] if left else []
        print("; ".join(words))


def find_start(config: DictConfig, request: Request, run: RunFolder) -> Start | None:
    """Open the model of `init=`, and make the configuration that of a training of it.

    Args:
        config: The checked configuration; its `model` is changed in place.
        request: What the user asked for.
        run: The run folder; where weights will come from its checkpoint, nothing is opened.

    Returns:
        The model; None without `init=` or when resumed.

    Raises:
        UserError: If there is no such model, or the run would remove it, a setting contradicts it, or one makes sense
            with `init=` only.
    """
    policy = config.data.get("E0s")
    if config.init is None:
        if policy in (KEEP, REFIT):
            raise UserError(f"E0s={policy} takes energies from a model: give init=FOLDER, or another E0s.")
        if config.add_elements:
            raise UserError("add_elements adds to the elements of a model: give init=FOLDER.")
        return None
    if run.checkpoint is not None:
        return None
    folder = find_model_folder(config.init)
    if run.overwrite and run.path.resolve() in (folder.resolve(), *folder.resolve().parents):
        raise UserError(f"init={config.init} lies in {run.path}, which overwrite=true clears: give another run=NAME.")
    description = read_description(folder)
    model = load_model(folder, dtype="float64")
    if len(model.heads) > 1:
        names = ", ".join(model.heads)
        raise UserError(f"{folder} has several heads ({names}): fine-tuning needs a model of one head.")
    added = [_number(name) for name in config.add_elements]
    if added and policy == KEEP:
        raise UserError(f"E0s={KEEP} has no energy for {symbols(added)}: use E0s={REFIT}, or give E0s={{symbol: eV}}.")
    _refuse_contradictions(config, request, description, folder)
    _fill_model(config, description)
    # Now: nobody knows whether the folder is still there when the training has come to its end.
    origin = {"name": Path(config.init).name, "sha256": hash_model(folder)}
    return Start(folder, model, description, added, origin)


def energies_given(config: DictConfig, start: Start | None) -> dict[str, float] | None:
    """What the data are told as E0s where they come from a model; None leaves it to `data.E0s`.

    New elements have no energy of their own before they are fitted. A configuration that is filled has them.

    Args:
        config: The configuration.
        start: The model that it starts from.
    """
    if config.data.get("E0s") not in (KEEP, REFIT):
        return None
    if start is None:
        pairs = list(zip(config.model.atomic_numbers, config.model.E0s, strict=True))
    else:
        pairs = list(zip(start.model.atomic_numbers, start.model.E0s.tolist(), strict=True))
        pairs += [(number, 0.0) for number in start.added]
    return {chemical_symbols[number]: float(energy) for number, energy in pairs}


def _number(name: Any) -> int:
    if str(name) not in number_of_symbol or str(name) == "X":
        raise UserError(f"add_elements: '{name}' is no element.{nearest(str(name), chemical_symbols[1:])}")
    return number_of_symbol[str(name)]


def _refuse_contradictions(config: DictConfig, request: Request, description: dict[str, Any], folder: Path) -> None:
    """Refuse settings of the user that are not those of the model."""
    asked = {} if request.complete else dict(leaves(request.file_body.get("model") or {}))
    asked |= dict(leaves(request.body.get("model") or {}))
    settings = description["hyperparameters"]
    for name, value in asked.items():
        if name in settings and name not in OF_ELEMENTS and value != settings[name]:
            raise UserError(f"{name}={value}, but {folder} has {name}={settings[name]}: leave it out with init=.")
    if "tensor_product" in {**request.file_choices, **request.choices}:
        for name, contract in PRODUCTS.items():
            target = config.model[name]["_target_"]
            family = description[name]["family"]
            if target != _target(family, contract):
                raise UserError(f"tensor_product: {folder} has the {name} '{family}': leave it out with init=.")


def _fill_model(config: DictConfig, description: dict[str, Any]) -> None:
    """Make `config.model` that of the folder, but for the elements, which the data say."""
    kept = {name: config.model[name] for name in OF_ELEMENTS if _is_given(config, name)}
    settings = {name: value for name, value in description["hyperparameters"].items() if name not in OF_ELEMENTS}
    products = {
        name: {
            "_target_": _target(description[name]["family"], contract),
            "_partial_": True,
            "kernel": "auto",
            **description[name]["options"],
        }
        for name, contract in PRODUCTS.items()
    }
    missing = dict.fromkeys(OF_ELEMENTS, "???")
    config.model = OmegaConf.create({"_target_": config.model["_target_"], **settings, **products, **missing, **kept})


def _is_given(config: DictConfig, name: str) -> bool:
    """Whether the configuration gives a value of the model itself."""
    return name in config.model and not OmegaConf.is_missing(config.model, name)


def _target(family: str, contract: Any) -> str:
    product = product_class(family, contract)
    return f"{product.__module__}.{product.__qualname__}"
