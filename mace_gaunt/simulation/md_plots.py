"""Plots of a simulation, drawn from md.csv without pyplot, so that nothing global changes."""

import csv
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

# Okabe and Ito's palette, which colour-blind readers can tell apart.
BLUE, ORANGE, GREEN, BLACK = "#0072B2", "#E69F00", "#009E73", "#000000"


def plot_simulation(table: Path, out: Path, target_K: float | None, n_atoms: int) -> Path:
    """Energies, temperature, and closest distance against time.

    Args:
        table: A simulation's md.csv.
        out: The PNG file.
        target_K: Temperature of the bath (K), drawn as a line; None without.
        n_atoms: Number of atoms, for energies per atom.

    Returns:
        The PNG file.
    """
    columns = read_columns(table)
    figure = Figure(figsize=(8.0, 8.0))
    figure.subplots_adjust(left=0.13, right=0.97, top=0.98, bottom=0.07, hspace=0.12)
    energy, conserved, heat, distance = figure.subplots(4, 1, sharex=True)
    time = columns["time_ps"]
    scale = 1000.0 / n_atoms
    _lines(
        energy,
        time,
        columns,
        {"potential_energy_eV": ("potential", BLUE), "kinetic_energy_eV": ("kinetic", ORANGE)},
        scale,
    )
    _lines(
        conserved,
        time,
        columns,
        {"total_energy_eV": ("total", BLACK), "conserved_energy_eV": ("conserved", GREEN)},
        scale,
    )
    energy.set_ylabel("energies − start\n(meV/atom)")
    conserved.set_ylabel("conserved − start\n(meV/atom)")
    heat.plot(time, columns["temperature_K"], color=BLUE, linewidth=0.8)
    if target_K is not None:
        heat.axhline(target_K, color=ORANGE, linestyle="--", label=f"target {target_K:g} K")
        heat.legend(loc="best", fontsize=9)
    heat.set_ylabel("temperature\n(K)")
    distance.plot(time, columns["closest_distance_A"], color=BLUE, linewidth=0.8)
    distance.set(ylabel="closest distance\n(Å)", xlabel="time (ps)")
    for axes in (energy, conserved, heat, distance):
        axes.grid(alpha=0.3)
    FigureCanvasAgg(figure).print_png(out)
    return out


def read_columns(table: Path) -> dict[str, np.ndarray]:
    """The columns of a csv file as numbers; empty fields become NaN.

    Args:
        table: The file.

    Returns:
        Column -> shape [n_rows].
    """
    with table.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    names = rows[0].keys() if rows else []
    return {name: np.array([float(row[name] or "nan") for row in rows]) for name in names}


def _lines(
    axes: Axes, time: np.ndarray, columns: dict[str, np.ndarray], wanted: dict[str, tuple[str, str]], scale: float
) -> None:
    """Energies less their first value."""
    for name, (label, colour) in wanted.items():
        if name in columns:
            axes.plot(time, scale * (columns[name] - columns[name][0]), label=label, color=colour, linewidth=0.8)
    axes.legend(loc="best", fontsize=9)
