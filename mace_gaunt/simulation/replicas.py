"""Replicas of a simulation: their folders and their table."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mace_gaunt.files import write_csv

SUMMARY = "replicas.csv"
COLUMNS = (
    "replica",
    "seed",
    "finished",
    "steps",
    "drift_meV_per_atom_per_ps",
    "temperature_mean_K",
    "temperature_error_K",
    "closest_distance_A",
    "largest_force_eV_A",
    "ns_per_day",
)


def replica_folder(folder: Path, number: int) -> Path:
    """The folder of a replica.

    Args:
        folder: The folder of all.
        number: Its number, from 0.
    """
    return folder / f"replica_{number}"


def write_summary(folder: Path, healths: Sequence[dict[str, Any]]) -> Path:
    """Write replicas.csv.

    Args:
        folder: The folder of all replicas.
        healths: The health of each so far.

    Returns:
        The file.
    """
    rows = [{"replica": number, **health} for number, health in enumerate(healths)]
    return write_csv(folder / SUMMARY, rows, COLUMNS, floats="")


def summary_lines(healths: Sequence[dict[str, Any]]) -> list[str]:
    """A table for the terminal.

    Args:
        healths: The health of each replica.
    """
    lines = ["replica  seed  finished   steps   temperature (K)   drift (meV/atom/ps)  closest (Å)"]
    for number, health in enumerate(healths):
        temperature = f"{health['temperature_mean_K']:.1f} ± {_number(health['temperature_error_K'], '.1f')}"
        drift = _number(health["drift_meV_per_atom_per_ps"], ".3g")
        finished, closest = str(health["finished"]).lower(), _number(health["closest_distance_A"], ".3f")
        done = f"{number:7d} {health['seed']:5d} {finished:>9} {health['steps']:7d}"
        lines.append(f"{done} {temperature:>17} {drift:>22} {closest:>12}")
    return lines


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)
