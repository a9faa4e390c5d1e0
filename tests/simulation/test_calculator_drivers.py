"""The calculator under what drives it in ASE: optimisers, integrators, bands, sockets."""

import os
import threading
from functools import partial

import ase.md.nose_hoover_chain as chain
import numpy as np
import pytest
from ase import Atoms, units
from ase.calculators.socketio import SocketClient, SocketIOCalculator
from ase.constraints import FixAtoms
from ase.filters import FrechetCellFilter, UnitCellFilter
from ase.md.andersen import Andersen
from ase.md.bussi import Bussi
from ase.md.langevin import Langevin
from ase.md.nptberendsen import NPTBerendsen
from ase.md.nvtberendsen import NVTBerendsen
from ase.md.verlet import VelocityVerlet
from ase.mep import NEB
from ase.optimize import (
    BFGS,
    FIRE,
    FIRE2,
    LBFGS,
    BFGSLineSearch,
    CellAwareBFGS,
    GPMin,
    LBFGSLineSearch,
    MDMin,
    ODE12r,
)
from ase.optimize.sciopt import SciPyFminBFGS, SciPyFminCG

from mace_gaunt.simulation.calculator import MaceGauntCalculator


@pytest.fixture
def shaken(molecule) -> Atoms:
    molecule.positions += np.random.default_rng(1).normal(scale=0.05, size=(len(molecule), 3))
    return molecule


OPTIMIZERS = {
    one.__name__: one
    for one in (BFGS, LBFGS, BFGSLineSearch, LBFGSLineSearch, FIRE, FIRE2, GPMin, ODE12r, SciPyFminBFGS, SciPyFminCG)
}
OPTIMIZERS["MDMin"] = partial(MDMin, dt=0.03)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizers(name, calculator, shaken, relaxed):
    shaken.calc = calculator
    OPTIMIZERS[name](shaken, logfile=None).run(fmax=5e-3, steps=400)
    assert np.linalg.norm(shaken.get_forces(), axis=1).max() < 5e-3
    lowest = MaceGauntCalculator(calculator.model, device="cpu").get_property("energy", relaxed)
    assert shaken.get_potential_energy() == pytest.approx(lowest, abs=1e-4)


def test_cell_filters(calculator, crystal):
    one, other = crystal.copy(), crystal.copy()
    one.calc = other.calc = calculator
    CellAwareBFGS(FrechetCellFilter(one, exp_cell_factor=1.0), logfile=None).run(fmax=1e-3, smax=1e-5, steps=300)
    LBFGS(UnitCellFilter(other), logfile=None).run(fmax=1e-3, steps=300)
    for atoms in (one, other):
        assert np.abs(atoms.get_stress()).max() < 1e-3 and np.abs(atoms.get_forces()).max() < 1e-3


STEP = 0.25 * units.fs
FINITE = {
    "VelocityVerlet": VelocityVerlet,
    "Langevin": partial(
        Langevin, temperature_K=300, friction=0.01 / units.fs, fixcm=False, rng=np.random.default_rng(0)
    ),
    "Andersen": partial(Andersen, temperature_K=300, andersen_prob=0.1, fixcm=False, rng=np.random.default_rng(0)),
    "NVTBerendsen": partial(NVTBerendsen, temperature_K=300, taut=50 * units.fs),
    "Bussi": partial(Bussi, temperature_K=300, taut=50 * units.fs, rng=np.random.default_rng(0)),
    "NoseHooverChainNVT": partial(chain.NoseHooverChainNVT, temperature_K=300, tdamp=25 * units.fs),
}
PERIODIC = {
    "NPTBerendsen": partial(
        NPTBerendsen,
        temperature_K=300,
        pressure_au=1.01325 * units.bar,
        taut=50 * units.fs,
        taup=500 * units.fs,
        compressibility_au=4.6e-5 / units.bar,
    ),
    "IsotropicMTKNPT": partial(
        chain.IsotropicMTKNPT, temperature_K=300, pressure_au=0.0, tdamp=25 * units.fs, pdamp=250 * units.fs
    ),
    "MTKNPT": partial(chain.MTKNPT, temperature_K=300, pressure_au=0.0, tdamp=25 * units.fs, pdamp=250 * units.fs),
}


@pytest.mark.parametrize("name", FINITE)
def test_integrators(name, calculator, shaken):
    rng = np.random.default_rng(2)
    shaken.set_momenta(rng.normal(scale=0.3, size=(len(shaken), 3)))
    shaken.calc = calculator
    total = shaken.get_total_energy()
    FINITE[name](shaken, STEP).run(40)
    assert np.isfinite(shaken.positions).all() and calculator.check_state(shaken) == []
    if name == "VelocityVerlet":
        assert shaken.get_total_energy() == pytest.approx(total, abs=2e-3)
    fresh = MaceGauntCalculator(calculator.model, device="cpu").get_property("forces", shaken)
    np.testing.assert_allclose(shaken.get_forces(), fresh, atol=1e-10)


@pytest.mark.parametrize("name", PERIODIC)
def test_integrators_of_cells(name, calculator, crystal, monkeypatch):
    atoms = crystal.repeat((2, 1, 1))
    atoms.set_momenta(np.random.default_rng(2).normal(scale=0.5, size=(4, 3)))
    atoms.calc = calculator
    runs, forward = [], type(calculator.model).forward
    monkeypatch.setattr(
        type(calculator.model),
        "forward",
        lambda self, *args, **kwargs: runs.append(1) or forward(self, *args, **kwargs),
    )
    cell = atoms.cell.array.copy()
    PERIODIC[name](atoms, STEP).run(20)
    assert np.abs(atoms.cell.array - cell).max() > 1e-6
    if name != "NPTBerendsen":  # which scales the cell between asking for stress and for forces
        assert len(runs) <= 22, "forces and stress of a step come from one run of the model"
    fresh = MaceGauntCalculator(calculator.model, device="cpu").get_property("stress", atoms)
    np.testing.assert_allclose(atoms.get_stress(), fresh, atol=1e-10)


@pytest.fixture
def images(calculator) -> list[Atoms]:
    """A proton that hops between two oxygen atoms, which are held."""
    ends = []
    for place in (1.0, 2.2):
        atoms = Atoms("OHO", positions=[[0, 0, 0], [place, 0.2, 0], [3.2, 0, 0]], constraint=FixAtoms([0, 2]))
        atoms.calc = calculator
        BFGS(atoms, logfile=None).run(fmax=1e-3, steps=200)
        ends.append(atoms)
    return [ends[0].copy(), *(ends[0].copy() for _ in range(3)), ends[1].copy()]


def band(images: list[Atoms], **settings) -> np.ndarray:
    """Energies of the images of a relaxed band."""
    neb = NEB(images, climb=True, k=0.5, method="improvedtangent", **settings)
    neb.interpolate()
    BFGS(neb, logfile=None).run(fmax=0.02, steps=100)
    assert neb.get_residual() < 0.02
    return np.array([image.get_potential_energy() for image in images])


def test_neb_with_one_calculator_equals_one_per_image_and_threads(calculator, images):
    copies = [[image.copy() for image in images] for _ in range(2)]
    for image in images:
        image.calc = calculator
    shared = band(images, allow_shared_calculator=True)
    assert shared[0] == pytest.approx(shared[-1], abs=1e-4) and shared.argmax() == 2 and np.ptp(shared) > 0.1
    for others, settings in zip(copies, ({}, {"parallel": True}), strict=True):
        for image in others:
            image.calc = MaceGauntCalculator(calculator.model, device="cpu")
        np.testing.assert_allclose(band(others, **settings), shared, atol=1e-8)


def serve(atoms: Atoms, name: str, use_stress: bool) -> threading.Thread:
    """ASE's i-PI client with this structure's calculator, connecting as soon as there is a server."""

    def run():
        for _ in range(200):
            try:
                client = SocketClient(unixsocket=name, timeout=30)
            except OSError:
                pause.wait(0.02)
            else:
                client.run(atoms, use_stress=use_stress)
                return

    pause = threading.Event()
    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread


@pytest.mark.parametrize("periodic", [False, True])
def test_through_a_socket(calculator, shaken, crystal, periodic):
    """The client is what i-PI talks to; ASE's server plays i-PI."""
    structure = crystal if periodic else shaken
    direct, served, driven = structure.copy(), structure.copy(), structure.copy()
    direct.calc = calculator
    served.calc = MaceGauntCalculator(calculator.model, device="cpu")
    name = f"mace_gaunt_{os.getpid()}_{periodic}"  # ASE puts it into /tmp
    thread = serve(served, name, use_stress=periodic)
    with SocketIOCalculator(unixsocket=name, timeout=30) as driven.calc:
        for scale in (1.0, 1.01, 0.99):
            for atoms in (direct, driven):
                atoms.set_cell(structure.cell * scale)
                atoms.positions = structure.positions * scale
            assert driven.get_potential_energy() == pytest.approx(direct.get_potential_energy(), abs=1e-8)
            np.testing.assert_allclose(driven.get_forces(), direct.get_forces(), atol=1e-8)
            if periodic:
                np.testing.assert_allclose(driven.get_stress(), direct.get_stress(), atol=1e-8)
        if not periodic:
            BFGS(driven, logfile=None).run(fmax=1e-2, steps=100)
            assert np.abs(driven.get_forces()).max() < 1e-2
    thread.join(timeout=30)
    assert not thread.is_alive()


def test_ase_drives_it_behind_the_socket_calculator(calculator, shaken):
    """SocketIOCalculator with this calculator as the client it launches, over a thread."""
    expected = calculator.get_property("forces", shaken)
    client = MaceGauntCalculator(calculator.model, device="cpu")

    def launch(atoms, properties=None, port=None, unixsocket=None):
        served = atoms.copy()
        served.calc = client
        serve(served, unixsocket, use_stress=False)

    with SocketIOCalculator(
        launch_client=launch, unixsocket=f"mace_gaunt_{os.getpid()}_behind", timeout=30
    ) as shaken.calc:
        np.testing.assert_allclose(shaken.get_forces(), expected, atol=1e-8)
