"""The problem that all sides are given: the same structures, and the same settings of model and training."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ase
import ase.io
import numpy as np
from ase import units
from ase.md.velocitydistribution import Stationary

from mace_gaunt.benchmark.peer.mace_model import elements_of
from mace_gaunt.benchmark.peer.settings import MdSettings, Settings, Size, StepSettings
from mace_gaunt.data.atomic_data import AtomicData
from mace_gaunt.data.bundled import bundled_path
from mace_gaunt.data.labels import LabelKeys
from mace_gaunt.data.readers import Frames, read_frames
from mace_gaunt.data.statistics import Statistics, compute_statistics
from mace_gaunt.data.threebpa import WHERE_TO_GET, find_root, list_splits
from mace_gaunt.errors import UserError
from mace_gaunt.simulation.structures import read_structure

FRAMES_FILE = "frames.extxyz"
SPLIT = "train_300K"
GAP = 3.0
"""Room between the copies of a molecule (Å)."""
STILL = 1e-6
"""Scale of the interaction energy in molecular dynamics (eV): both sides fly the same way, whatever their weights."""

SIZE_KEYS = ("num_channels", "max_L", "max_ell")
MODEL_KEYS = ("correlation", "num_interactions", "r_max", "seed")
MACHINE_KEYS = ("threads", "dtype", "device", "memory")
FIXED = {
    # What both programs have as the default; their radial networks, readouts and gates are the same.
    "num_bessel": 8,
    "num_polynomial_cutoff": 5,
    "radial_MLP": [64, 64, 64],
    "MLP_irreps": "16x0e",
    "gate": "silu",
    # A training on 3BPA as mace-torch's recipe has it.
    "lr": 0.01,
    "weight_decay": 5e-7,
    "clip_grad": 10.0,
    "ema_decay": 0.99,
    "energy_weight": 1.0,
    "forces_weight": 100.0,
}


def training_problem(settings: StepSettings, size: Size, folder: Path) -> dict[str, Any]:
    """Batches of labelled structures.

    Elements, E0s and mean number of neighbours are of as many structures as the largest problem has, so that models of
    all problems differ in their sizes only.

    Args:
        settings: The request.
        size: Which of its problems.
        folder: Where the file of the structures is written.

    Returns:
        What `side_settings` gives.

    Raises:
        UserError: If the data cannot be read, have too few structures, or lack energies or forces.
    """
    frames = find_frames(settings.data)
    largest = max(settings.batch_size)
    most = largest * settings.batches
    if len(frames) < most:
        raise UserError(
            f"{frames.path} has {len(frames)} structures; batch_size={largest} batches={settings.batches} take {most}."
        )
    frames = frames.select(frames.name, range(most))
    graphs = build_graphs(frames, settings.r_max)
    for graph, index in zip(graphs, frames.indices, strict=True):
        if not (graph.energy.isfinite().all() and graph.forces.isfinite().all()):
            raise UserError(f"{frames.path}, frame {index} lacks an energy or forces; a step needs both.")
    labelled = [plain(atoms, graph) for atoms, graph in zip(frames.atoms, graphs, strict=True)]
    wanted = size.count * settings.batches
    ase.io.write(folder / FRAMES_FILE, labelled[:wanted], format="extxyz")
    statistics = compute_statistics(graphs, *fit_elements(graphs))
    return side_settings(settings, size, statistics, folder, graphs[:wanted], size.count)


def find_frames(data: str) -> Frames:
    """The structures of a data set by its name, or of a file."""
    if data not in ("3bpa", "3bpa_xtb"):
        return read_frames(data)
    root = find_root("bundled" if data == "3bpa_xtb" else None)
    splits = list_splits(root)
    if SPLIT not in splits:
        raise UserError(f"no split {SPLIT} in {root}. {WHERE_TO_GET}")
    return read_frames(splits[SPLIT])


def build_graphs(frames: Frames, r_max: float) -> list[AtomicData]:
    """Graphs with labels, for the elements of these structures."""
    numbers = elements(frames.atoms)
    return [AtomicData.from_atoms(atoms, r_max, numbers, LabelKeys()) for atoms in frames.atoms]


def elements(structures: list[ase.Atoms]) -> list[int]:
    """Atomic numbers, sorted."""
    return sorted({int(number) for atoms in structures for number in atoms.numbers})


def plain(atoms: ase.Atoms, graph: AtomicData) -> ase.Atoms:
    """A structure whose labels are where both programs are told to look."""
    bare = ase.Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
    bare.info["REF_energy"] = float(graph.energy)
    bare.arrays["REF_forces"] = graph.forces.numpy()
    return bare


def fit_elements(graphs: list[AtomicData]) -> tuple[list[int], list[float]]:
    """Elements and their energies (eV) by least squares; isolated atoms are not needed to measure times."""
    numbers = sorted({int(number) for graph in graphs for number in graph.atomic_numbers})
    counts = np.array([[int((graph.atomic_numbers == number).sum()) for number in numbers] for graph in graphs])
    energies = np.array([float(graph.energy) for graph in graphs])
    return numbers, np.linalg.lstsq(counts.astype(float), energies, rcond=None)[0].tolist()


def box_problem(settings: MdSettings, size: Size, folder: Path) -> dict[str, Any]:
    """One structure, moving.

    Args:
        settings: The request.
        size: Which of its problems.
        folder: Where the file of the structure is written.

    Returns:
        What `side_settings` gives.

    Raises:
        UserError: If the structure cannot be read.
    """
    path = settings.structure or str(bundled_path("3bpa_xtb") / f"{SPLIT}.xyz.gz")
    atoms = make_box(read_structure(path, settings.index), size.count)
    atoms.set_momenta(thermal_momenta(atoms, settings.temperature_K, settings.seed))
    Stationary(atoms)
    ase.io.write(folder / FRAMES_FILE, atoms, format="extxyz")
    numbers = elements([atoms])
    if settings.mace is not None:
        numbers = elements_of(settings.mace, numbers)
    graph = AtomicData.from_atoms(atoms, settings.r_max, numbers)
    neighbors = max(1.0, graph.edge_index.shape[1] / len(atoms))
    statistics = Statistics(numbers, [0.0] * len(numbers), neighbors, scale=STILL, shift=0.0)
    mace = None if settings.mace is None else str(Path(settings.mace).expanduser().absolute())
    own = {"timestep_fs": settings.timestep_fs, "mace": mace}
    return {**side_settings(settings, size, statistics, folder, [graph], 1), **own}


def make_box(atoms: ase.Atoms, repeat: int) -> ase.Atoms:
    """Copies along each axis; a structure that is not periodic in all directions first gets a box with a gap around."""
    bare = ase.Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
    if repeat == 1:
        return bare
    if not bare.pbc.all():
        bare.center(vacuum=GAP / 2)
        bare.pbc = True
    return bare.repeat(repeat)


def thermal_momenta(atoms: ase.Atoms, temperature: float, seed: int) -> np.ndarray:
    """Maxwell-Boltzmann momenta, shape [n_nodes, 3] (ASE's units)."""
    spread = np.sqrt(atoms.get_masses() * units.kB * temperature)
    return np.random.default_rng(seed).standard_normal((len(atoms), 3)) * spread[:, None]


def side_settings(
    settings: Settings,
    size: Size,
    statistics: Statistics,
    folder: Path,
    graphs: Sequence[AtomicData],
    batch_size: int,
) -> dict[str, Any]:
    """What every side's back end is built from, except its variant and kernels.

    Returns:
        JSON values: "frames" (file), "batch_size", mean "nodes" and "edges" of a batch, hyperparameters and statistics
        by their names, "threads", "dtype", "device", "memory" (GB or None), "seed", and what is fixed.
    """
    n_batches = len(graphs) // batch_size
    return {
        **FIXED,
        **{name: getattr(size, name) for name in SIZE_KEYS},
        **{name: getattr(settings, name) for name in MODEL_KEYS + MACHINE_KEYS},
        "nodes": sum(graph.node_types.shape[0] for graph in graphs) / n_batches,
        "edges": sum(graph.edge_index.shape[1] for graph in graphs) / n_batches,
        "atomic_numbers": statistics.atomic_numbers,
        "E0s": statistics.E0s,
        "avg_num_neighbors": statistics.avg_num_neighbors,
        "scale": statistics.scale,
        "shift": statistics.shift,
        "frames": str(folder / FRAMES_FILE),
        "batch_size": batch_size,
    }
