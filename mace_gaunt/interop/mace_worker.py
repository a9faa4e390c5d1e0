"""Opens a pickled mace-torch model, and writes down what is in it: `python -P mace_worker.py FILE FOLDER`.

Runs in an environment with mace-torch and imports nothing of mace_gaunt. Unpickling runs code from the file. What is
written can be read without: config.json and state_dict.npz of the model, and inputs.npz and reference.npz, structures
with its energies, forces and stress in float64.
"""

import json
import logging
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
import numpy as np  # noqa: E402

MODELS = ("MACE", "ScaleShiftMACE")
RADIAL = {"BesselBasis": "bessel", "GaussianBasis": "gaussian", "ChebychevBasis": "chebyshev"}
TRANSFORMS = {"AgnesiTransform": "Agnesi", "SoftTransform": "Soft"}
SPACING = 1.9
"""Of the atoms that the model is tried on (Å)."""


def describe(model: Any) -> dict[str, Any]:
    """The settings of a model: what its state dict does not tell.

    Old models lack the attributes of later options, which are off then.
    """
    name = type(model).__name__
    if name not in MODELS:
        return {"cls": name}
    first, last, products = model.interactions[0], model.interactions[-1], model.products
    embedding = model.radial_embedding
    layers, readout = len(model.interactions), model.readouts[-1]
    heads = list(getattr(model, "heads", None) or ["Default"])
    neighbors = {float(interaction.avg_num_neighbors) for interaction in model.interactions}
    assert len(neighbors) == 1, "its layers have different avg_num_neighbors"
    return {
        "cls": name,
        "r_max": radius(model),
        "num_bessel": int(embedding.out_dim),
        "num_polynomial_cutoff": int(embedding.cutoff_fn.p),
        "max_ell": int(first.edge_attrs_irreps.lmax),
        "interaction_cls_first": type(first).__name__,
        "interaction_cls": type(last).__name__,
        "num_interactions": layers,
        "hidden_irreps": str(products[0].linear.irreps_out),
        "keep_last_layer_irreps": layers > 1 and len(products[-1].linear.irreps_out) > 1,
        "edge_irreps": None if str(last.edge_irreps) == str(last.node_feats_irreps) else str(last.edge_irreps),
        "MLP_irreps": f"{mlp_width(readout, len(heads))}x0e",
        "readout_cls": type(readout).__name__ if layers > 1 else None,
        "gate": gate_name(readout),
        "atomic_numbers": model.atomic_numbers.tolist(),
        "avg_num_neighbors": neighbors.pop(),
        "correlation": [order_of(product) for product in products],
        "radial_type": RADIAL.get(type(embedding.bessel_fn).__name__, type(embedding.bessel_fn).__name__),
        "distance_transform": transform_name(embedding),
        "radial_MLP": radial_widths(first),
        "apply_cutoff": bool(getattr(embedding, "apply_cutoff", True)),
        "pair_repulsion": hasattr(model, "pair_repulsion_fn"),
        "use_reduced_cg": bool(getattr(model, "use_reduced_cg", False)),
        "use_so3": bool(getattr(model, "use_so3", False)),
        "use_agnostic_product": bool(getattr(products[0], "use_agnostic_product", False)),
        "use_last_readout_only": len(model.readouts) < layers,
        "embedding_specs": getattr(model, "embedding_specs", None),
        "cueq_config": kernels_of(first),
        "heads": heads,
    }


def radius(model: Any) -> float:
    """The cutoff radius as it was given; a Gaussian basis keeps it in its width, in full precision."""
    basis = model.radial_embedding.bessel_fn
    if type(basis).__name__ == "GaussianBasis":
        return float((len(basis.gaussian_weights) - 1) * (-0.5 / basis.coeff) ** 0.5)
    return float(model.r_max)


def mlp_width(readout: Any, heads: int) -> int:
    """Hidden scalars per head of the last readout."""
    return int(readout.hidden_irreps.num_irreps) // heads if hasattr(readout, "hidden_irreps") else 16


def gate_name(readout: Any) -> str:
    """Name of the activation of the last readout."""
    acts = list(getattr(getattr(readout, "non_linearity", None), "acts", []))
    return "None" if not acts or acts[0] is None else getattr(acts[0].f, "__name__", str(acts[0].f))


def order_of(product: Any) -> int:
    """Highest order of a symmetric contraction."""
    return len(product.symmetric_contractions.contractions[0].weights) + 1


def transform_name(embedding: Any) -> str | None:
    """Name of the distance transform."""
    if not hasattr(embedding, "distance_transform"):
        return None
    name = type(embedding.distance_transform).__name__
    return TRANSFORMS.get(name, name)


def radial_widths(interaction: Any) -> list[int] | None:
    """Hidden widths of a radial network; None where it is of another kind, whose interaction is refused by name."""
    return list(getattr(interaction.conv_tp_weights, "hs", [None]))[1:-1] or None


def kernels_of(interaction: Any) -> dict[str, bool] | None:
    """Whether the weights are in the layout of a kernel library."""
    config = getattr(interaction, "cueq_config", None)
    return None if config is None or not config.enabled else {"enabled": True}


def probes(numbers: list[int]) -> list[ase.Atoms]:
    """A cluster with every element and a crystal."""
    rng = np.random.default_rng(0)
    side = int(np.ceil(max(len(numbers), 12) ** (1 / 3)))
    places = np.indices((side, side, side)).reshape(3, -1).T + rng.uniform(-0.15, 0.15, (side**3, 3))
    kinds = [numbers[index % len(numbers)] for index in range(side**3)]
    cell = SPACING * np.array([[2.0, 0.1, 0.0], [0.3, 2.1, 0.0], [-0.2, 0.4, 2.0]])
    corners = np.indices((2, 2, 2)).reshape(3, -1).T + rng.uniform(-0.1, 0.1, (8, 3))
    crystal = ase.Atoms(numbers=kinds[:8], positions=corners / 2 @ cell, cell=cell, pbc=True)
    return [ase.Atoms(numbers=kinds, positions=SPACING * places), crystal]


def evaluate(model: Any, atoms: ase.Atoms, head: int) -> dict[str, np.ndarray]:
    """Energy, node energies, forces and stress."""
    from mace import data  # type: ignore[import-not-found]
    from mace.tools import AtomicNumberTable, torch_geometric  # type: ignore[import-not-found]

    table = AtomicNumberTable([int(number) for number in model.atomic_numbers])
    graph = data.AtomicData.from_config(data.config_from_atoms(atoms), z_table=table, cutoff=float(model.r_max))
    batch = next(iter(torch_geometric.dataloader.DataLoader([graph], batch_size=1))).to_dict()
    batch["head"] = torch.tensor([head])
    result = model(batch, compute_stress=True)
    found = {name: result[name].detach().numpy() for name in ("energy", "node_energy", "forces")}
    return found | {"stress": result["stress"].detach().numpy() if atoms.pbc.all() else np.full((1, 3, 3), np.nan)}


def main() -> None:
    """Read the file, write the folder."""
    source, out = Path(sys.argv[1]), Path(sys.argv[2])
    model = torch.load(source, map_location="cpu", weights_only=False)
    config = describe(model)
    (out / "config.json").write_text(json.dumps({"config": config}, default=str))
    tensors = {name: value.detach().numpy() for name, value in model.state_dict().items()}
    np.savez(out / "state_dict.npz", **tensors)
    if config["cls"] not in MODELS:
        return
    torch.set_default_dtype(torch.float64)
    model = model.double().eval()
    frames = probes(config["atomic_numbers"])
    reference: dict[str, np.ndarray] = {}
    for index, head in enumerate(config["heads"]):
        results = [evaluate(model, atoms, index) for atoms in frames]
        prefix = "" if len(config["heads"]) == 1 else f"{head}/"
        reference |= {prefix + key: np.concatenate([one[key] for one in results]) for key in results[0]}
    np.savez(out / "reference.npz", **reference)  # type: ignore[arg-type]
    np.savez(
        out / "inputs.npz",
        n_atoms=[len(atoms) for atoms in frames],
        numbers=np.concatenate([atoms.numbers for atoms in frames]),
        positions=np.concatenate([atoms.positions for atoms in frames]),
        cell=np.stack([atoms.cell.array for atoms in frames]),
        pbc=np.stack([atoms.pbc for atoms in frames]),
    )


if __name__ == "__main__":
    main()
