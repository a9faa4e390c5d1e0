"""Our side of a comparison: what `mace-gaunt train` and `mace-gaunt md` compute, without files, logs and progress.

Loaded by `worker.py`. `mace_torch.py` is the other side, with the same settings.
"""

import copy
from typing import Any

import ase.io
import torch
from hydra.utils import instantiate
from torch import Tensor

from mace_gaunt import __version__
from mace_gaunt.benchmark.peer.mace_model import convert
from mace_gaunt.data.atomic_data import AtomicData
from mace_gaunt.data.collate import collate
from mace_gaunt.data.labels import LabelKeys
from mace_gaunt.model.checkpoint import load_model
from mace_gaunt.model.compiled import compile_inference
from mace_gaunt.model.gradients import EdgeGradient, predict
from mace_gaunt.model.kernels import select_kernels, use_kernels, use_kernels_for_compiling
from mace_gaunt.model.mace import MACE
from mace_gaunt.simulation.calculator import MaceGauntCalculator
from mace_gaunt.tensor_products.selection import products_of
from mace_gaunt.training.compilation import choose_gradient
from mace_gaunt.training.groups import parameter_groups
from mace_gaunt.training.loss import WeightedLoss
from mace_gaunt.training.module import interaction_reference

MODEL_SETTINGS = (
    *("r_max", "num_bessel", "num_polynomial_cutoff", "max_ell", "max_L", "num_channels", "correlation"),
    *("num_interactions", "radial_MLP", "MLP_irreps", "gate"),
    *("atomic_numbers", "E0s", "avg_num_neighbors", "scale", "shift"),
)


class Backend:
    """A model with its batches.

    Args:
        settings: See `problem.side_settings`; here also "products", the two factories as a choice of the group
            tensor_product describes them, and "kernel".
    """

    def __init__(self, settings: dict[str, Any]) -> None:
        self.settings = settings
        self.device = torch.device(settings["device"])
        frames = [self._graph(atoms) for atoms in ase.io.read(settings["frames"], ":")]
        size = settings["batch_size"]
        self.batches = [collate(frames[i : i + size]).to(self.device) for i in range(0, len(frames), size)]
        self.num_batches = len(self.batches)
        self.model = build_model(settings).to(self.device)
        use_kernels(self.model, settings["kernel"])
        self.compiled = settings["variant"] == "compiled"
        self.gradient: EdgeGradient | None = None
        self.infer_gradient: EdgeGradient | None = None
        if self.compiled:
            use_kernels_for_compiling(self.model, self.device.type)
        else:
            self._select(self.model, training=True)
        self.infer_model = self._for_inference()
        self.loss = WeightedLoss(settings["energy_weight"], settings["forces_weight"])
        groups = parameter_groups(self.model)
        self.optimizer = torch.optim.Adam(
            groups, lr=settings["lr"], amsgrad=True, weight_decay=settings["weight_decay"]
        )
        self.average = [parameter.detach().clone() for parameter in self.model.parameters()]
        self.num_updates = 0

    def _graph(self, atoms: ase.Atoms) -> AtomicData:
        keys = LabelKeys("REF_energy", "REF_forces", None)
        return AtomicData.from_atoms(atoms, self.settings["r_max"], self.settings["atomic_numbers"], keys)

    def _select(self, model: MACE, training: bool) -> None:
        batch = self.batches[0]
        select_kernels(model, batch.node_types.shape[0], batch.edge_index.shape[1], training=training)

    def _for_inference(self) -> MACE:
        """The model with the kernels that are fastest for one derivative."""
        model = copy.deepcopy(self.model)
        if not self.compiled:
            self._select(model, training=False)
        return model

    def describe(self) -> dict[str, Any]:
        """What was built: sizes, kernels, version."""
        return {
            "parameters": sum(parameter.numel() for parameter in self.model.parameters()),
            "n_nodes": [batch.node_types.shape[0] for batch in self.batches],
            "n_edges": [batch.edge_index.shape[1] for batch in self.batches],
            "kernels": {
                what: {name: product.kernel_name for name, product in products_of(model)}
                for what, model in (("step", self.model), ("infer", self.infer_model))
            },
            "version": f"mace_gaunt {__version__}",
        }

    def step(self, index: int) -> Tensor:
        """One optimizer step: forces, loss, gradient, clipping, Adam, averaged weights; gives the loss."""
        batch = self.batches[index].to(self.device)
        gradient = self._compiled_gradient()
        self.optimizer.zero_grad(set_to_none=True)
        prediction = predict(self.model, batch, training=True, gradient=gradient)
        loss, _ = self.loss(prediction, batch, interaction_reference(self.model, batch))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.settings["clip_grad"])
        self.optimizer.step()
        self._update_average()
        return loss.detach()

    def _update_average(self) -> None:
        """As `training.callbacks.EMA`."""
        self.num_updates += 1
        decay = min(self.settings["ema_decay"], (1 + self.num_updates) / (10 + self.num_updates))
        torch._foreach_lerp_(self.average, [parameter.detach() for parameter in self.model.parameters()], 1 - decay)

    def _compiled_gradient(self) -> EdgeGradient | None:
        """The compiled gradient; on the first call it is made and compared with the eager one."""
        if self.compiled and self.gradient is None:
            self.gradient = choose_gradient("on", self.model, self.loss, self.batches[0], steps_left=0)
        return self.gradient

    def infer(self, index: int) -> float:
        """Energies and forces of a batch; gives the sum of the interaction energies."""
        batch = self.batches[index].to(self.device)
        if self.compiled and self.infer_gradient is None:
            self.infer_gradient = compile_inference(self.infer_model, batch)
        prediction = predict(self.infer_model, batch, gradient=self.infer_gradient)
        return float(prediction["interaction_energy"].sum())

    def calculator(self) -> MaceGauntCalculator:
        """The ASE calculator of the model."""
        return MaceGauntCalculator(
            self.infer_model, device=self.settings["device"], dtype=self.settings["dtype"], compile=self.compiled
        )

    def parts(self) -> dict[str, list[torch.nn.Module]]:
        """The modules of each part of the model."""
        interactions: list[Any] = list(self.model.interactions)
        products: list[Any] = list(self.model.products)
        return {
            "edge product": [layer.edge_product for layer in interactions],
            "node product": [layer.node_product for layer in products],
            "radial MLP": [layer.radial_mlp for layer in interactions],
            "Linear": [module for layer in interactions for module in (layer.linear_up, layer.linear, layer.skip)]
            + [layer.linear for layer in products],
        }


def build_model(settings: dict[str, Any]) -> MACE:
    """The potential: randomly initialised, the one of a model folder, or the converted MACE model."""
    if settings.get("model"):
        return load_model(settings["model"], dtype=settings["dtype"])
    if settings.get("mace"):
        model: MACE = convert(settings["mace"])
        return model.to(getattr(torch, settings["dtype"]))
    torch.manual_seed(settings["seed"])
    model = MACE(
        **instantiate(settings["products"]),
        **{name: settings[name] for name in MODEL_SETTINGS},
    )
    return model.to(getattr(torch, settings["dtype"]))
