"""Plots of phonons: bands beside the density of states, thermal properties. Drawn without pyplot."""

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from mace_gaunt.simulation.md_plots import BLACK, BLUE, GREEN, ORANGE


def plot_bands(bands: Any, segments: list[tuple[str, str]], dos: Any, out: Path) -> Path:
    """Bands along their path, and the density of states beside them; imaginary frequencies are below zero.

    Args:
        bands: phonopy's BandStructure: distances and frequencies (THz) per segment.
        segments: Names of the ends of each segment.
        dos: phonopy's TotalDos: frequency_points (THz) and dos.
        out: The PNG file.

    Returns:
        The file.
    """
    figure = Figure(figsize=(9.0, 5.0))
    figure.subplots_adjust(left=0.08, right=0.98, top=0.97, bottom=0.14, wspace=0.08)
    axes, side = figure.subplots(1, 2, sharey=True, width_ratios=(4, 1))
    ticks: dict[float, list[str]] = {}
    for distances, frequencies, ends in zip(bands.distances, bands.frequencies, segments, strict=True):
        axes.plot(distances, frequencies, color=BLUE, linewidth=1.0)
        for place, name in ((float(distances[0]), ends[0]), (float(distances[-1]), ends[1])):
            names = ticks.setdefault(round(place, 8), [])
            names += [] if name in names else [name]
    for place in ticks:
        axes.axvline(place, color=BLACK, linewidth=0.5)
    axes.set_xticks(list(ticks), ["|".join(_label(name) for name in names) for names in ticks.values()])
    axes.set(ylabel="frequency (THz)", xlabel="wave vector", xlim=(min(ticks), max(ticks)))
    side.fill_betweenx(dos.frequency_points, dos.dos, color=BLUE, alpha=0.5)
    side.set(xlabel="density of states\n(1/THz)", xlim=(0, None))
    side.locator_params(axis="x", nbins=3)
    for panel in (axes, side):
        panel.axhline(0.0, color=ORANGE, linewidth=0.8, linestyle="--")
    FigureCanvasAgg(figure).print_png(out)
    return out


def plot_thermal(columns: dict[str, np.ndarray], out: Path) -> Path:
    """Free energy, entropy and heat capacity against temperature, per mole of primitive cells.

    Args:
        columns: temperature_K, free_energy_kJ_mol, entropy_J_K_mol, heat_capacity_J_K_mol.
        out: The PNG file.

    Returns:
        The file.
    """
    figure = Figure(figsize=(8.0, 4.0))
    figure.subplots_adjust(left=0.1, right=0.98, top=0.96, bottom=0.13, wspace=0.3)
    left, right = figure.subplots(1, 2)
    temperature = columns["temperature_K"]
    left.plot(temperature, columns["free_energy_kJ_mol"], color=BLUE)
    left.set(xlabel="temperature (K)", ylabel="free energy (kJ/mol)")
    right.plot(temperature, columns["entropy_J_K_mol"], color=GREEN, label="entropy")
    right.plot(temperature, columns["heat_capacity_J_K_mol"], color=ORANGE, label="heat capacity", linestyle="--")
    right.set(xlabel="temperature (K)", ylabel="J/K/mol")
    right.legend()
    for axes in (left, right):
        axes.grid(alpha=0.3)
    FigureCanvasAgg(figure).print_png(out)
    return out


def _label(name: str) -> str:
    return "Γ" if name == "G" else name
