"""Our models in torch-sim: its own validation, equality with our calculator, batched equals single."""

import importlib
import sys

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, fcc111
from ase.optimize import FIRE
from small_models import build

from mace_gaunt.errors import UserError
from mace_gaunt.model.checkpoint import save_model
from mace_gaunt.simulation.calculator import MaceGauntCalculator

torch_sim = pytest.importorskip("torch_sim", reason="torch-sim is not installed (extra torchsim)")
interface = pytest.importorskip("torch_sim.models.interface")
from mace_gaunt.interop import torchsim  # noqa: E402

CPU = torch.device("cpu")


def tiny(choice="gaunt", **changes):
    """A model of the elements of torch-sim's validation systems."""
    elements = {"atomic_numbers": [14, 26], "E0s": [-289.0, -1261.0]}
    return build(choice, **({"r_max": 3.5, "num_channels": 2, "max_ell": 2, "correlation": 2} | elements | changes))


@pytest.fixture(scope="module")
def model():
    return tiny()


def crystals() -> list[Atoms]:
    """Cells smaller and larger than the cutoff, skewed, with atoms outside of them; one and many atoms."""
    skewed = Atoms(
        "Si2Fe",
        scaled_positions=[[0, 0, 0], [1.4, 0.5, 0.5], [0.3, -0.2, 0.7]],
        cell=[[3.6, 0.2, 0], [1.0, 3.4, 0.1], [-0.5, 0.3, 3.9]],
        pbc=True,
    )
    found = [
        bulk("Si", "diamond", a=5.43),
        bulk("Fe", "bcc", a=2.87),
        bulk("Si", "diamond", a=5.43, cubic=True),
        skewed,
    ]
    for seed, atoms in enumerate(found):
        atoms.positions += np.random.default_rng(seed).normal(scale=0.08, size=atoms.positions.shape)
    return found


def results_of(model, state) -> dict[str, np.ndarray]:
    return {name: value.numpy() for name, value in model(state).items()}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_torch_sims_own_validation(model, dtype):
    interface.validate_model_outputs(torchsim.MaceGauntModel(model, CPU, dtype), CPU, dtype)


@pytest.mark.parametrize("choice", ["gaunt", "clebsch_gordan"])
def test_it_equals_our_calculator(choice):
    potential = tiny(choice)
    calculator = MaceGauntCalculator(potential, device="cpu")
    frames = crystals()
    found = results_of(torchsim.MaceGauntModel(potential, CPU), torch_sim.initialize_state(frames, CPU, torch.float64))
    expected = calculator.evaluate(frames, stress=True)
    assert {name: value.dtype for name, value in found.items()} == dict.fromkeys(found, np.dtype(np.float64))
    np.testing.assert_allclose(found["energy"], [result["energy"] for result in expected], atol=1e-10, rtol=0)
    for name, ours in (("energies", "energies"), ("forces", "forces")):
        joined = np.concatenate([result[ours] for result in expected])
        np.testing.assert_allclose(found[name], joined, atol=1e-10, rtol=0)
    voigt = found["stress"].reshape(-1, 9)[:, [0, 4, 8, 5, 2, 1]]
    np.testing.assert_allclose(voigt, [result["stress"] for result in expected], atol=1e-10, rtol=0)


def test_systems_without_a_cell(model):
    frames = [Atoms("Si2", positions=[[0, 0, 0], [2.2, 0, 0]]), Atoms("Fe")]
    state = torch_sim.initialize_state(frames, CPU, torch.float64)
    with pytest.raises(UserError, match="compute_stress=False"):
        torchsim.MaceGauntModel(model, CPU)(state)
    found = results_of(torchsim.MaceGauntModel(model, CPU, compute_stress=False), state)
    expected = MaceGauntCalculator(model, device="cpu").evaluate(frames)
    np.testing.assert_allclose(found["forces"], np.concatenate([one["forces"] for one in expected]), atol=1e-10)
    assert found["energy"][1] == pytest.approx(-1261.0) and "stress" not in found


def test_only_what_is_asked_for(model):
    state = torch_sim.initialize_state(crystals(), CPU, torch.float64)
    ours = torchsim.MaceGauntModel(model, CPU)
    everything = results_of(ours, state)
    for forces, stress in ((False, False), (True, False), (False, True)):
        ours.compute_forces, ours.compute_stress = forces, stress
        found = results_of(ours, state)
        assert ("forces" in found, "stress" in found) == (forces, stress)
        for name, value in found.items():
            np.testing.assert_allclose(value, everything[name], atol=1e-10)


def test_batches_may_change_between_calls(model):
    """As batching in flight does: systems come, go and change their places."""
    frames = crystals()
    ours = torchsim.MaceGauntModel(model, CPU)
    expected = MaceGauntCalculator(model, device="cpu").evaluate(frames)
    for chosen in ([0, 1, 2, 3], [3, 0], [1], [2, 1, 0]):
        found = results_of(ours, torch_sim.initialize_state([frames[i] for i in chosen], CPU, torch.float64))
        np.testing.assert_allclose(found["energy"], [expected[i]["energy"] for i in chosen], atol=1e-10, rtol=0)


def test_a_dictionary_will_do_and_stays_as_it_is(model):
    state = torch_sim.initialize_state(crystals(), CPU, torch.float64)
    fields = {name: getattr(state, name) for name in ("positions", "cell", "pbc", "atomic_numbers", "system_idx")}
    before = {name: value.clone() for name, value in fields.items() if name != "pbc"}
    ours = torchsim.MaceGauntModel(model, CPU)
    torch.testing.assert_close(ours(fields)["forces"], ours(state)["forces"], atol=1e-10, rtol=0)
    assert all(torch.equal(fields[name], value) for name, value in before.items())


def test_loading(model, tmp_path):
    save_model(model, tmp_path / "model")
    ours = torchsim.MaceGauntModel(tmp_path, "cpu", torch.float32, kernel="grid")
    assert (ours.dtype, ours.device, ours.r_max) == (torch.float32, CPU, 3.5)
    state = torch_sim.initialize_state(crystals(), CPU, torch.float32)
    found = ours(state)
    assert found["forces"].dtype == torch.float32 and found["energy"].dtype == torch.float64
    exact = torchsim.MaceGauntModel(model, CPU)(torch_sim.initialize_state(crystals(), CPU, torch.float64))
    torch.testing.assert_close(found["forces"].double(), exact["forces"], atol=1e-4, rtol=1e-4)
    with pytest.raises(UserError, match="unknown element C"):
        ours(torch_sim.initialize_state([bulk("C")], CPU, torch.float32))


def test_dynamics_of_many_equals_dynamics_of_one(model):
    """NVE of a batch, of each alone, to 1e-10; and energy is conserved."""
    frames = crystals()
    ours = torchsim.MaceGauntModel(model, CPU)

    def run(chosen):
        state = torch_sim.initialize_state(chosen, CPU, torch.float64)
        start, step = torch_sim.nve(model=ours, dt=torch.tensor(0.02), kT=torch.tensor(0.0, dtype=torch.float64))
        state = start(state, seed=0)
        generator = torch.Generator().manual_seed(0)
        kicks = torch.randn(12, 3, generator=generator, dtype=torch.float64)
        kick = torch.cat([kicks[: len(atoms)] for atoms in chosen])
        state.momenta = kick * state.masses.sqrt()[:, None] * 0.1
        totals = []
        for _ in range(40):
            state = step(state)
            kinetic = 0.5 * (state.momenta.square() / state.masses[:, None]).sum(1)
            totals.append(state.energy + torch.zeros(len(chosen)).double().index_add(0, state.system_idx, kinetic))
        return state, torch.stack(totals)

    together, totals = run(frames)
    assert float((totals - totals[0]).abs().max()) < 1e-3
    for index, atoms in enumerate(frames):
        alone, _ = run([atoms])
        torch.testing.assert_close(together[index].positions, alone.positions, atol=1e-10, rtol=0)
        torch.testing.assert_close(together[index].energy, alone.energy, atol=1e-10, rtol=0)
        assert float((alone.positions - torch.from_numpy(atoms.positions)).abs().max()) > 1e-2


def test_relaxation_of_cells_of_many_equals_that_of_one(model):
    ours = torchsim.MaceGauntModel(model, CPU)

    def run(chosen):
        start, step = torch_sim.frechet_cell_fire(model=ours)
        state = start(torch_sim.initialize_state(chosen, CPU, torch.float64))
        first = state.energy.clone()
        for _ in range(15):
            state = step(state)
        return state, first

    together, first = run(crystals())
    assert bool((together.energy < first).all())
    for index, atoms in enumerate(crystals()):
        alone, _ = run([atoms])
        torch.testing.assert_close(together[index].positions, alone.positions, atol=1e-10, rtol=0)
        torch.testing.assert_close(together[index].cell, alone.cell, atol=1e-10, rtol=0)
        assert float((alone.cell[0].mT - torch.from_numpy(atoms.cell.array)).abs().max()) > 1e-3


def test_relaxation_ends_where_ases_does(model):
    """Systems leave the batch as they converge."""
    frames = crystals()[:2]
    final = torch_sim.optimize(
        frames,
        torchsim.MaceGauntModel(model, CPU),
        optimizer=torch_sim.optimizers.fire,
        convergence_fn=torch_sim.generate_force_convergence_fn(force_tol=5e-3, include_cell_forces=False),
        max_steps=200,
    )
    calculator = MaceGauntCalculator(model, device="cpu")
    for start, atoms in zip(frames, final.to_atoms(), strict=True):
        atoms.calc = start.calc = calculator
        assert np.abs(atoms.get_forces()).max() < 5e-3
        FIRE(start, logfile=None).run(fmax=5e-3, steps=400)
        assert atoms.get_potential_energy() == pytest.approx(start.get_potential_energy(), abs=1e-4)


def test_without_torch_sim_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch_sim", None)
    monkeypatch.delitem(sys.modules, "mace_gaunt.interop.torchsim")
    with pytest.raises(ImportError, match=r"pip install 'mace-gaunt\[torchsim\]'"):
        importlib.import_module("mace_gaunt.interop.torchsim")


def test_it_leaves_other_calculators_alone(model):
    slab = fcc111("Fe", (1, 1, 2), a=3.6, vacuum=5.0)
    calculator = MaceGauntCalculator(model, device="cpu")
    before = calculator.get_property("forces", slab), torch.get_default_dtype(), torch.get_rng_state()
    torchsim.MaceGauntModel(model, CPU, torch.float32)(torch_sim.initialize_state(crystals(), CPU, torch.float32))
    calculator.reset()
    np.testing.assert_array_equal(calculator.get_property("forces", slab), before[0])
    assert torch.get_default_dtype() is before[1] and torch.equal(torch.get_rng_state(), before[2])
