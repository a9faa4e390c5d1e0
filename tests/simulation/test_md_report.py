"""What a simulation says about itself: health, extrapolation, plots, formats, committees, replicas, last frames."""

import csv
import json
import sys

import ase.io
import numpy as np
import pytest
from ase import Atoms, units

from mace_gaunt.data.coverage import Coverage
from mace_gaunt.data.neighbors import neighbor_pairs
from mace_gaunt.errors import UserError
from mace_gaunt.simulation.calculator import MaceGauntCalculator
from mace_gaunt.simulation.health import SimulationError
from mace_gaunt.simulation.md_plots import plot_simulation
from mace_gaunt.simulation.molecular_dynamics import run_md, run_replicas


@pytest.fixture(autouse=True)
def _quick(no_plots):
    """Without plots but where they are tested."""


def run(calculator, atoms, out, **settings):
    return run_md(calculator, atoms, out, progress=False, **{"timestep_fs": 1.0, "steps": 20, "interval": 5} | settings)


def column(folder, name):
    with (folder / "md.csv").open() as file:
        return [float(row[name]) for row in csv.DictReader(file)]


def covered(frames, r_max):
    coverage = Coverage()
    for atoms in frames:
        pairs = neighbor_pairs(atoms.positions, atoms.cell.array, atoms.pbc, r_max)
        coverage.add(atoms.numbers, atoms.positions, atoms.cell.array, atoms.pbc, *pairs)
    return coverage


@pytest.fixture
def committee(toy):
    """Two models that disagree a little."""
    other = type(toy)()
    other.depth.data.fill_(1.52)
    return MaceGauntCalculator([toy, other], device="cpu")


def test_the_report_holds_what_was_seen(calculator, molecule, tmp_path):
    health = run(calculator, molecule, tmp_path, ensemble="bussi")
    frames = ase.io.read(tmp_path / "trajectory.extxyz", ":")
    seen = covered(frames, calculator.model.r_max).to_json()["smallest_distance_A"]
    assert health["smallest_distance_A"] == pytest.approx(seen, abs=1e-6)
    assert min(seen.values()) >= health["closest_distance_A"] - 1e-6
    largest = max(np.linalg.norm(frame.get_forces(), axis=1).max() for frame in frames)
    assert health["largest_force_eV_A"] >= largest - 1e-5
    assert health["temperature_error_K"] > 0 and health["steps_per_second"] > 0
    text = (tmp_path / "health.txt").read_text()
    for words in ("20 steps (0.02 ps) of bussi", "target 300 K", "conserved quantity", "H-C", "largest force"):
        assert words in text


def test_no_training_set_is_told(calculator, molecule, tmp_path):
    health = run(calculator, molecule, tmp_path)
    assert health["extrapolation"] == [] and "no training_set entry" in health["extrapolation_unknown"]
    assert "unknown" in (tmp_path / "health.txt").read_text()


def test_what_training_covers_is_no_warning(calculator, molecule, tmp_path):
    run(calculator, molecule, tmp_path / "first")
    frames = ase.io.read(tmp_path / "first" / "trajectory.extxyz", ":")
    calculator.model.metadata["training_set"] = covered(frames, calculator.model.r_max).to_json()
    health = run(calculator, molecule, tmp_path / "second")
    assert health["extrapolation"] == [] and health["extrapolation_unknown"] is None
    assert "covers all" in (tmp_path / "second" / "health.txt").read_text()


def test_what_training_does_not_cover_is_named(calculator, molecule, tmp_path):
    known = covered([molecule], calculator.model.r_max).to_json()
    known["smallest_distance_A"]["C-O"] += 0.2
    known["neighbors"]["O"] = [0, 1]
    del known["smallest_distance_A"]["H-H"]
    calculator.model.metadata["training_set"] = known
    health = run(calculator, molecule, tmp_path, temperature_K=1.0)
    found = "\n".join(health["extrapolation"])
    assert "C-O came to 1." in found and "in training), in 5 of 5 frames" in found
    assert "H-H came to" in found and "no neighbours within 3 Å there" in found
    assert "O had 5 to 5 neighbours within 3 Å (0 to 1 in training)" in found
    assert "WARNING" in (tmp_path / "health.txt").read_text()


def test_densities_outside_the_training_set(calculator, crystal, molecule, tmp_path):
    larger = crystal.copy()
    larger.set_cell(crystal.cell * 1.1, scale_atoms=True)
    settings = {"temperature_K": 1.0, "timestep_fs": 0.1, "steps": 5}
    for known, words in (([crystal], None), ([larger], "the density was 0.1"), ([molecule], "no periodic cell")):
        calculator.model.metadata["training_set"] = covered(known, 3.0).to_json()
        health = run(calculator, crystal, tmp_path, overwrite=True, **settings)
        found = [line for line in health["extrapolation"] if "density" in line]
        assert (found == []) if words is None else (words in found[0])


def test_the_plot_shows_units(calculator, molecule, tmp_path, monkeypatch):
    run(calculator, molecule, tmp_path, ensemble="bussi")
    drawn = {}
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    paint = FigureCanvasAgg.print_png
    monkeypatch.setattr(
        FigureCanvasAgg, "print_png", lambda canvas, out: (drawn.update(figure=canvas.figure), paint(canvas, out))
    )
    path = plot_simulation(tmp_path / "md.csv", tmp_path / "new.png", 300.0, len(molecule))
    assert path.read_bytes().startswith(b"\x89PNG")
    labels = " ".join(axes.get_ylabel() for axes in drawn["figure"].axes)
    assert all(unit in labels for unit in ("meV/atom", "(K)", "(Å)"))
    assert drawn["figure"].axes[-1].get_xlabel() == "time (ps)"
    lines = drawn["figure"].axes[2].get_lines()
    assert lines[0].get_xdata()[-1] == 0.02 and lines[1].get_ydata()[0] == 300.0


def test_the_last_good_frame_of_a_run_that_blew_up(calculator, molecule, tmp_path):
    with pytest.raises(SimulationError, match=r"last_good\.extxyz is the last good frame, of step \d+") as caught:
        run(calculator, molecule, tmp_path, timestep_fs=12.0, steps=500, temperature_K=600)
    good = ase.io.read(tmp_path / "last_good.extxyz")
    bad = ase.io.read(tmp_path / "trajectory.extxyz")
    assert good.info["step"] == bad.info["step"] - 1 == caught.value.health["steps"] - 1
    again = good.copy()
    again.calc = calculator
    np.testing.assert_allclose(good.get_forces(), again.get_forces(), atol=1e-5)
    assert np.isfinite(good.get_momenta()).all() and "STOPPED" in (tmp_path / "health.txt").read_text()
    assert (tmp_path / "checkpoint.npz").is_file()
    run(calculator, molecule, tmp_path, overwrite=True)
    assert not (tmp_path / "last_good.extxyz").exists()


@pytest.mark.parametrize("trajectory", ["traj", "h5"])
def test_binary_trajectories_hold_all_digits(trajectory, calculator, crystal, tmp_path):
    if trajectory == "h5":
        pytest.importorskip("h5py")
    settings = {"temperature_K": 20.0, "timestep_fs": 0.25}
    run(calculator, crystal, tmp_path / "text", **settings)
    run(calculator, crystal, tmp_path / "binary", trajectory=trajectory, **settings)
    expected = ase.io.read(tmp_path / "text" / "trajectory.extxyz", ":")
    path = tmp_path / "binary" / f"trajectory.{trajectory}"
    frames = ase.io.read(path, ":") if trajectory == "traj" else read_h5md(path)
    assert len(frames) == len(expected) == 5
    for frame, text in zip(frames, expected, strict=True):
        assert frame.info["step"] == text.info["step"]
        np.testing.assert_allclose(frame.positions, text.positions, atol=1e-7)
        np.testing.assert_allclose(frame.cell.array, text.cell.array, atol=1e-7)
        np.testing.assert_allclose(frame.get_velocities(), text.get_velocities(), atol=1e-7)
        np.testing.assert_allclose(frame.get_forces(), text.get_forces(), atol=1e-7)
        assert frame.get_potential_energy() == pytest.approx(text.get_potential_energy(), abs=1e-6)
    again = frames[-1].copy()
    again.calc = calculator
    assert again.get_potential_energy() == pytest.approx(frames[-1].get_potential_energy(), abs=1e-10)


def read_h5md(path):
    """Frames of a file after H5MD."""
    import h5py
    from ase.calculators.singlepoint import SinglePointCalculator

    with h5py.File(path) as file:
        assert list(file["h5md"].attrs["version"]) == [1, 1]
        part = file["particles/all"]
        assert (
            list(part["box"].attrs["boundary"]) == ["periodic"] * 3
            and part["position/value"].attrs["unit"] == "Angstrom"
        )
        frames = []
        for index, step in enumerate(part["position/step"]):
            atoms = Atoms(
                part["species"][:], part["position/value"][index], cell=part["box/edges/value"][index], pbc=True
            )
            atoms.set_masses(part["mass"][:])
            atoms.set_velocities(part["velocity/value"][index] / (1000 * units.fs))
            energy, forces = file["observables/potential_energy/value"][index], part["force/value"][index]
            atoms.info["step"] = step
            atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=forces)
            frames.append(atoms)
        return frames


def test_without_h5py(calculator, molecule, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(UserError, match=r"pip install 'mace-gaunt\[hdf5\]'"):
        run(calculator, molecule, tmp_path / "out", trajectory="h5")
    assert not (tmp_path / "out").exists()


def test_a_committee_reports_its_spread(committee, molecule, tmp_path):
    health = run(committee, molecule, tmp_path, max_force_std=10.0)
    with (tmp_path / "md.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert all(float(row["max_force_std_eV_A"]) > 0 and float(row["energy_std_eV"]) > 0 for row in rows)
    assert health["largest_force_std_eV_A"] >= max(float(row["max_force_std_eV_A"]) for row in rows)


def test_a_committee_that_disagrees_stops(committee, molecule, tmp_path):
    settings = {"steps": 100, "interval": 1}
    run(committee, molecule, tmp_path / "free", **settings)
    spreads = column(tmp_path / "free", "max_force_std_eV_A")
    limit = 0.7 * max(spreads)
    first = next(step for step, spread in enumerate(spreads) if spread > limit)
    with pytest.raises(
        SimulationError, match=rf"at step {first} of 100: the committee's forces differ by \d\.\d+ eV/Å"
    ):
        run(committee, molecule, tmp_path / "held", max_force_std=limit, **settings)
    assert column(tmp_path / "held", "max_force_std_eV_A") == spreads[: first + 1]
    steps = [ase.io.read(tmp_path / "held" / name).info["step"] for name in ("trajectory.extxyz", "last_good.extxyz")]
    assert steps == [first, first - 1]


def test_replicas_are_runs_of_their_seeds(calculator, molecule, tmp_path):
    settings = {"timestep_fs": 1.0, "steps": 20, "interval": 5, "seed": 7, "ensemble": "langevin"}
    healths = run_replicas(calculator, molecule, tmp_path / "all", 3, progress=False, **settings)
    assert [health["seed"] for health in healths] == [7, 8, 9]
    with (tmp_path / "all" / "replicas.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["seed"] for row in rows] == ["7", "8", "9"] and rows[0]["finished"] == "True"
    for number in range(3):
        run(calculator, molecule, tmp_path / str(number), **settings | {"seed": 7 + number})
        table = (tmp_path / "all" / f"replica_{number}" / "md.csv").read_bytes()
        assert table == (tmp_path / str(number) / "md.csv").read_bytes()
    with pytest.raises(UserError, match=r"already holds replicas\.csv"):
        run_replicas(calculator, molecule, tmp_path / "all", 2, progress=False, **settings)
    more = run_replicas(calculator, molecule, tmp_path / "all", 4, progress=False, resume="auto", **settings)
    assert [health["continued_from_step"] for health in more] == [20, 20, 20, None]


def test_a_replica_that_blows_up_does_not_stop_the_others(calculator, molecule, tmp_path):
    settings = {"ensemble": "langevin", "friction_per_fs": 0.2, "timestep_fs": 1.0, "steps": 40, "interval": 1}
    run_replicas(calculator, molecule, tmp_path / "free", 3, progress=False, **settings)
    hottest = [max(column(tmp_path / "free" / f"replica_{number}", "temperature_K")) for number in range(3)]
    limit = sum(sorted(hottest)[1:]) / 2  # above two of three
    with pytest.raises(SimulationError, match=r"1 of 3 replicas were stopped \(replica \d: the temperature") as caught:
        run_replicas(calculator, molecule, tmp_path / "held", 3, progress=False, max_temperature_K=limit, **settings)
    finished = [health["finished"] for health in caught.value.health["replicas"]]
    assert finished == [heat < limit for heat in hottest]
    files = [tmp_path / "held" / f"replica_{number}" / "health.json" for number in range(3)]
    assert [json.loads(path.read_text())["finished"] for path in files] == finished
