"""The other side of a comparison: mace-torch, as its own commands build, train and run a model.

Loaded by `worker.py` in the environment that scripts/make_peer_env.sh makes; `own.py` is our side. Defaults are those
of mace-torch's `mace_run_train`: residual interaction blocks, weighted loss, Adam with AMSGrad, gradients clipped at
10; averaged weights as in its recipe for 3BPA.
"""

import argparse
import importlib.metadata
import json
import logging
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch

warnings.simplefilter("ignore")
logging.disable(logging.WARNING)
# e3nn 0.4.4 keeps a slice among its constants, which torch.load refuses from torch 2.6 on.
torch.serialization.add_safe_globals([slice])

import ase.io  # noqa: E402
from e3nn import o3  # noqa: E402
from mace import data, modules, tools  # type: ignore[import-not-found]  # noqa: E402
from mace.calculators import MACECalculator  # type: ignore[import-not-found]  # noqa: E402
from mace.tools import compile as mace_compile  # type: ignore[import-not-found]  # noqa: E402
from mace.tools import torch_geometric  # noqa: E402
from mace.tools.scripts_utils import (  # type: ignore[import-not-found]  # noqa: E402
    extract_model,
    get_params_options,
)
from mace.tools.train import take_step  # type: ignore[import-not-found]  # noqa: E402
from torch_ema import ExponentialMovingAverage  # type: ignore[import-not-found]  # noqa: E402

OUTPUTS = {"forces": True, "virials": False, "stress": False}
BLOCK = modules.interaction_classes["RealAgnosticResidualInteractionBlock"]


class Backend:
    """A model with its batches.

    Args:
        settings: See `problem.side_settings`. Its "variant" is eager, compiled, or one of the kernel libraries cueq and
            oeq, into whose layout mace-torch converts the model.
    """

    def __init__(self, settings: dict[str, Any]) -> None:
        self.settings = settings
        self.variant = settings["variant"]
        self.device = torch.device(settings["device"])
        torch.set_default_dtype(getattr(torch, settings["dtype"]))
        self.batches = self._batches(ase.io.read(settings["frames"], ":"))
        self.num_batches = len(self.batches)
        self.model = build_model(settings).to(self.device)
        self.plain = self.model
        if self.variant == "compiled":
            # As mace-torch's calculator and tests compile: e3nn without TorchScript, forces inside the graph.
            self.plain = mace_compile.prepare(extract_model)(model=self.model, map_location=str(self.device))
            self.model = torch.compile(self.plain, dynamic=True, fullgraph=True)
            for batch in self.batches:
                # What is differentiated inside the graph must require a gradient outside; its calculator does so too.
                batch["positions"].requires_grad_(True)
                batch["node_attrs"].requires_grad_(True)
        elif self.variant != "eager":
            self.plain = self.model = converter(self.variant)(self.model, device=str(self.device)).to(self.device)
        self.loss = modules.WeightedEnergyForcesLoss(settings["energy_weight"], settings["forces_weight"])
        self.optimizer = torch.optim.Adam(**get_params_options(self._training_options(), self.plain))
        self.average = ExponentialMovingAverage(self.plain.parameters(), decay=settings["ema_decay"])

    def _batches(self, frames: Any) -> list[Any]:
        keys = data.KeySpecification(info_keys={"energy": "REF_energy"}, arrays_keys={"forces": "REF_forces"})
        table = tools.AtomicNumberTable(self.settings["atomic_numbers"])
        configs = [data.config_from_atoms(atoms, key_specification=keys) for atoms in frames]
        graphs = [data.AtomicData.from_config(c, z_table=table, cutoff=self.settings["r_max"]) for c in configs]
        size = self.settings["batch_size"]
        groups = [graphs[i : i + size] for i in range(0, len(graphs), size)]
        return [torch_geometric.Batch.from_data_list(group).to(self.device) for group in groups]

    def _training_options(self) -> argparse.Namespace:
        settings = self.settings
        return argparse.Namespace(
            lr=settings["lr"],
            weight_decay=settings["weight_decay"],
            amsgrad=True,
            beta=0.9,
            freeze=None,
            lr_params_factors=json.dumps({}),
        )

    def describe(self) -> dict[str, Any]:
        """What was built: sizes and versions."""
        versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("mace-torch", "e3nn"))
        return {
            "parameters": sum(parameter.numel() for parameter in self.plain.parameters()),
            "n_nodes": [batch.positions.shape[0] for batch in self.batches],
            "n_edges": [batch.edge_index.shape[1] for batch in self.batches],
            "version": versions,
        }

    def step(self, index: int) -> torch.Tensor:
        """One optimizer step by mace-torch's own function; gives the loss."""
        for parameter in self.plain.parameters():
            parameter.requires_grad_(True)
        loss, _ = take_step(
            model=self.model,
            loss_fn=self.loss,
            batch=self.batches[index],
            optimizer=self.optimizer,
            ema=self.average,
            output_args=OUTPUTS,
            max_grad_norm=self.settings["clip_grad"],
            device=self.device,
        )
        return loss.detach()

    def infer(self, index: int) -> float:
        """Energies and forces of a batch, as its validation computes them; gives the sum of interaction energies."""
        compiled = self.variant == "compiled"
        for parameter in self.plain.parameters():
            # Compiled, the calculator asks for the differentiable forces too: one graph for both.
            parameter.requires_grad_(compiled)
        batch = self.batches[index].to(self.device)
        output = self.model(batch.to_dict(), training=compiled, compute_force=True)
        return float(output["interaction_energy"].detach().sum())

    def calculator(self) -> Any:
        """The ASE calculator of the model."""
        settings = self.settings
        return MACECalculator(
            models=build_model(settings),
            device=settings["device"],
            default_dtype=settings["dtype"],
            compile_mode="default" if self.variant == "compiled" else None,
            enable_cueq=self.variant == "cueq",
            enable_oeq=self.variant == "oeq",
        )

    def parts(self) -> dict[str, list[torch.nn.Module]]:
        """The modules of each part of the model."""
        interactions, products = list(self.plain.interactions), list(self.plain.products)
        return {
            "edge product": [layer.conv_tp for layer in interactions],
            "node product": [layer.symmetric_contractions for layer in products],
            "radial MLP": [layer.conv_tp_weights for layer in interactions],
            "Linear": [module for layer in interactions for module in (layer.linear_up, layer.linear, layer.skip_tp)]
            + [layer.linear for layer in products],
        }


def converter(variant: str) -> Any:
    """mace-torch's converter of a model to a kernel library."""
    if variant == "cueq":
        from mace.cli.convert_e3nn_cueq import run  # type: ignore[import-not-found]
    else:
        from mace.cli.convert_e3nn_oeq import run  # type: ignore[import-not-found]
    return run


def read_model(folder: Path) -> Any:
    """The potential of config.json and state_dict.npz, in the default precision."""
    config = json.loads((folder / "config.json").read_text())["config"]
    kind = getattr(modules, config.pop("cls", None) or "ScaleShiftMACE")
    config = {name: value for name, value in config.items() if value is not None and name != "seed"}
    for name in ("interaction_cls", "interaction_cls_first"):
        config[name] = modules.interaction_classes[config[name]]
    for name in ("hidden_irreps", "MLP_irreps"):
        irreps = config[name]
        config[name] = o3.Irreps(irreps if isinstance(irreps, str) else [(mul, tuple(ir)) for mul, ir in irreps])
    if "readout_cls" in config:
        config["readout_cls"] = modules.readout_classes[config["readout_cls"]]
    config["gate"] = modules.gate_dict[config.get("gate", "None")]
    config["num_elements"] = len(config["atomic_numbers"])
    config["atomic_energies"] = np.array(config["atomic_energies"])
    config["num_polynomial_cutoff"] = int(config["num_polynomial_cutoff"])
    model = kind(**config)
    with np.load(folder / "state_dict.npz") as tensors:
        # Flags that later versions store are those of the new model.
        model.load_state_dict({**model.state_dict(), **{name: torch.as_tensor(tensors[name]) for name in tensors}})
    return model


def build_model(settings: dict[str, Any]) -> Any:
    """The potential: randomly initialised, or of a config and a state dict."""
    if settings.get("mace"):
        return read_model(Path(settings["mace"]))
    torch.manual_seed(settings["seed"])
    hidden = o3.Irreps([(settings["num_channels"], (l, (-1) ** l)) for l in range(settings["max_L"] + 1)])
    return modules.ScaleShiftMACE(
        r_max=settings["r_max"],
        num_bessel=settings["num_bessel"],
        num_polynomial_cutoff=settings["num_polynomial_cutoff"],
        max_ell=settings["max_ell"],
        interaction_cls=BLOCK,
        interaction_cls_first=BLOCK,
        num_interactions=settings["num_interactions"],
        num_elements=len(settings["atomic_numbers"]),
        hidden_irreps=hidden,
        MLP_irreps=o3.Irreps(settings["MLP_irreps"]),
        atomic_energies=np.array(settings["E0s"]),
        avg_num_neighbors=settings["avg_num_neighbors"],
        atomic_numbers=settings["atomic_numbers"],
        correlation=settings["correlation"],
        gate=modules.gate_dict[settings["gate"]],
        radial_MLP=settings["radial_MLP"],
        # False as the command's default has it; the class's own default differs.
        use_reduced_cg=False,
        atomic_inter_scale=settings["scale"],
        atomic_inter_shift=settings["shift"],
    )
