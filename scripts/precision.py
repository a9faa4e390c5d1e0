"""float32 against float64: energies, forces and the drift of NVE along a trajectory, and what they cost.

    python scripts/precision.py model=runs/mine structure=molecule.xyz out=docs/results/precision.csv [steps=100000] \
        [timestep_fs=0.5]

Runs `mace-gaunt md ensemble=nve` in both precisions from the same start, computes every frame of the trajectory of
float64 in both, and times energies with forces in turns. Rows: precision, drift of the total energy (least squares over
all steps) and its spread about that line, largest and RMS differences from float64, median time.
"""

import csv
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
from ase import Atoms

from mace_gaunt.simulation.calculator import MaceGauntCalculator

PRECISIONS = ("float64", "float32")
ROUNDS = 30


def main(words: list[str]) -> None:
    """Run, compare, time and write the table.

    Args:
        words: model=, structure=, out=, steps=, timestep_fs=.
    """
    given = {"steps": "100000", "timestep_fs": "0.5"} | dict(word.split("=", 1) for word in words)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        drifts = {precision: simulate(given, precision, folder / precision) for precision in PRECISIONS}
        frames = list(ase.io.iread(folder / "float64" / "trajectory.extxyz", ":"))
    models = {precision: MaceGauntCalculator(given["model"], dtype=precision) for precision in PRECISIONS}
    values = {precision: computed(model, frames) for precision, model in models.items()}
    times = timed_in_turns(models, frames[0])
    rows: list[dict[str, Any]] = []
    for precision in PRECISIONS:
        energies, forces = (abs(one - other) for one, other in zip(values[precision], values["float64"], strict=True))
        rows.append(
            {
                "dtype": precision,
                "picoseconds": float(given["steps"]) * float(given["timestep_fs"]) / 1e3,
                **drifts[precision],
                "frames": len(frames),
                "energy_max_meV_per_atom": f"{1e3 * energies.max() / len(frames[0]):.2g}",
                "forces_rms_meV_A": f"{1e3 * np.sqrt((forces**2).mean()):.2g}",
                "forces_max_meV_A": f"{1e3 * forces.max():.2g}",
                "energy_and_forces_ms": f"{times[precision]:.3g}",
            }
        )
    with Path(given["out"]).open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    print(json.dumps(rows, indent=1))


def simulate(given: dict[str, str], precision: str, out: Path) -> dict[str, str]:
    """NVE from 300 K; what its health report and its table say of the total energy.

    Args:
        given: The script's keys.
        precision: float32 or float64.
        out: The folder of the run.

    Returns:
        drift_meV_per_atom_ps and spread_meV_per_atom.
    """
    words = ["md", *(f"{key}={given[key]}" for key in ("model", "structure", "steps", "timestep_fs"))]
    words += ["ensemble=nve", "interval=100", "compile=on", "device=cpu", f"dtype={precision}", f"out={out}"]
    subprocess.run([sys.executable, "-m", "mace_gaunt.cli.main", *words], check=True, stdout=subprocess.DEVNULL)
    with (out / "md.csv").open() as file:
        rows = list(csv.DictReader(file))
    time_ps, energy = (np.array([float(row[key]) for row in rows]) for key in ("time_ps", "total_energy_eV"))
    line = np.polynomial.Polynomial.fit(time_ps, energy, 1)
    n_atoms = len(next(ase.io.iread(out / "trajectory.extxyz")))
    slope, spread = (1e3 * value / n_atoms for value in (line.convert().coef[1], (energy - line(time_ps)).std()))
    return {"drift_meV_per_atom_ps": f"{slope:.2g}", "spread_meV_per_atom": f"{spread:.2g}"}


def computed(model: MaceGauntCalculator, frames: list[Atoms]) -> tuple[np.ndarray, np.ndarray]:
    """Energies, [n_frames] (eV), and forces, [n_frames, n_atoms, 3] (eV/Å)."""
    energies, forces = [], []
    for frame in frames:
        model.calculate(frame)
        energies.append(model.results["energy"])
        forces.append(model.results["forces"])
    return np.array(energies), np.array(forces)


def timed_in_turns(models: dict[str, MaceGauntCalculator], atoms: Atoms) -> dict[str, float]:
    """Median milliseconds of energies and forces of each precision."""
    times: dict[str, list[float]] = {precision: [] for precision in models}
    for _ in range(ROUNDS):
        for precision, model in models.items():
            begin = time.perf_counter()
            model.calculate(atoms)
            times[precision].append(1e3 * (time.perf_counter() - begin))
    return {precision: statistics.median(values) for precision, values in times.items()}


if __name__ == "__main__":
    main(sys.argv[1:])
