"""Small random mace-torch models with their energies, forces and stress: tests/fixtures/mace.

Run it in the environment with mace-torch: .venv-peer/bin/python scripts/make_mace_cases.py tests/fixtures/mace

Every case has settings that the others lack. Weights are random and then rescaled until every order of every layer
changes the forces (else a wrong one could pass unseen), and rounded to half precision, which keeps the files small.
With --channels and --inputs the same cases are made larger, for checks by hand. Layout of a case: config.json,
state_dict.npz (or .pt.gz), reference.npz; inputs.npz of all cases lies beside them.
"""

import argparse
import gzip
import io
import json
import logging
import shutil
import sys
import warnings
from pathlib import Path
from typing import Any

warnings.simplefilter("ignore")
logging.disable(logging.WARNING)

import torch  # noqa: E402

# e3nn 0.4.4 keeps a slice among its constants, which torch.load refuses from torch 2.6 on.
torch.serialization.add_safe_globals([slice])

import ase  # noqa: E402
import ase.build  # noqa: E402
import numpy as np  # noqa: E402
from e3nn import o3  # noqa: E402
from mace import data, modules  # noqa: E402
from mace.tools import AtomicNumberTable, torch_geometric  # noqa: E402

TARGET = 0.3
"""How much leaving out an order of a layer shall change the forces (eV/Å)."""
BLOCK = "RealAgnostic{}InteractionBlock"

COMMON: dict[str, Any] = {
    "cls": "ScaleShiftMACE",
    "r_max": 3.5,
    "num_bessel": 4,
    "num_polynomial_cutoff": 5,
    "max_ell": 2,
    "interaction_cls_first": BLOCK.format("Residual"),
    "interaction_cls": BLOCK.format("Residual"),
    "num_interactions": 2,
    "hidden_irreps": "Cx0e+Cx1o",
    "MLP_irreps": "4x0e",
    "atomic_numbers": [1, 6, 8],
    "atomic_energies": [-13.6, -1029.5, -2042.0],
    "avg_num_neighbors": 6.3,
    "correlation": 2,
    "gate": "silu",
    "pair_repulsion": False,
    "distance_transform": "None",
    "radial_MLP": [4],
    "radial_type": "bessel",
    "use_reduced_cg": False,
    "atomic_inter_scale": 0.8,
    "atomic_inter_shift": -0.21,
}
CASES: dict[str, dict[str, Any]] = {
    "plain_one_layer": {
        "cls": "MACE",
        "num_interactions": 1,
        "interaction_cls_first": BLOCK.format(""),
        "max_ell": 1,
        "correlation": 4,
        "pair_repulsion": True,
        "num_polynomial_cutoff": 6.0,
        "distance_transform": None,
    },
    "density_agnesi_heads": {
        "interaction_cls_first": BLOCK.format("Density"),
        "interaction_cls": BLOCK.format("DensityResidual"),
        "distance_transform": "Agnesi",
        "pair_repulsion": True,
        "gate": "tanh",
        "heads": ["pbe", "Default"],
        "atomic_energies": [[-13.6, -1029.5, -2042.0], [-0.1, 0.2, 0.3]],
        "atomic_inter_scale": [0.8, 1.3],
        "atomic_inter_shift": [-0.21, 0.4],
        "correlation": [3, 2],
    },
    "soft_gaussian_gap": {
        "hidden_irreps": "Cx0e+Cx2e",
        "radial_type": "gaussian",
        "distance_transform": "Soft",
        "gate": "abs",
        "num_interactions": 3,
        "correlation": [2, 1, 3],
        "atomic_numbers": [8, 1, 6],
        "atomic_energies": [[-2042.0, -13.6, -1029.5], [0.3, -0.1, 0.2]],
        "heads": ["a", "b"],
        "atomic_inter_scale": [1.1, 0.7],
        "atomic_inter_shift": [0.0, 0.1],
    },
    "cutoff_on_weights": {
        "apply_cutoff": False,
        "use_last_readout_only": True,
        "use_agnostic_product": True,
        "interaction_cls_first": BLOCK.format("DensityResidual"),
        "interaction_cls": BLOCK.format("Density"),
        "gate": "None",
        "max_ell": 3,
    },
    "agnostic_later": {
        "interaction_cls_first": BLOCK.format(""),
        "interaction_cls": BLOCK.format(""),
        "hidden_irreps": "Cx0e+Cx2e+Cx1o",
        "use_reduced_cg": True,
        "MLP_irreps": "2x0e+1x0e",
    },
    "order_4": {"max_ell": 1, "correlation": 4, "use_reduced_cg": True, "MLP_irreps": [[4, [0, 1]]]},
    "max_ell_4": {"max_ell": 4, "hidden_irreps": [["C", [0, 1]], ["C", [1, -1]], ["C", [2, 1]]]},
    "made_in_float32": {
        "hidden_irreps": "Cx0e",
        "r_max": 3.7,
        "pair_repulsion": True,
        "distance_transform": "Agnesi",
        "atomic_inter_scale": 0.77,
    },
}
WITHOUT_TABLES = ("plain_one_layer", "density_agnesi_heads", "soft_gaussian_gap", "max_ell_4", "cutoff_on_weights")
"""Cases whose U_matrix buffers are left out: they are large, and must be made again."""


def fill(value: Any, channels: int) -> Any:
    """The number of channels in the place of C."""
    if isinstance(value, str):
        return value.replace("Cx", f"{channels}x")
    if isinstance(value, list):
        return [channels if item == "C" else fill(item, channels) for item in value]
    return value


def read_irreps(value: Any) -> o3.Irreps:
    """Irreps of a string or a list."""
    return o3.Irreps(value) if isinstance(value, str) else o3.Irreps([(mul, tuple(irrep)) for mul, irrep in value])


def build(config: dict[str, Any]) -> torch.nn.Module:
    """The model of a config, randomly initialised."""
    settings = dict(config)
    kind = getattr(modules, settings.pop("cls"))
    settings["gate"] = modules.gate_dict[str(settings["gate"])]
    for name in ("interaction_cls", "interaction_cls_first"):
        settings[name] = modules.interaction_classes[settings[name]]
    for name in ("hidden_irreps", "MLP_irreps"):
        settings[name] = read_irreps(settings[name])
    settings["num_elements"] = len(settings["atomic_numbers"])
    settings["atomic_energies"] = np.array(settings["atomic_energies"])
    settings["distance_transform"] = str(settings["distance_transform"])
    settings["num_polynomial_cutoff"] = int(settings["num_polynomial_cutoff"])
    if kind is modules.MACE:
        for name in ("atomic_inter_scale", "atomic_inter_shift"):
            settings.pop(name)
    return kind(**settings)


def structures() -> list[ase.Atoms]:
    """A molecule, a crystal in a small skewed cell, close and distant dimers, an isolated atom."""
    rng = np.random.default_rng(5)
    molecule = ase.build.molecule("CH3CH2OH")
    molecule.positions += rng.normal(scale=0.1, size=(len(molecule), 3))
    cell = np.array([[3.1, 0.2, 0.1], [1.1, 3.3, -0.3], [0.4, 0.6, 3.4]])
    scaled = [[0, 0, 0], [0.5, 0.45, 0.1], [0.45, 0.1, 0.6]]
    crystal = ase.Atoms("COH", cell=cell, scaled_positions=scaled, pbc=True)
    close = ase.Atoms("CO", [[0.1, 0, 0], [0.1, 0, 0.7]])
    distant = ase.Atoms("OH", [[0, 0, 0], [0, 3.4, 0]])
    return [molecule, crystal, close, distant, ase.Atoms("C", [[0.0, 0.0, 0.0]])]


def evaluate(model: torch.nn.Module, atoms: ase.Atoms, head: int) -> dict[str, np.ndarray]:
    """Energy, node energies, forces and stress by mace-torch."""
    table = AtomicNumberTable([int(number) for number in model.atomic_numbers])
    graph = data.AtomicData.from_config(data.config_from_atoms(atoms), z_table=table, cutoff=float(model.r_max))
    batch = next(iter(torch_geometric.dataloader.DataLoader([graph], batch_size=1))).to_dict()
    batch["head"] = torch.tensor([head])
    result = model(batch, compute_stress=True)
    found = {name: result[name].detach().numpy() for name in ("energy", "node_energy", "forces")}
    stress = result["stress"].detach().numpy() if atoms.pbc.all() else np.full((1, 3, 3), np.nan)
    return found | {"stress": stress}


def orders_of(model: torch.nn.Module) -> dict[str, list[torch.nn.Parameter]]:
    """The weights of every order of every layer's contractions."""
    found: dict[str, list[torch.nn.Parameter]] = {}
    for layer, product in enumerate(model.products):
        for contraction in product.symmetric_contractions.contractions:
            weights = [contraction.weights_max, *contraction.weights]
            for position, weight in enumerate(weights):
                found.setdefault(f"layer{layer} order{len(weights) - position}", []).append(weight)
    return found


def force_change(model: torch.nn.Module, weights: list[torch.nn.Parameter], atoms: ase.Atoms) -> float:
    """How much the forces change without some weights (eV/Å)."""
    before = evaluate(model, atoms, 0)["forces"]
    kept = [weight.data.clone() for weight in weights]
    for weight in weights:
        weight.data.zero_()
    after = evaluate(model, atoms, 0)["forces"]
    for weight, values in zip(weights, kept, strict=True):
        weight.data.copy_(values)
    return float(np.abs(after - before).max())


def rescale(model: torch.nn.Module, atoms: ase.Atoms, *, rounded: bool) -> dict[str, float]:
    """Make every order matter; returns how much each one does."""
    groups = orders_of(model)
    for interaction in model.interactions:
        # Larger messages, so that high orders of them do not need huge weights.
        interaction.linear.weight.data.mul_(4.0)
    for _ in range(6):
        for weights in groups.values():
            factor = np.clip((TARGET / max(force_change(model, weights, atoms), 1e-12)) ** 0.7, 0.2, 50.0)
            for weight in weights:
                weight.data.mul_(factor)
    for parameter in model.parameters() if rounded else []:
        parameter.data.copy_(parameter.data.half())
        assert parameter.isfinite().all(), "a weight is beyond half precision"
    return {name: force_change(model, weights, atoms) for name, weights in groups.items()}


def make_case(name: str, channels: int, folder: Path, *, small: bool) -> None:
    """Write one case; in a small one weights are in half precision, and large tables left out."""
    config = {key: fill(value, channels) for key, value in (COMMON | CASES[name]).items()}
    if config["cls"] == "MACE":
        del config["atomic_inter_scale"], config["atomic_inter_shift"]
        model_config = config | {"atomic_inter_scale": 1.0, "atomic_inter_shift": 0.0}
    else:
        model_config = config
    torch.manual_seed(list(CASES).index(name))
    torch.set_default_dtype(torch.float32 if name == "made_in_float32" else torch.float64)
    model = build(model_config)
    torch.set_default_dtype(torch.float64)
    model.double()
    frames = structures()
    sensitivity = rescale(model, frames[0], rounded=small)
    heads = config.get("heads", ["Default"])
    reference = {}
    for index, head in enumerate(heads):
        results = [evaluate(model, atoms, index) for atoms in frames]
        prefix = "" if len(heads) == 1 else f"{head}/"
        reference |= {prefix + key: np.concatenate([one[key] for one in results]) for key in results[0]}
    folder.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(folder / "reference.npz", **reference)
    write_tensors(model, folder, small=small, without_tables=small and name in WITHOUT_TABLES)
    description = {"config": config, "force_change_without": sensitivity}
    (folder / "config.json").write_text(json.dumps(description, indent=1) + "\n")
    print(name, {key: round(value, 3) for key, value in sensitivity.items()})


def write_tensors(model: torch.nn.Module, folder: Path, *, small: bool, without_tables: bool) -> None:
    """The state dict without what is empty or always the same."""
    parameters = {name for name, _ in model.named_parameters()}
    left_out = ("output_mask", "_w3j_", *(["U_matrix"] if without_tables else []))
    tensors = {
        name: (value.half() if small and name in parameters else value).contiguous()
        for name, value in model.state_dict().items()
        if value.numel() and not any(part in name for part in left_out)
    }
    if any("U_matrix" in name for name in tensors):
        arrays = {name: value.numpy() for name, value in tensors.items()}
        np.savez_compressed(folder / "state_dict.npz", **arrays)
    else:
        raw = io.BytesIO()
        torch.save(tensors, raw)
        (folder / "state_dict.pt.gz").write_bytes(gzip.compress(raw.getvalue(), mtime=0))


def main() -> None:
    """Write all cases, or those that are named."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--channels", type=int, default=2)
    parser.add_argument("--only", nargs="*", choices=list(CASES), default=list(CASES))
    parser.add_argument("--inputs", action="store_true", help="inputs.npz in every case, full precision, all tables")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    frames = structures()
    np.savez_compressed(
        options.out / "inputs.npz",
        n_atoms=[len(atoms) for atoms in frames],
        numbers=np.concatenate([atoms.numbers for atoms in frames]),
        positions=np.concatenate([atoms.positions for atoms in frames]),
        cell=np.stack([atoms.cell.array for atoms in frames]),
        pbc=np.stack([atoms.pbc for atoms in frames]),
    )
    for name in options.only:
        make_case(name, options.channels, options.out / name, small=not options.inputs)
        if options.inputs:
            shutil.copy(options.out / "inputs.npz", options.out / name)


if __name__ == "__main__":
    sys.exit(main())
