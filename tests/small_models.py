"""Small models of every choice of families, and structures to try them on."""

import functools

import ase.build
import numpy as np
import torch
from ase import Atoms

from mace_gaunt.data.atomic_data import AtomicData
from mace_gaunt.model.mace import MACE
from mace_gaunt.tensor_products.clebsch_gordan import ClebschGordanEdgeProduct, ClebschGordanNodeProduct
from mace_gaunt.tensor_products.gaunt import GauntEdgeProduct, GauntNodeProduct
from mace_gaunt.tensor_products.gaunt_mix import GauntMixEdgeProduct, GauntMixNodeProduct
from mace_gaunt.tensor_products.matrix import MatrixEdgeProduct, MatrixNodeProduct
from mace_gaunt.tensor_products.vector_gaunt import VectorGauntEdgeProduct, VectorGauntNodeProduct

CHOICES = {
    "gaunt": (GauntEdgeProduct, GauntNodeProduct),
    "clebsch_gordan": (ClebschGordanEdgeProduct, ClebschGordanNodeProduct),
    "cg_edge_gaunt_node": (ClebschGordanEdgeProduct, GauntNodeProduct),
    "gaunt_edge_cg_node": (GauntEdgeProduct, ClebschGordanNodeProduct),
    "gaunt_mix": (GauntMixEdgeProduct, GauntMixNodeProduct),
    "vector_gaunt": (VectorGauntEdgeProduct, VectorGauntNodeProduct),
    "matrix": (MatrixEdgeProduct, MatrixNodeProduct),
    # Pseudo-tensors made by one product are carried along by the other.
    "vector_gaunt_edge_gaunt_node": (VectorGauntEdgeProduct, GauntNodeProduct),
    "cg_pseudo_edge_cg_node": (functools.partial(ClebschGordanEdgeProduct, pseudo=True), ClebschGordanNodeProduct),
}
ELEMENTS = [1, 6, 8]


def build(choice="gaunt", seed=0, **changes) -> MACE:
    """A small float64 model with lively random weights."""
    torch.manual_seed(seed)
    edge_product, node_product = CHOICES[choice]
    settings = {
        "r_max": 4.0,
        "num_channels": 4,
        "max_L": 1,
        "radial_MLP": [8, 8],
        "atomic_numbers": ELEMENTS,
        "E0s": [-13.6, -1029.5, -2041.9],
        "avg_num_neighbors": 5.0,
        "scale": 0.9,
        "shift": -4.8,
    }
    products = {"edge_product": functools.partial(edge_product), "node_product": functools.partial(node_product)}
    return MACE(**(settings | products | changes)).double()


def molecule(seed=0) -> Atoms:
    """Ethanol, displaced."""
    atoms = ase.build.molecule("CH3CH2OH")
    atoms.positions += np.random.default_rng(seed).normal(scale=0.1, size=(len(atoms), 3))
    return atoms


def crystal(seed=0) -> Atoms:
    """Six atoms in a small skewed periodic cell."""
    rng = np.random.default_rng(seed)
    cell = np.array([[4.1, 0.2, 0.1], [1.1, 3.9, -0.3], [0.4, 0.6, 4.4]])
    scaled = np.array([[0, 0, 0], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5], [0.25, 0.25, 0.25], [0.75, 0.7, 0.8]])
    atoms = Atoms("C2O2H2", cell=cell, scaled_positions=scaled, pbc=True)
    atoms.positions += rng.normal(scale=0.1, size=(6, 3))
    return atoms


def graph(atoms: Atoms, model: MACE) -> AtomicData:
    """The structure as the model takes it."""
    return AtomicData.from_atoms(atoms, model.r_max, model.atomic_numbers)
